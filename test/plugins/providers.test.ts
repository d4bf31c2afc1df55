/** Providers' signatures, and the cache of their keys. */
import { createSecretKey, type KeyObject } from 'node:crypto'
import type { ServerResponse } from 'node:http'
import { test, type Test } from 'tap'
import { buildApp } from '../../src/app.js'
import { exchange, ISSUER, registerAnonymous, testApp, type Answer } from '../fixtures/app.js'
import { notify, present } from '../fixtures/assertions.js'
import { ecKeyPair } from '../fixtures/key-pair.js'
import {
  base64url,
  compact,
  idJagClaims,
  now,
  publicJwk,
  testProvider,
  type Members,
} from '../fixtures/provider.js'

const outcome = ({ statusCode, body }: Answer): string => {
  const { error, err } = body ? JSON.parse(body) : {}
  return [statusCode, error ?? err].join(' ').trim()
}

const FORGED = '400 invalid_signature'
const AWAY = '503 temporarily_unavailable'

async function trusted(t: Test) {
  const testing = await testApp(t)
  const provider = await testProvider(t)
  await provider.trust(testing.pool)
  return { ...testing, provider }
}

/** When the keys were fetched is only in memory: the one clock that a test has to move. */
function movableClock(t: Test): (seconds: number) => void {
  const real = performance.now.bind(performance)
  let ahead = 0
  t.intercept(performance, 'now', { value: () => real() + ahead })
  return (seconds) => void (ahead += seconds * 1000)
}

const away = (_request: unknown, response: ServerResponse) => void response.destroy()

test('8725-03, B16, B17, B18, B19, B21, B37: only a signature of the issuer under an algorithm it may use counts', async (t) => {
  const { app, pool, provider } = await trusted(t)
  const { p2 } = provider
  const claims = () => idJagClaims(provider.issuer)
  const token = (header: Members, key?: KeyObject) =>
    compact({ typ: 'oauth-id-jag+jwt', ...header }, claims(), key)
  const signed = (header: Members) => provider.idJag({}, { header })
  const resigned = (change: (signature: Buffer) => Buffer) => {
    const [head, body, signature = ''] = provider.idJag().split('.')
    return `${head}.${body}.${base64url(change(Buffer.from(signature, 'base64url')))}`
  }
  const hmac = (secret: string) =>
    token({ alg: 'HS256', kid: 'p1' }, createSecretKey(secret, 'utf8'))
  const publicKey = provider.jwks.keys[0]!
  const unpaired = ecKeyPair()

  const rows: [string, string, string][] = [
    ['ES256 under p1', provider.idJag(), '200'],
    ['RS256 under p2', provider.idJag({}, { key: p2 }), '200'],
    ['B36 typ as a media type', signed({ typ: 'application/oauth-id-jag+jwt' }), '200'],
    ['B36 typ in upper case', signed({ typ: 'Application/OAuth-ID-JAG+JWT' }), '200'],
    ['an unknown header member', signed({ future: { a: [1] } }), '200'],

    ['B16 alg none, empty signature', token({ alg: 'none' }), FORGED],
    ['B16 alg none under a known kid', token({ alg: 'none', kid: 'p1' }), FORGED],
    ['B16 alg none, no signature part', token({ alg: 'none' }).slice(0, -1), '400 invalid_request'],
    ['B16 alg none, garbage signature', `${token({ alg: 'none' })}AAAA`, FORGED],
    ['B16 alg none, garbage of no right length', `${token({ alg: 'none' })}garbage-1`, FORGED],
    ['a signature of garbage', signed({}).replace(/[^.]*$/, 'garbage'), FORGED],
    ['a signature with stray bits at its end', signed({}).replace(/..$/, 'xx'), FORGED],
    ['8725-01 alg NONE', token({ alg: 'NONE' }), FORGED],
    ['8725-01 alg nOnE over a real signature', signed({ alg: 'nOnE' }), FORGED],
    ['8725-01 alg es256', signed({ alg: 'es256' }), FORGED],
    ['8725-01 alg ES384', signed({ alg: 'ES384' }), FORGED],
    ['8725-01 alg PS256 under the RSA key', signed({ alg: 'PS256', kid: 'p2' }), FORGED],
    ['8725-01 alg missing', signed({ alg: undefined }), FORGED],
    ['8725-01 alg in a list', signed({ alg: ['ES256'] }), FORGED],
    ['8725-01 alg __proto__', signed({ alg: '__proto__' }), FORGED],
    ['8725-02 RS256 under the EC key', signed({ alg: 'RS256' }), FORGED],
    ['8725-02 ES256 under the RSA key', signed({ kid: 'p2' }), FORGED],
    [
      'B17 HS256 with the PEM',
      hmac(unpaired.publicKey.export({ format: 'pem', type: 'spki' }).toString()),
      FORGED,
    ],
    ['B17 HS256 with the JWK', hmac(JSON.stringify(publicKey)), FORGED],
    ['B17 HS256 with a coordinate', hmac(publicKey.x!), FORGED],

    ['JOSE-01 B37 crit of a registered name', signed({ crit: ['exp'], exp: now() + 300 }), FORGED],
    ['JOSE-01 B37 crit empty', signed({ crit: [] }), FORGED],
    ['JOSE-01 crit null', signed({ crit: null }), FORGED],
    ['JOSE-01 crit twice', signed({ crit: ['b64', 'b64'], b64: true }), FORGED],
    ['JOSE-01 crit of an absent name', signed({ crit: ['x'] }), FORGED],
    ['B37 b64 false', signed({ b64: false }), FORGED],
    ['B37 b64 true', signed({ b64: true }), FORGED],

    ['B21 kid as a path', signed({ kid: '../../key' }), FORGED],
    ['B21 kid as SQL', signed({ kid: "p1' OR '1'='1" }), FORGED],
    ['B21 kid with NUL', signed({ kid: 'p1\0' }), FORGED],
    ['B21 kid of 10 kB', signed({ kid: 'p'.repeat(10_240) }), FORGED],
    ['B21 kid a number', signed({ kid: 1 }), FORGED],
    ['B21 kid null', signed({ kid: null }), FORGED],
    ['B21 kid empty', signed({ kid: '' }), FORGED],
    ['B21 kid missing with two keys', signed({ kid: undefined }), FORGED],
    ['B21 kid constructor', signed({ kid: 'constructor' }), FORGED],

    ['B18 another key', provider.idJag({}, { key: unpaired.privateKey }), FORGED],
    ['JOSE-05 a signature of zeros', resigned(() => Buffer.alloc(64)), FORGED],
    ['JOSE-05 a signature one octet short', resigned((s) => s.subarray(0, 63)), FORGED],
    ['JOSE-05 a signature one octet long', resigned((s) => Buffer.concat([s, s], 65)), FORGED],
    ['JOSE-05 a signature in DER', resigned(der), FORGED],
    ['JOSE-05 no signature', resigned(() => Buffer.alloc(0)), FORGED],

    ['B35 typ JWT', signed({ typ: 'JWT' }), '400 invalid_request'],
    ['B35 typ absent', signed({ typ: undefined }), '400 invalid_request'],
    ['B35 typ in a list', signed({ typ: ['oauth-id-jag+jwt'] }), '400 invalid_request'],
    ['B35 a security event', provider.securityEvent(), '400 invalid_request'],
    ['B35 a logout token', provider.logoutToken(), '400 invalid_request'],
  ]
  for (const [name, assertion, expected] of rows)
    t.equal(outcome(await present(app, assertion)), expected, name)

  await provider.trust(pool, { algorithms: ['RS256'] })
  t.equal(
    outcome(await present(app, provider.idJag())),
    FORGED,
    '8725-01 ES256 where RS256 is agreed',
  )
  t.equal(outcome(await present(app, provider.idJag({}, { key: p2 }))), '200')
  t.equal(provider.requests.length, 1, '8725-06 no kid caused a request')
})

/** ECDSA-Sig-Value of the same R and S. */
function der(raw: Buffer): Buffer {
  const integer = (part: Buffer) => Buffer.concat([Buffer.from([2, 33, 0]), part])
  return Buffer.concat([
    Buffer.from([48, 70]),
    integer(raw.subarray(0, 32)),
    integer(raw.subarray(32)),
  ])
}

test('B39, JOSE-02, 8725-09, 8725-10: what is not a JWT in compact form is invalid_request', async (t) => {
  const { app, provider } = await trusted(t)
  const good = provider.idJag()
  const [head = '', body = '', signature = ''] = good.split('.')
  const claims = JSON.stringify(idJagClaims(provider.issuer))
  const header = { typ: 'oauth-id-jag+jwt', alg: 'ES256', kid: 'p1' }
  const utf16 = Buffer.from(claims, 'utf16le')
  const invalidUtf8 = Buffer.concat([
    Buffer.from(claims.slice(0, -1)),
    Buffer.from(',"x":"'),
    Buffer.from([0xc3, 0x28]),
    Buffer.from('"}'),
  ])
  const tokens: Record<string, string> = {
    'two parts': `${head}.${body}`,
    'four parts': `${good}.${signature}`,
    'five parts': `${good}.AA.AA`,
    padding: `${head}.${body}.${signature}==`,
    'white space before': ` ${good}`,
    'a line break after': `${good}\n`,
    'a line break inside': `${head}.\n${body}.${signature}`,
    'plain base64': `${head}.${body}.${signature.slice(0, -2)}+/`,
    'a Cyrillic letter': good.replace('e', 'е'),
    'the JSON serialization': JSON.stringify({ protected: head, payload: body, signature }),
    'invalid UTF-8': compact(header, invalidUtf8, provider.p1),
    'a byte order mark': compact(header, `\uFEFF${claims}`, provider.p1),
    'UTF-16': compact(header, utf16, provider.p1),
    'an array': compact(header, `[${claims}]`, provider.p1),
    null: compact(header, 'null', provider.p1),
    'no JSON': compact(header, 'iss=x', provider.p1),
    'truncated JSON': compact(header, claims.slice(0, -1), provider.p1),
    'a header that is a string': `${base64url('"x"')}.${body}.${signature}`,
    'no header': `.${body}.${signature}`,
  }
  for (const [name, token] of Object.entries(tokens))
    t.equal(outcome(await present(app, token)), '400 invalid_request', name)
  t.equal(provider.requests.length, 0, 'nothing of it is a reason to fetch keys')
  t.equal(outcome(await present(app, good)), '200')
})

test('JOSE-03: of two members of a name the last counts, for trust as for the signature', async (t) => {
  const { app, provider } = await trusted(t)
  const rest = JSON.stringify(idJagClaims(provider.issuer)).slice(1)
  const header = { typ: 'oauth-id-jag+jwt', alg: 'ES256', kid: 'p1' }
  const token = (members: string) => compact(header, members, provider.p1)
  t.equal(outcome(await present(app, token(`{"iss":"https://x.test",${rest}`))), '200')
  const last = `{${rest.slice(0, -1)},"iss":"https://x.test"}`
  t.equal(outcome(await present(app, token(last))), '400 invalid_issuer')
})

test('JOSE-04, B18, B19: keys in the header are not used, and their addresses not asked', async (t) => {
  const { app, provider } = await trusted(t)
  const attacker = await testProvider(t)
  const url = attacker.jwksUri
  const jwk = attacker.jwks.keys[0]
  const headers: Record<string, Members> = {
    jwk: { jwk },
    'jwk without kid': { jwk, kid: undefined },
    jku: { jku: url },
    x5u: { x5u: url },
    x5c: { x5c: ['MIIB'] },
    'jku to the cloud': { jku: 'http://169.254.169.254/latest/meta-data/' },
    all: { jwk, jku: url, x5u: url, x5c: ['MIIB'], kid: url },
  }
  for (const [name, header] of Object.entries(headers)) {
    const forged = provider.idJag({}, { header, key: attacker.p1 })
    t.equal(outcome(await present(app, forged)), FORGED, name)
  }
  const own = provider.idJag({}, { header: { jwk, jku: url, x5u: url } })
  t.equal(outcome(await present(app, own)), '200', 'beside a good key they are nothing')
  t.same(attacker.requests, [])
})

test('8725-04, B18: a key counts only for the issuer it belongs to', async (t) => {
  const { app, pool, provider: p } = await trusted(t)
  const q = await testProvider(t)
  await q.trust(pool)
  t.equal(outcome(await present(app, q.idJag())), '200')
  t.equal(outcome(await present(app, p.idJag({}, { key: q.p1 }))), FORGED)
  t.equal(outcome(await present(app, q.idJag({ iss: p.issuer, client_id: p.issuer }))), FORGED)
  t.equal(outcome(await present(app, p.idJag({ iss: 'https://x.test' }))), '400 invalid_issuer')
})

test('B35, 8725-08: our own assertion and access token are no ID-JAG', async (t) => {
  const { app } = await testApp(t)
  const { identity_assertion } = await registerAnonymous(app)
  const { access_token } = (await exchange(app, identity_assertion)).json()
  t.equal(outcome(await present(app, identity_assertion)), '400 invalid_issuer')
  t.equal(outcome(await present(app, access_token)), '400 invalid_issuer')
})

test('IDJ-12: our own issuer is no provider, not even one on the trust list', async (t) => {
  const { app, pool, provider } = await trusted(t)
  await provider.trust(pool, { issuer: ISSUER })
  const own = provider.idJag({ iss: ISSUER })
  t.equal(outcome(await present(app, own)), '400 invalid_issuer')
})

test('SEC-08: who is on its own trust list does not start', async (t) => {
  const { config, pool, provider } = await trusted(t)
  await provider.trust(pool, { issuer: ISSUER })
  await t.rejects(buildApp(config), {
    message: `ISSUER is on the trust list, and nobody vouches to himself: registrar issuers remove ${ISSUER}`,
  })
  await pool.query('update issuers set removed_at = now() where issuer = $1', [ISSUER])
  await (await buildApp(config)).close()
})

test('IDJ-17: of many first assertions at once, one fetches the keys and all count', async (t) => {
  const { app, provider } = await trusted(t)
  const assertions = Array.from({ length: 20 }, (_, i) =>
    provider.idJag({ sub: `sub${i}`, email: `a${i}@example.com` }),
  )
  const answers = await Promise.all(assertions.map((assertion) => present(app, assertion)))
  t.same([...new Set(answers.map(outcome))], ['200'])
  t.equal(provider.requests.length, 1)
})

test('IDJ-17: an unknown kid fetches the keys anew, once in 30 s for all that are unknown', async (t) => {
  const { app, provider } = await trusted(t)
  const pass = movableClock(t)
  const stranger = () => provider.idJag({}, { header: { kid: `kid${Math.random()}` } })
  const fetched = async (expected: number, name: string) => {
    const answers = await Promise.all([stranger(), stranger()].map((token) => present(app, token)))
    t.same(answers.map(outcome), [FORGED, FORGED], name)
    t.equal(provider.requests.length, expected, name)
  }
  await present(app, provider.idJag())
  await fetched(1, 'at once')
  pass(29)
  await fetched(1, 'before the time is over')
  pass(2)
  await fetched(2, 'after it')
  await fetched(2, 'at once after that')
  t.equal(outcome(await present(app, provider.idJag())), '200')
  pass(31)
  t.equal(outcome(await present(app, provider.idJag())), '200')
  t.equal(provider.requests.length, 2, 'a known kid fetches nothing')
})

test('B18: a provider changes keys: the new one counts at once, the retired one no more', async (t) => {
  const { app, provider } = await trusted(t)
  const pass = movableClock(t)
  await present(app, provider.idJag())
  const next = ecKeyPair()
  provider.jwks.keys = [publicJwk(next.publicKey, { kid: 'p3', alg: 'ES256' })]
  const renewed = () => provider.idJag({}, { key: next.privateKey, header: { kid: 'p3' } })
  pass(31)
  t.equal(outcome(await present(app, renewed())), '200')
  t.equal(outcome(await present(app, provider.idJag())), FORGED)
})

test('C51, B40, IDJ-17: while the provider is away its keys serve on for a day, and it is asked every 5 s', async (t) => {
  const { app, provider } = await trusted(t)
  const pass = movableClock(t)
  const presented = async (expected: string, requests: number, name: string) => {
    t.equal(outcome(await present(app, provider.idJag())), expected, name)
    t.equal(provider.requests.splice(0).length, requests, `${name}: requests`)
  }
  provider.answer = away
  await presented(AWAY, 1, 'away from the start')
  await presented(AWAY, 0, 'at once again')
  provider.answer = provider.serve
  pass(4.5)
  await presented(AWAY, 0, 'back, but asked just before')
  pass(1)
  await presented('200', 1, 'back')
  provider.answer = away
  pass(595)
  await presented('200', 0, 'fresh')
  pass(10)
  await presented('200', 1, 'stale')
  await presented('200', 0, 'stale, at once again')
  pass(86_400 - 620)
  await presented('200', 1, 'a day old, nearly')
  pass(20)
  await presented(AWAY, 1, 'a day old')
  provider.answer = provider.serve
  pass(6)
  await presented('200', 1, 'back again')
})

test('8935-04: an event under a kid that nobody knows, or not yet, or that another provider has', async (t) => {
  const { app, pool, provider: p } = await trusted(t)
  const pass = movableClock(t)
  const q = await testProvider(t, { kids: ['q1', 'q2'] })
  const under = (kid: unknown, key: KeyObject) => p.securityEvent({}, { header: { kid }, key })
  const told = async (token: string) => outcome(await notify(app, token))
  t.equal(await told(p.securityEvent()), '202')
  t.equal(await told(under('q1', q.p1)), '400 invalid_key', 'while nobody has it')
  await q.trust(pool)
  t.equal(await told(under('q1', q.p1)), '400 invalid_key', 'and is asked by nobody’s word')
  t.same(q.requests, [])
  t.equal(await told(q.securityEvent()), '202')
  t.equal(await told(under('q1', q.p1)), '400 authentication_failed', 'once another has it')
  t.equal(await told(under('q3', q.p1)), '400 invalid_key')
  t.equal(await told(under(5, p.p1)), '400 invalid_key')
  t.equal(await told(under(undefined, p.p1)), '400 invalid_key', 'with two keys')
  t.equal(await told(under('p1', q.p1)), '400 authentication_failed')

  p.answer = away
  q.answer = away
  pass(31)
  t.equal(await told(under('p9', p.p1)), AWAY, 'it may be a new key: to be sent again')
  t.equal(await told(under('p9', p.p1)), AWAY)
  t.equal(p.requests.length, 2, 'and not a reason to ask each time')
  t.equal(await told(p.securityEvent()), '202', 'known keys serve on')
  await pool.query('update issuers set jwks_uri = $1 where issuer = $2', [
    `${q.issuer}/x`,
    q.issuer,
  ])
  p.answer = p.serve
  pass(6)
  t.equal(await told(under('q1', q.p1)), '400 invalid_key', 'while the other cannot be asked')
})
