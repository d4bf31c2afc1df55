/** Claims of an ID-JAG: one that is valid, and one change per row. */
import { test } from 'tap'
import { checkIdJag, checkVouched, subjectKey } from '../../src/domain/id-jag.js'
import type { Issuer } from '../../src/domain/issuer.js'

const NOW = new Date('2026-03-01T12:00:00Z')
const now = NOW.getTime() / 1000
const SETTINGS = {
  issuer: 'https://as.test',
  resource: 'https://api.test/',
  scopes: ['read', 'write'],
  skewSeconds: 60,
}
const P: Issuer = {
  issuer: 'https://idp.test',
  name: 'Provider',
  jwks_uri: 'https://idp.test/jwks.json',
  client_ids: ['agent-1'],
  algorithms: ['ES256'],
  email_domains: [],
  audiences: [],
  required_amr: [],
  multi_tenant: false,
}
const HEADER = { typ: 'oauth-id-jag+jwt', alg: 'ES256', kid: 'p1' }
const CLAIMS = {
  iss: P.issuer,
  sub: 'alice',
  aud: SETTINGS.issuer,
  client_id: P.issuer,
  jti: 'j1',
  iat: now,
  exp: now + 300,
  auth_time: now,
  email: 'alice@example.com',
  email_verified: true,
}
const IDENTITY = { subject: 'alice', audience: SETTINGS.issuer, jti: 'j1', exp: now + 300 }

type Members = Record<string, unknown>

/** As they come out of JSON. `undefined` takes a claim out. */
const claimsWith = (changes: Members): Members =>
  Object.fromEntries(
    Object.entries({ ...CLAIMS, ...changes }).filter(([, value]) => value !== undefined),
  )

function check(changes: Members, header: Members = HEADER, entry: Partial<Issuer> = {}) {
  const checked = checkIdJag(
    { header, payload: claimsWith(changes), signature: undefined },
    { ...P, ...entry },
    SETTINGS,
    NOW,
  )
  return checked.ok ? checked.idJag : checked.reason
}

const OK = 'ok'
const told = (result: ReturnType<typeof check>) => (typeof result === 'string' ? result : OK)
const show = (changes: Members) => {
  const text = JSON.stringify(changes, (_, value) => (value === undefined ? 'missing' : value))
  return text.length > 80 ? `${text.slice(0, 80)}…` : text
}

/** Beyond what Postgres stores or an index holds, and what is no string. */
const NO_NAMES = [
  undefined,
  null,
  '',
  42,
  true,
  ['j1'],
  { j1: 1 },
  'x'.repeat(256),
  'x'.repeat(10_240),
  'a\0b',
  'a\nb',
  'a\u0085b',
  '\uD800',
  'a\uDC00b',
]
const NAMES = ['x', 'x'.repeat(255), '😀'.repeat(255), 'a|b', "' OR 1=1--", '__proto__', ' ']
const NO_DATES = [undefined, null, '1', `${now}`, NaN, Infinity, -Infinity, -1, true, [now], {}]

test('a valid ID-JAG is read to what the registrar needs of it', (t) => {
  t.same(check({}), { ...IDENTITY, scopes: null })
  t.same(check({ scope: 'write unknown' }), { ...IDENTITY, scopes: ['write'] })
  t.same(check({ sub: 'bob', jti: 'j2', exp: now + 299.5 }), {
    audience: SETTINGS.issuer,
    subject: 'bob',
    jti: 'j2',
    exp: now + 299.5,
    scopes: null,
  })
  t.end()
})

test('IDJ-01, 8725-07: typ is a media type', (t) => {
  const typ = (value: unknown) => told(check({}, { ...HEADER, typ: value }))
  for (const good of ['oauth-id-jag+jwt', 'application/oauth-id-jag+jwt', 'OAuth-ID-JAG+JWT'])
    t.equal(typ(good), OK, good)
  for (const bad of [
    undefined,
    null,
    '',
    'JWT',
    'at+jwt',
    'secevent+jwt',
    'logout+jwt',
    'oauth-id-jag',
    ' oauth-id-jag+jwt',
    'oauth-id-jag+jwt;v=1',
    'application/application/oauth-id-jag+jwt',
    'x/application/oauth-id-jag+jwt',
    'text/oauth-id-jag+jwt',
    'oauth-\u0130d-jag+jwt',
    ['oauth-id-jag+jwt'],
    1,
  ])
    t.equal(typ(bad), 'wrong_type', show({ bad }))
  t.end()
})

test('IDJ-02, IDJ-03, IDJ-04, IDJ-05, IDJ-06, IDJ-07, IDJ-08, IDJ-10, IDJ-11, IDJ-12, IDJ-13, 8725-05, JOSE-10, JOSE-11, JOSE-12: each claim has its rule', (t) => {
  const rows: [expected: string, ...changes: Members[]][] = [
    [
      'wrong_issuer',
      ...[undefined, 'https://idp.test/', 'https://IDP.test', SETTINGS.issuer, [P.issuer], 1].map(
        (iss) => ({ iss }),
      ),
    ],
    [
      OK,
      { aud: SETTINGS.resource },
      { aud: [SETTINGS.issuer] },
      { aud: [SETTINGS.resource] },
      { client_id: 'agent-1' },
      { scope: 'read' },
      { scope: 'read write' },
      { resource: SETTINGS.resource },
      { resource: [SETTINGS.resource, SETTINGS.resource] },
      { authorization_details: [] },
      { sub_id: { format: 'iss_sub', iss: SETTINGS.issuer, sub: 'root' } },
      { sub_id: { format: 'unknown' } },
      { nonce: 'n', act: { sub: 'agent' }, tenant: 't', aud_tenant: 5 },
    ],
    [
      'wrong_audience',
      ...[
        undefined,
        null,
        '',
        [],
        {},
        1,
        'https://as.test/',
        'https://other.test',
        ['https://other.test'],
        [SETTINGS.issuer, 'https://other.test'],
        [SETTINGS.issuer, SETTINGS.issuer],
        [SETTINGS.issuer, SETTINGS.resource],
        [SETTINGS.issuer, 1],
        [[SETTINGS.issuer]],
        `${SETTINGS.issuer} ${SETTINGS.resource}`,
      ].map((aud) => ({ aud })),
    ],
    ['bad_subject', ...NO_NAMES.map((sub) => ({ sub }))],
    [OK, ...NAMES.map((sub) => ({ sub }))],
    ['bad_jti', ...NO_NAMES.map((jti) => ({ jti }))],
    [OK, ...NAMES.map((jti) => ({ jti }))],
    ['bad_times', ...NO_DATES.map((exp) => ({ exp }))],
    ['bad_times', ...NO_DATES.map((iat) => ({ iat }))],
    ['bad_times', ...NO_DATES.filter((nbf) => nbf !== undefined).map((nbf) => ({ nbf }))],
    [OK, { exp: now + 600 }, { iat: now - 100, exp: now + 500 }],
    ['lives_too_long', { exp: now + 600.5 }, { exp: 1e300 }, { iat: 0 }, { iat: now - 3600 }],
    [OK, { iat: now + 60, exp: now + 300 }, { nbf: now + 60 }, { nbf: 0 }],
    ['not_yet_valid', { iat: now + 60.5 }, { iat: now + 600, exp: now + 900 }, { nbf: now + 61 }],
    [OK, { iat: now - 300, exp: now - 59.5 }, { iat: now - 659.5, exp: now - 59.5 }],
    ['expired', { iat: now - 300, exp: now - 60 }, { iat: now - 9000, exp: now - 8400 }],
    ['expired', { iat: 0, exp: 0 }, { iat: now - 1, exp: 0 }],
    // The ten minutes count from iat, too, however the two are set against each other.
    ['expired', { iat: now - 660, exp: now - 60 }],
    [
      'wrong_client',
      ...[undefined, null, '', 'agent-2', 'http://127.0.0.1/', [P.issuer], {}, 1].map(
        (client_id) => ({ client_id }),
      ),
    ],
    [
      'wrong_resource',
      ...[
        'https://other.test/',
        'https://api.test',
        [],
        {},
        null,
        1,
        '',
        [SETTINGS.resource, 'https://other.test/'],
        [SETTINGS.resource, 1],
        SETTINGS.issuer,
      ].map((resource) => ({ resource })),
    ],
    [
      'bad_scope',
      ...['', ' ', 'read  write', 'read ', 'unknown', 'READ', '"', ['read'], null, 1, {}].map(
        (scope) => ({ scope }),
      ),
    ],
    [
      'unsupported_authorization_details',
      ...[[{ type: 'payment' }], [null], {}, null, '', 'x', 0].map((authorization_details) => ({
        authorization_details,
      })),
    ],
    ['sender_constrained', ...[{ jkt: 'x' }, {}, null, ''].map((cnf) => ({ cnf }))],
  ]
  for (const [expected, ...changes] of rows)
    for (const change of changes) t.equal(told(check(change)), expected, show(change))
  t.end()
})

test('the entry of the issuer says which audiences and clients count', (t) => {
  const audiences = ['https://old.test']
  t.equal(told(check({ aud: 'https://old.test' }, HEADER, { audiences })), OK)
  t.equal(told(check({}, HEADER, { audiences })), 'wrong_audience')
  t.equal(told(check({ client_id: 'agent-1' }, HEADER, { client_ids: [] })), 'wrong_client')
  t.equal(told(check({}, HEADER, { client_ids: [] })), OK)
  t.end()
})

test('IDJ-14, IDJ-23: a subject is what only one person has', (t) => {
  const many = { ...P, multi_tenant: true }
  t.equal(subjectKey({ sub: 'a', tenant: 't' }, P), 'a')
  t.equal(subjectKey({ sub: 'a', tenant: 't' }, many), '["t","a"]')
  for (const tenant of NO_NAMES) {
    t.equal(subjectKey({ sub: 'a', tenant }, many), undefined, show({ tenant }))
    t.equal(subjectKey({ sub: tenant, tenant: 't' }, many), undefined)
  }
  const parts = [
    'a',
    'b',
    '"',
    '","',
    'a","b',
    '\\',
    'a|b',
    '|',
    ' ',
    '["a","b"]',
    '[',
    'é',
    'e\u0301',
  ]
  const keys = parts.flatMap((tenant) => parts.map((sub) => subjectKey({ tenant, sub }, many)))
  t.equal(new Set(keys).size, parts.length ** 2)
  t.equal(told(check({}, HEADER, { multi_tenant: true })), 'bad_subject')
  t.match(check({ tenant: 't' }, HEADER, { multi_tenant: true }), { subject: '["t","alice"]' })
  const longest = subjectKey({ tenant: '😀'.repeat(255), sub: '😀'.repeat(255) }, many)!
  t.ok(
    Buffer.byteLength(longest) < 2200,
    'short enough for an index, with an issuer and a resource',
  )
  t.end()
})

function vouched(changes: Members, entry: Partial<Issuer> = {}) {
  const settings = { maxAuthAgeSeconds: 3600, skewSeconds: 60 }
  const jwt = { header: HEADER, payload: claimsWith(changes), signature: undefined }
  const checked = checkVouched(jwt, { ...P, ...entry }, settings, NOW)
  return checked.ok ? checked.vouched : checked.reason
}

test('PRF-11, IDJ-18, IDJ-19: only what is verified, by the JSON value true, is vouched for', (t) => {
  const alice = { email: 'alice@example.com', phone_number: null }
  const none = { email: undefined, email_verified: undefined }
  const phone = (phone_number: unknown, phone_number_verified: unknown = true) =>
    vouched({ ...none, phone_number, phone_number_verified })

  t.same(vouched({}), alice)
  t.same(vouched({ email: 'ALICE@Example.COM' }), alice)
  t.same(vouched({ email: ' alice@bücher.example ' }), {
    ...alice,
    email: 'alice@xn--bcher-kva.example',
  })
  t.same(vouched({ phone_number: '+15550001' }), alice, 'an unverified number is not taken along')
  t.same(vouched({ phone_number: '+15550001', phone_number_verified: true }), {
    ...alice,
    phone_number: '+15550001',
  })
  for (const email_verified of [undefined, null, false, 'true', 'false', 1, 0, [true], {}])
    t.equal(vouched({ email_verified }), 'nothing_verified', show({ email_verified }))
  for (const email of [
    undefined,
    null,
    '',
    1,
    ['alice@example.com'],
    'alice',
    'alice@',
    '@example.com',
    'alice@example.com,bob@example.com',
    'alice@example.com\n',
    'alice\0@example.com',
    'alice@127.0.0.1',
    'alice@localhost',
    `${'a'.repeat(65)}@example.com`,
  ])
    t.equal(vouched({ email }), 'nothing_verified', show({ email }))

  const reached = { email: null, phone_number: '+15550001' }
  t.same(phone('+15550001'), reached)
  t.same(phone('+1 (555) 00.0-1'), reached)
  t.same(phone('+1234567'), { email: null, phone_number: '+1234567' })
  t.same(phone('+123456789012345'), { email: null, phone_number: '+123456789012345' })
  for (const number of [
    '+123456',
    '+1234567890123456',
    '+05550001',
    '15550001',
    '++15550001',
    '+15550001\n',
    '+1555000a',
    '+١٢٣٤٥٦٧',
    '',
    15550001,
    null,
    undefined,
    ['+15550001'],
  ])
    t.equal(phone(number), 'nothing_verified', show({ number }))
  for (const verified of [undefined, null, false, 'true', 1])
    t.equal(
      vouched({ ...none, phone_number: '+15550001', phone_number_verified: verified }),
      'nothing_verified',
    )
  t.same(
    vouched({ email_verified: false, phone_number: '+15550001', phone_number_verified: true }),
    reached,
    'a verified number does not carry the unverified address beside it',
  )
  t.end()
})

test('IDJ-22: an issuer vouches for addresses in its domains only, not in theirs above or below', (t) => {
  const email_domains = ['example.com', 'xn--bcher-kva.example']
  for (const email of ['alice@example.com', 'a@EXAMPLE.com', 'a@bücher.example'])
    t.match(vouched({ email }, { email_domains }), { email: /@/ }, email)
  for (const email of [
    'a@gmail.com',
    'a@sub.example.com',
    'a@com',
    'a@badexample.com',
    'a@example.com.evil.test',
    'a@example.com@evil.test',
    'a@еxample.com',
  ])
    t.equal(vouched({ email }, { email_domains }), 'nothing_verified', email)
  t.end()
})

test('IDJ-10, B31, PRF-10: the person signed in at the provider lately, and as we demand', (t) => {
  for (const auth_time of [now, now - 3600, now - 3660, now + 60, now - 0.5])
    t.type(vouched({ auth_time }), 'object', show({ auth_time }))
  for (const auth_time of [...NO_DATES, 'now', 0, now - 3660.5, now + 60.5, now + 3600, 1e300])
    t.equal(vouched({ auth_time }), 'login_required', show({ auth_time }))

  const required_amr = ['mfa', 'hwk']
  for (const amr of [
    ['mfa', 'hwk'],
    ['hwk', 'pwd', 'mfa'],
  ])
    t.type(vouched({ amr }, { required_amr }), 'object', show({ amr }))
  for (const amr of [
    undefined,
    null,
    [],
    ['mfa'],
    'mfa hwk',
    'mfa',
    ['mfa hwk'],
    [['mfa', 'hwk']],
    {},
  ])
    t.equal(vouched({ amr }, { required_amr }), 'login_required', show({ amr }))
  t.equal(vouched({ email: 'x', auth_time: 0 }), 'nothing_verified', 'the address comes first')
  t.end()
})
