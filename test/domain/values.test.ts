/** Values that cross the edge, and those that are made here. */
import t from 'tap'
import { createHmac } from 'node:crypto'
import { parseBasicCredentials } from '../../src/domain/basic-credentials.js'
import { hinted, mintCeremony } from '../../src/domain/ceremony.js'
import {
  canonicalEmail,
  classifyLoginHint,
  maskEmail,
  shownEmail,
} from '../../src/domain/login-hint.js'
import * as metadata from '../../src/domain/metadata.js'
import { safeReturnTo } from '../../src/domain/return-to.js'
import { narrowScope } from '../../src/domain/scope.js'
import * as secrets from '../../src/domain/secrets.js'
import { accessTokenClaims, assertionClaims } from '../../src/domain/tokens.js'

/** As a test's name: a line separator within would end the line for tap. */
const shown = (value: unknown) => encodeURI(`${JSON.stringify(value)}`).slice(0, 60)

t.test('CIBA-04: an address has one form', async (t) => {
  const same: [string, string][] = [
    ['alice@example.com', 'alice@example.com'],
    ['  ALICE@Example.COM ', 'alice@example.com'],
    ['alice+x@example.com', 'alice+x@example.com'],
    ['a.l.i.c.e@example.com', 'a.l.i.c.e@example.com'],
    ["o'neil@example.com", "o'neil@example.com"],
    ['=1+1@example.com', '=1+1@example.com'],
    ['e\u0301@example.com', '\u00e9@example.com'],
    ['\u212a@example.com', 'k@example.com'],
    ['İ@example.com', 'i̇@example.com'],
    ['用户@example.com', '用户@example.com'],
    ['a@bücher.example', 'a@xn--bcher-kva.example'],
    ['a@BU\u0308CHER.example', 'a@xn--bcher-kva.example'],
    ['a@XN--BCHER-KVA.example', 'a@xn--bcher-kva.example'],
    ['a@пример.рф', 'a@xn--e1afmkfd.xn--p1ai'],
    ['a@ｅxample.com', 'a@example.com'],
    ['a@1.example', 'a@1.example'],
    [`${'a'.repeat(64)}@example.com`, `${'a'.repeat(64)}@example.com`],
    // Of these two there is a composed letter in lower case alone.
    ['J\u030c@x.yy', '\u01f0@x.yy'],
    [`a@${'b'.repeat(63)}.com`, `a@${'b'.repeat(63)}.com`],
  ]
  for (const [text, expected] of same) {
    t.equal(canonicalEmail(text), expected, shown(text))
    t.equal(canonicalEmail(expected), expected, 'and stays as it is')
  }
  const longest = `${'a'.repeat(60)}@${'b'.repeat(63)}.${'b'.repeat(63)}.${'b'.repeat(60)}.com`
  t.equal(longest.length, 253)
  t.ok(canonicalEmail(`a${longest}`), '254 octets')
  t.notOk(canonicalEmail(`aa${longest}`), '255 octets')
  t.same(classifyLoginHint(' Alice@example.com'), { kind: 'email', value: 'alice@example.com' })
})

t.test('PRF-06, B11, B13: what is not recognizable as an address is no hint', async (t) => {
  const refused = [
    ['', ' ', '@', 'alice', 'a@b', '@x.yy', 'a@', 'a@@x.yy', 'a@b@x.yy', 'a b@x.yy'],
    ['a@x.yy\n', '\ta@x.yy', '\u00a0a@x.yy', 'a@x.yy\0', 'a\0@x.yy', 'a@x.yy,b@x.yy'],
    ['<img src=x onerror=alert(1)>@x.yy', '"><script>@x.yy', 'Alice <a@x.yy>', 'a(b)@x.yy'],
    ['.a@x.yy', 'a.@x.yy', 'a..b@x.yy', 'a@.x.yy', 'a@x..yy', 'a@x.yy.', 'a@-x.yy', 'a@x-.yy'],
    ['a@localhost', 'a@x.y', 'a@127.0.0.1', 'a@[127.0.0.1]', 'a@0x7f.1', 'a@x.123'],
    ['a@x.yy:80', 'a@x.yy/z', 'a@x.yy?z', 'a@x.yy#z', 'a@x%2eyy.zz', 'a@x\\yy.zz', 'a@x。yy'],
    ['a@xn--.com', 'a@xn--a.com', 'a@x\u200b.yy', 'a@x\u00ad.yy', '\u202ea@x.yy', 'a@ex_a.com'],
    ['a@x.yy\u2028', '"a"@x.yy', '\ud800@x.yy', 'a@\udfff.yy', 'mailto:a@x.yy', '+15551234567'],
    [`${'a'.repeat(65)}@x.yy`, `${'é'.repeat(33)}@x.yy`, `a@${'b'.repeat(64)}.com`],
    [`${'a'.repeat(65_536)}@x.yy`, `${' '.repeat(1000)}a@x.yy`, 'javascript:alert(1)'],
  ].flat()
  for (const text of refused) t.equal(classifyLoginHint(text), undefined, shown(text))
})

t.test(
  'an address of a short foreign domain is still one in a server that runs for long',
  async (t) => {
    for (let i = 0; i < 50_000; i++) {
      canonicalEmail(`a@x${i}.example`)
      safeReturnTo(`/claim?${i}`)
    }
    t.equal(canonicalEmail('a@ß.example'), 'a@xn--zca.example')
    t.equal(canonicalEmail('a@ú.io'), 'a@xn--rda.io')
    t.equal(safeReturnTo('/claim?ß'), '/claim?%C3%9F')
  },
)

t.test('PRF-28: a masked address tells little', async (t) => {
  t.equal(maskEmail('alice@example.com'), 'a•••@e•••.com')
  t.equal(maskEmail('a@example.co.uk'), 'a•••@e•••.uk')
  t.equal(maskEmail('𝒜lice@xn--bcher-kva.example'), '𝒜•••@b•••.example')
  t.equal(maskEmail('a@xn--e1afmkfd.xn--p1ai'), 'a•••@п•••.рф')
  // The agent wrote it, and may have something to say.
  t.equal(maskEmail('a@b.call-1-800-555-0199'), 'a•••@b•••.•••')
  t.equal(maskEmail(canonicalEmail('a@b.您的账户已被锁定请立即拨打一二三')!), 'a•••@b•••.•••')
})

t.test('an address is shown as its person writes it', async (t) => {
  for (const email of ['alice@example.com', '用户@bücher.example', 'a@пример.рф'])
    t.equal(shownEmail(canonicalEmail(email)!), email)
  for (const text of ['no address', 'a@xn--a', '<b>@c d']) t.equal(shownEmail(text), text)
})

t.test('WEB-10, 9700-10, B51, B52, B53: a sign-in leads only to our own pages', async (t) => {
  const safe: [string, string][] = [
    ['/', '/'],
    ['/claim', '/claim'],
    ['/claim?claim_attempt_token=cat_x-_9', '/claim?claim_attempt_token=cat_x-_9'],
    ['/claim#fragment', '/claim'],
    ['/claim\0', '/claim'],
    ['/x/../claim', '/claim'],
    ['/%2e%2e/claim', '/claim'],
    ['/claim?return_to=//evil', '/claim?return_to=//evil'],
    ['/claim?\r\nSet-Cookie: a=b', '/claim?Set-Cookie:%20a=b'],
    ['/claim?%0d%0aSet-Cookie: a=b', '/claim?%0d%0aSet-Cookie:%20a=b'],
    [`/claim?"'><script>`, '/claim?%22%27%3E%3Cscript%3E'],
    ['/claim?é\ud800', '/claim?%C3%A9%EF%BF%BD'],
    [`/claim?${'x'.repeat(249)}`, `/claim?${'x'.repeat(249)}`],
  ]
  for (const [value, expected] of safe) t.equal(safeReturnTo(value), expected, shown(value))

  const unsafe: unknown[] = [
    ['//evil', '///evil', '/\\evil', '\\\\evil', '\\/evil', '/%09/evil', '/\t/evil', '/\n/evil'],
    ['/ /evil', ' /claim', '/.//evil', '/..//evil', '/%5Cevil', '//evil/claim', '//evil\\@x/claim'],
    ['https://evil', 'https:evil', 'http:/claim', 'https://evil/claim', '//[', '//', '//:80/claim'],
    ['javascript:alert(1)', 'data:text/html,x', 'blob:x', 'about:blank', 'claim', '?claim', ''],
    ['/login', '/login?return_to=/login', '/logout', '/agent/identity/claim/complete', '/claim/x'],
    ['/claim/', '/CLAIM', '/%63laim', '/claim@evil', '/claim;x', '/claim%00', '/claim%3f', '#'],
    ['/claim/../logout', '/claim\\..\\logout', `/claim?${'x'.repeat(2042)}`, undefined, null, 1],
    [['/claim'], ['/claim', '/claim'], { toString: () => '/claim' }],
  ].flat()
  for (const value of unsafe) t.equal(safeReturnTo(value), '/', shown(value))
  t.equal(safeReturnTo('//registrar.invalid/claim'), '/claim', 'the host we parse with leads home')
})

t.test('6749-11, B74: a request narrows its scope and never widens it', async (t) => {
  const allowed = ['api.read', 'api.write']
  const table: [string | undefined, string[] | undefined][] = [
    [undefined, allowed],
    ['api.read', ['api.read']],
    ['api.write api.read', allowed],
    ['api.read api.read', ['api.read']],
    ['api.read admin', ['api.read']],
    ['admin', undefined],
    ['API.READ', undefined],
    ['api', undefined],
    ['', undefined],
    [' ', undefined],
    [' api.read', undefined],
    ['api.read ', undefined],
    ['api.read  api.write', undefined],
    ['api.read\tapi.write', undefined],
    ['api.read\napi.write', undefined],
    ['api.read\n', undefined],
    ['api.read\u00a0api.write', undefined],
    ['api.read "', undefined],
    ['api.read \\', undefined],
    ['api.read é', undefined],
    ['api.read \0', undefined],
    ['api.read,api.write', undefined],
    ['__proto__', undefined],
    [`api.read ${'x '.repeat(50_000)}`, undefined],
  ]
  for (const [requested, expected] of table)
    t.same(narrowScope(allowed, requested), expected, shown(requested))
  t.equal(narrowScope([], 'api.read'), undefined, 'nothing allowed, nothing granted')
})

t.test('Basic credentials are form-encoded before they are joined (RFC 6749 §2.3.1)', async (t) => {
  const basic = (text: string, scheme = 'Basic') =>
    `${scheme} ${Buffer.from(text).toString('base64')}`
  const table: [string | undefined, { id: string; secret: string } | undefined][] = [
    [basic('id:secret'), { id: 'id', secret: 'secret' }],
    [basic('id:secret', 'bAsIc'), { id: 'id', secret: 'secret' }],
    [`${basic('id:secret', 'Basic  ')}  `, { id: 'id', secret: 'secret' }],
    [basic('a%3Ab:c+d%2B'), { id: 'a:b', secret: 'c d+' }],
    [basic('a:b:c'), { id: 'a', secret: 'b:c' }],
    [basic('a:'), { id: 'a', secret: '' }],
    [basic('é%C3%A9:ü'), { id: 'éé', secret: 'ü' }],
    [undefined, undefined],
    ['', undefined],
    ['Basic', undefined],
    ['Basic ', undefined],
    ['Basic ===', undefined],
    ['Basic YTpi YTpi', undefined],
    ['Basic YTpi, Basic YTpi', undefined],
    ['Basic YT-_', undefined],
    [basic('a:b', 'Bearer'), undefined],
    [basic('a:b', 'xBasic'), undefined],
    [basic('nocolon'), undefined],
    [basic(':secret'), undefined],
    [basic('a%ZZ:b'), undefined],
    [basic('a:%E9'), undefined],
    // A NUL would reach Postgres, which refuses it as no text.
    [basic('a\0:b'), undefined],
    [basic('a%00:b'), undefined],
    [basic('a:b%00'), undefined],
    [basic('a%0d%0a:b'), undefined],
    [basic('a%7F:b'), undefined],
  ]
  for (const [header, expected] of table)
    t.same(parseBasicCredentials(header), expected, shown(header))
})

t.test('8414-01, 9728-01: metadata is found between host and path', async (t) => {
  const { wellKnownPath, resourceMetadataUrl, authorizationServerMetadataUrl } = metadata
  t.equal(wellKnownPath('x', 'https://as.test'), '/.well-known/x')
  t.equal(wellKnownPath('x', 'https://as.test/'), '/.well-known/x')
  t.equal(wellKnownPath('x', 'https://as.test/t1'), '/.well-known/x/t1')
  t.equal(wellKnownPath('x', 'https://as.test/t1/'), '/.well-known/x/t1/')
  t.equal(
    authorizationServerMetadataUrl('https://as.test:8443/t1'),
    'https://as.test:8443/.well-known/oauth-authorization-server/t1',
  )
  t.equal(
    resourceMetadataUrl('https://api.test/v1', 'https://as.test/t1'),
    'https://as.test/.well-known/oauth-protected-resource/v1',
    'on our own host',
  )
})

t.test('8414-06, 9728-05: metadata says what is configured and nothing empty', async (t) => {
  const settings = {
    ISSUER: 'https://as.test/t1',
    RESOURCE: 'https://api.test/',
    RESOURCE_NAME: 'Name',
    SCOPES: { a: 'A', b: 'B' },
    LEGACY_REVOCATION: true,
    IDENTITY_TYPES: ['anonymous'],
  }
  const resource = metadata.protectedResourceMetadata(settings)
  t.same(resource, {
    resource: 'https://api.test/',
    resource_name: 'Name',
    authorization_servers: ['https://as.test/t1'],
    scopes_supported: ['a', 'b'],
    bearer_methods_supported: ['header'],
  })
  const logo = { ...settings, RESOURCE_LOGO_URI: 'https://api.test/logo.png' }
  t.match(metadata.protectedResourceMetadata(logo), {
    resource_logo_uri: 'https://api.test/logo.png',
  })
  const server = metadata.authorizationServerMetadata(settings)
  t.match(server, { issuer: 'https://as.test/t1', ...resource })
  t.same(server.agent_auth.identity_types_supported, ['anonymous'], 'PRF-03')
  t.notOk('response_types_supported' in server)
  t.notOk('identity_assertion' in server.agent_auth, 'a type that is off has no assertion types')
  t.equal(server.agent_auth.revocation_uri, 'https://as.test/t1/agent/auth/revoke')
  const other = metadata.authorizationServerMetadata({
    ...settings,
    IDENTITY_TYPES: ['identity_assertion'],
    LEGACY_REVOCATION: false,
  })
  t.notOk('revocation_uri' in other.agent_auth)
  t.same(other.agent_auth.identity_assertion, {
    assertion_types_supported: ['urn:ietf:params:oauth:token-type:id-jag'],
  })
  t.same(
    Object.values(server).filter((value) => Array.isArray(value) && !value.length),
    [],
  )
})

t.test(
  'ids of what is made all the time stand in the order of their times, and are random within one',
  (t) => {
    const times = [0, 1e9, 1.7e12, 1.7e12 + 1, 2e12, 32 ** 9 - 1].map((time) => new Date(time))
    const ids = times.map((time) => secrets.newSortedId('reg_', time))
    for (const id of ids) t.match(id, /^reg_[\da-v]{9}[\w-]{13}$/)
    t.same(ids.toSorted(), ids)
    t.same(
      ids.toSorted(new Intl.Collator('en').compare),
      ids,
      'also as a database of people’s language sorts',
    )
    const now = new Date()
    const same = new Set(Array.from({ length: 1000 }, () => secrets.newSortedId('cla_', now)))
    t.equal(same.size, 1000)
    t.end()
  },
)

t.test('6749-15, SEC-05: secrets are random, ids and codes too', async (t) => {
  t.match(secrets.newId('user_'), /^user_[\w-]{22}$/)
  t.match(secrets.newSecret('clm_'), /^clm_[\w-]{43}$/)
  t.not(secrets.newSecret('clm_'), secrets.newSecret('clm_'))
  const drawn = Array.from({ length: 500 }, () => [
    secrets.newId(''),
    secrets.newSecret(''),
    secrets.newId(''),
  ])
  const bytes = Buffer.concat(drawn.flat().map((text) => Buffer.from(text, 'base64url')))
  t.equal(bytes.length, 500 * (16 + 32 + 16))
  const pieces = Array.from({ length: bytes.length - 7 }, (_, i) => bytes.toString('hex', i, i + 8))
  t.equal(new Set(pieces).size, pieces.length, 'no part of one is in another')
  const codes = Array.from({ length: 20_000 }, secrets.newUserCode)
  t.ok(codes.every((code) => /^\d{6}$/.test(code)))
  t.ok(
    codes.some((code) => code.startsWith('0')),
    'leading zeros are kept',
  )
  t.ok(new Set(codes).size > 19_000)
})

t.test(
  'SEC-01, SEC-03, SEC-09: a code fits its own attempt, under any key of the list',
  async (t) => {
    const [old, current, other] = ['a', 'b', 'c'].map((text) =>
      secrets.deriveKey(Buffer.from(text.repeat(32)), 'user-code'),
    ) as [Buffer, Buffer, Buffer]
    const mac = secrets.userCodeMac(old, 'cla_1', '000123')
    t.same(mac, createHmac('sha256', old).update('1|cla_1|000123').digest())
    t.notSame(mac, secrets.userCodeMac(old, 'cla_2', '000123'), 'equal codes differ by attempt')
    t.ok(secrets.userCodeMatches([current, old], mac, 'cla_1', '000123'))
    t.notOk(secrets.userCodeMatches([current, other], mac, 'cla_1', '000123'))
    t.notOk(secrets.userCodeMatches([old], mac, 'cla_1', '123'))
    t.notOk(secrets.userCodeMatches([old], mac, 'cla_2', '000123'))
    t.notOk(secrets.userCodeMatches([old], mac.subarray(1), 'cla_1', '000123'), 'another length')
    t.notOk(secrets.userCodeMatches([], mac, 'cla_1', '000123'))
    const secret = Buffer.alloc(32, 'a')
    t.notSame(secrets.deriveKey(secret, 'csrf'), secrets.deriveKey(secret, 'user-code'))
  },
)

t.test('PRF-07, 8628-13: the link holds its token and neither code nor more', async (t) => {
  const settings = {
    issuer: 'https://as.test/t1',
    lifetimeSeconds: 600,
    intervalSeconds: 5,
    codeKey: Buffer.alloc(32, 1),
  }
  const claimant = hinted({ kind: 'email', value: 'alice@example.com' })
  const { block, attempt } = mintCeremony(settings, claimant, '192.0.2.1', new Date())
  t.match(block, { expires_in: 600, interval: 5, user_code: /^\d{6}$/ })
  const link =
    /^https:\/\/as\.test\/t1\/login\?return_to=%2Fclaim%3Fclaim_attempt_token%3D(cat_[\w-]{43})$/
  const token = link.exec(block.verification_uri)![1]!
  t.same(attempt, {
    id: attempt.id,
    token_hash: secrets.hashSecret(token),
    user_code_mac: secrets.userCodeMac(settings.codeKey, attempt.id, block.user_code),
    claimant,
    lifetime_seconds: 600,
    requested_from: '192.0.2.1',
  })
})

t.test('9068-02, 9068-03, PRF-19, PRF-23: tokens say who they are for', async (t) => {
  const now = new Date('2026-11-22T14:05:06.999Z')
  const iat = Date.UTC(2026, 10, 22, 14, 5, 6) / 1000
  const nobody = { user_id: null, email: null, claimed_at: null, sign_in: null }
  const anonymous = { id: 'reg_1', generation: 3, ...nobody }
  const known = { ...anonymous, user_id: 'user_a', email: 'alice@example.com' }
  const claimed = { ...known, claimed_at: now }
  const assertion = (of: Parameters<typeof assertionClaims>[1]) =>
    assertionClaims('https://as.test', of, 3600, now)
  const access = (of: Parameters<typeof accessTokenClaims>[2]) =>
    accessTokenClaims('https://as.test', 'https://api.test/', of, ['a', 'b'], 60, now)

  const { jti, ...claims } = assertion(anonymous)
  const common = { iss: 'https://as.test', generation: 3, iat }
  const own = { ...common, aud: 'https://as.test', sub: 'reg_1', exp: iat + 3600 }
  t.match(jti, /^[\w-]{22}$/)
  t.same(claims, own)
  t.same({ ...assertion(known), jti }, { ...own, jti }, 'no address before a person has confirmed')
  t.match(assertion(claimed), { sub: 'reg_1', email: 'alice@example.com', email_verified: true })
  t.notOk('email' in assertion({ ...claimed, email: null }))
  t.not(assertion(anonymous).jti, jti)

  const { jti: _, ...accessClaims } = access(anonymous)
  const ids = { sub: 'reg_1', client_id: 'reg_1', registration_id: 'reg_1' }
  const target = { aud: 'https://api.test/', scope: 'a b', exp: iat + 60 }
  t.same(accessClaims, { ...common, ...ids, ...target })
  t.equal(access(known).sub, 'reg_1')
  t.match(access(claimed), { sub: 'user_a', client_id: 'reg_1' })
  t.notOk('email' in access(claimed), '9068-08')
})
