/** What we sign and what we take for ours (CONFORMANCE §3), and how the keys are kept. */
import * as jose from 'jose'
import { createHmac, createPublicKey, randomBytes, sign, type JsonWebKey } from 'node:crypto'
import t, { type Test } from 'tap'
import { buildApp } from '../../src/app.js'
import { readConfig } from '../../src/config.js'
import { seal, unseal } from '../../src/domain/sealing.js'
import { deriveKey } from '../../src/domain/secrets.js'
import { ISSUER, SECRET, testApp, testReplica, type TestApp } from '../fixtures/app.js'
import { testDatabase } from '../fixtures/database.js'
import { ecKeyPair } from '../fixtures/key-pair.js'

const EXPECTED = { typ: 'at+jwt', audience: 'https://api.test/' }
const now = () => Math.floor(Date.now() / 1000)
const claims = (changes: object = {}) => ({
  iss: ISSUER,
  aud: EXPECTED.audience,
  sub: 'reg_1',
  jti: 'jti-1',
  iat: now(),
  exp: now() + 3600,
  generation: 1,
  ...changes,
})
const encode = (value: unknown) =>
  Buffer.from(
    typeof value === 'string' || value instanceof Uint8Array ? value : JSON.stringify(value),
  ).toString('base64url')
const sealingKey = (secret: string) => deriveKey(Buffer.from(secret, 'base64'), 'signing-key-seal')

/** Our own private key, opened: to sign what the server never would. */
async function privateJwk({ pool }: Pick<TestApp, 'pool'>): Promise<JsonWebKey> {
  const { rows } = await pool.query('select kid, private_jwk_sealed from signing_keys')
  const [{ kid, private_jwk_sealed: sealed }] = rows
  return { kid, ...JSON.parse(unseal([sealingKey(SECRET)], kid, sealed)!) }
}

/** ES256, whatever the header says. */
function signed(header: unknown, payload: unknown, jwk: JsonWebKey): string {
  const content = `${encode(header)}.${encode(payload)}`
  const key = { key: jwk, format: 'jwk', dsaEncoding: 'ieee-p1363' } as const
  return `${content}.${sign('sha256', Buffer.from(content), key).toString('base64url')}`
}

async function refused(t: Test, { app }: TestApp, token: string, name: string, reason?: string) {
  const verified = await app.keys.verify(token, EXPECTED)
  t.match(verified, { ok: false, reason: reason ?? String }, name)
}

t.test('what we sign is ES256 under a published key, and verifies', async (t) => {
  const { app } = await testApp(t)
  const token = app.keys.sign('at+jwt', claims({ email: 'ä@example.com' }))
  const [key, ...others] = app.keys.jwks.keys as [Record<string, string>]
  t.same(others, [])
  t.same(Object.keys(key).toSorted(), ['alg', 'crv', 'kid', 'kty', 'use', 'x', 'y'], 'JOSE-07')
  t.match(key, { kty: 'EC', crv: 'P-256', use: 'sig', alg: 'ES256', x: /^[\w-]{43}$/ })
  t.equal(key.kid, await jose.calculateJwkThumbprint(key as jose.JWK))
  t.same(
    jose.decodeProtectedHeader(token),
    { alg: 'ES256', typ: 'at+jwt', kid: key.kid },
    '9068-01',
  )
  const { payload } = await jose.jwtVerify(token, await jose.importJWK(key as jose.JWK))
  t.same(await app.keys.verify(token, EXPECTED), { ok: true, claims: payload })
  t.equal(payload.email, 'ä@example.com')
})

t.test('JOSE-02, 8725-09, B39: a token is three parts of base64url and nothing else', async (t) => {
  const server = await testApp(t)
  const good = server.app.keys.sign('at+jwt', claims())
  const [header, payload, signature] = good.split('.') as [string, string, string]
  const tampered = encode(claims({ sub: 'reg_2' }))
  const table: [string, string][] = [
    ['empty', ''],
    ['one part', header],
    ['two parts', `${header}.${payload}`],
    ['no signature', `${header}.${payload}.`],
    ['four parts', `${good}.${signature}`],
    ['five parts, a JWE', `${good}.${signature}.${signature}`],
    ['an empty fourth part', `${good}.`],
    ['padding', `${good}=`],
    ['more padding', `${good}==`],
    ['padding inside', `${header}=.${payload}.${signature}`],
    ['white space before', ` ${good}`],
    ['white space after', `${good} `],
    ['a line end', `${good}\n`],
    ['a folded line', `${header}.\r\n ${payload}.${signature}`],
    ['a NUL', `${good}\0`],
    ['other base64', `${header}.${payload}.+/${signature.slice(2)}`],
    ['JSON serialization', JSON.stringify({ protected: header, payload, signature })],
    ['letters of another script', `${header}.${payload}.ａ${signature}`],
    ['an altered payload', `${header}.${tampered}.${signature}`],
    ['a header of no JSON', `${encode('x')}.${payload}.${signature}`],
    ['a null header', `${encode('null')}.${payload}.${signature}`],
    ['an array for a header', `${encode('[]')}.${payload}.${signature}`],
    ['a header of no UTF-8', `_w.${payload}.${signature}`],
    ['one character', `a.b.c`],
    ['JOSE-05: a signature of 63 octets', good.slice(0, -2)],
    ['JOSE-05: a signature of 65 octets', `${good}AA`],
    ['JOSE-05: all zero', `${header}.${payload}.${Buffer.alloc(64).toString('base64url')}`],
    ['a megabyte', `${header}.${'A'.repeat(1_000_000)}.${signature}`],
    ['many dots', '.'.repeat(100_000)],
  ]
  for (const [name, token] of table) await refused(t, server, token, name)

  const key = { key: await privateJwk(server), format: 'jwk' } as const
  const der = sign('sha256', Buffer.from(`${header}.${payload}`), key).toString('base64url')
  await refused(t, server, `${header}.${payload}.${der}`, 'JOSE-05: DER')
})

t.test('8725-01, 8725-02: the header chooses neither algorithm nor key', async (t) => {
  const server = await testApp(t)
  const jwk = await privateJwk(server)
  const published = server.app.keys.jwks.keys[0] as JsonWebKey
  const pem = createPublicKey({ key: published, format: 'jwk' }).export({
    type: 'spki',
    format: 'pem',
  })
  const stranger = ecKeyPair()
  const strangerJwk = stranger.publicKey.export({ format: 'jwk' })
  const good = { alg: 'ES256', typ: 'at+jwt', kid: jwk.kid }
  const ours = (header: object) => signed({ ...good, ...header }, claims(), jwk)
  const theirs = (header: object) =>
    signed({ ...good, ...header }, claims(), stranger.privateKey.export({ format: 'jwk' }))
  const hs256 = (secret: string | Buffer) => {
    const content = `${encode({ ...good, alg: 'HS256' })}.${encode(claims())}`
    return `${content}.${createHmac('sha256', secret).update(content).digest('base64url')}`
  }
  const unsigned = ours({ alg: 'none' }).replace(/[^.]*$/, '')

  const NOT_ALLOWED = 'wrong_header'
  const table: [string, string, string?][] = [
    ['B16: none, unsigned', unsigned, NOT_ALLOWED],
    ['B16: none, with a signature', ours({ alg: 'none' }), NOT_ALLOWED],
    ['nOnE', ours({ alg: 'nOnE' }), NOT_ALLOWED],
    ['es256', ours({ alg: 'es256' }), NOT_ALLOWED],
    ['ES384', ours({ alg: 'ES384' }), NOT_ALLOWED],
    ['RS256', ours({ alg: 'RS256' }), NOT_ALLOWED],
    ['no alg', ours({ alg: undefined })],
    ['a list of algs', ours({ alg: ['ES256'] })],
    ['B17: HS256 under our PEM', hs256(pem), NOT_ALLOWED],
    ['B17: HS256 under our JWK', hs256(JSON.stringify(published)), NOT_ALLOWED],
    ['B17: HS256 under nothing', hs256(''), NOT_ALLOWED],
    ['8725-04: another key', theirs({}), 'wrong_signature'],
    ['JOSE-04: its own jwk', theirs({ jwk: strangerJwk })],
    ['JOSE-04: its jwk alone', theirs({ jwk: strangerJwk, kid: undefined })],
    ['JOSE-04: jku', theirs({ jku: 'http://169.254.169.254/', kid: 'x' })],
    ['JOSE-04: x5c', theirs({ x5c: [encode('x')], kid: undefined })],
    ['an unknown kid', ours({ kid: 'x' }), 'unknown_key'],
    ['8725-06: a path for a kid', ours({ kid: '../../etc/passwd\0' })],
    ['8725-06: a long kid', ours({ kid: 'x'.repeat(10_000) })],
    ['JOSE-01: an unknown crit', ours({ crit: ['x-new'], 'x-new': 1 })],
    ['JOSE-01, B37: crit names a claim', ours({ crit: ['exp'] })],
    ['JOSE-01: crit is empty', ours({ crit: [] })],
    ['JOSE-01: crit is no list', ours({ crit: 'b64', b64: true })],
    ['JOSE-01, B37: b64 false', ours({ crit: ['b64'], b64: false })],
    ['8725-07: no typ', ours({ typ: undefined })],
    ['8725-07: typ JWT', ours({ typ: 'JWT' })],
    ['8725-08: typ of an assertion', ours({ typ: 'oauth-id-jag+jwt' })],
    ['8725-08: typ of a security event', ours({ typ: 'secevent+jwt' })],
    ['a typ with a parameter', ours({ typ: 'at+jwt;x=y' })],
    ['a typ in a list', ours({ typ: ['at+jwt'] })],
  ]
  for (const [name, token, reason] of table) await refused(t, server, token, name, reason)

  for (const header of [{}, { typ: 'application/at+jwt' }, { typ: 'AT+JWT' }, { kid: undefined }])
    t.match(
      await server.app.keys.verify(ours(header), EXPECTED),
      { ok: true },
      `8725-07: ${JSON.stringify(header)}`,
    )

  const json = JSON.stringify(claims())
  const payloads: [string, unknown][] = [
    ['8725-10: no UTF-8', Buffer.from(json.replace('reg_1', 'reg_\xff'), 'latin1')],
    ['UTF-16', Buffer.from(json, 'utf16le')],
    ['no JSON', 'x'],
    ['null', 'null'],
    ['a list', `[${json}]`],
    ['text', JSON.stringify(json)],
  ]
  for (const [name, payload] of payloads) await refused(t, server, signed(good, payload, jwk), name)
})

t.test('B23, B24: claims are all there, of their types, and in their time', async (t) => {
  const { app } = await testApp(t)
  const verify = async (changes: object, more: object = {}) => {
    const token = app.keys.sign('at+jwt', claims(changes))
    return app.keys.verify(token, { ...EXPECTED, ...more })
  }
  const skew = { clockToleranceSeconds: 60 }
  const old = { maxAgeSeconds: 600, ...skew }
  const table: [string, object, object, boolean][] = [
    ['7523-01: no iss', { iss: undefined }, {}, false],
    ['7523-01: another iss', { iss: `${ISSUER}/` }, {}, false],
    ['7523-03: no aud', { aud: undefined }, {}, false],
    ['7523-03: another aud', { aud: 'https://api.test' }, {}, false],
    ['7523-03: another case', { aud: 'HTTPS://api.test/' }, {}, false],
    ['7523-02: no sub', { sub: undefined }, {}, false],
    ['7523-07: no jti', { jti: undefined }, {}, false],
    ['no iat', { iat: undefined }, {}, false],
    ['7523-04: no exp', { exp: undefined }, {}, false],
    ['no generation', { generation: undefined }, {}, false],
    ['JOSE-10: exp as text', { exp: String(now() + 60) }, {}, false],
    ['JOSE-10: exp null', { exp: null }, {}, false],
    ['JOSE-10: negative', { exp: -1 }, {}, false],
    ['JOSE-10: iat as text', { iat: 'now' }, {}, false],
    ['expires now', { exp: now() }, {}, false],
    ['7523-04: 20 s past, within the skew', { exp: now() - 20 }, skew, true],
    ['7523-04: 60 s past', { exp: now() - 60 }, skew, false],
    ['7523-05: nbf beyond the skew', { nbf: now() + 120 }, skew, false],
    ['7523-05: nbf within the skew', { nbf: now() + 50 }, skew, true],
    ['7523-06: older, within the skew', { iat: now() - 620, exp: now() + 30 }, old, true],
    ['7523-04: to live longer than it may', { exp: now() + 661 }, old, false],
    ['7523-06: older, whatever its exp says', { iat: now() - 661 }, old, false],
    ['7523-06: old, where age does not count', { iat: now() - 1e6 }, skew, true],
    ['7523-06: from the future', { iat: now() + 120 }, old, false],
    ['C41: 50 s from the future', { iat: now() + 50, exp: now() + 650 }, old, true],
  ]
  for (const [name, changes, more, ok] of table) t.match(await verify(changes, more), { ok }, name)
})

t.test('7009-10: the twin of a signature is the same token by its jti', async (t) => {
  const { app } = await testApp(t)
  const good = app.keys.sign('at+jwt', claims())
  const bytes = Buffer.from(good.split('.')[2]!, 'base64url')
  const order = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n
  const s = order - BigInt(`0x${bytes.toString('hex', 32)}`)
  bytes.write(s.toString(16).padStart(64, '0'), 32, 'hex')
  const twin = `${good.slice(0, good.lastIndexOf('.'))}.${bytes.toString('base64url')}`
  t.not(twin, good)
  t.match(await app.keys.verify(twin, EXPECTED), { ok: true, claims: { jti: 'jti-1' } })
})

t.test('C26: replicas that start at once on an empty database make one key', async (t) => {
  const { url, pool } = await testDatabase(t)
  const replicas = await Promise.all([1, 2, 3].map(() => testReplica(t, url)))
  const { rows } = await pool.query('select kid from signing_keys')
  t.equal(rows.length, 1)
  for (const { app } of replicas) {
    const token = app.keys.sign('at+jwt', claims())
    t.equal(jose.decodeProtectedHeader(token).kid, rows[0].kid)
    for (const other of replicas)
      t.match(await other.app.keys.verify(token, EXPECTED), { ok: true })
  }
})

t.test(
  'SEC-04, SEC-09: the private key is sealed under SECRET, which may be rotated',
  async (t) => {
    const { url, pool } = await testDatabase(t)
    const { app } = await testReplica(t, url)
    const { rows } = await pool.query('select * from signing_keys')
    const [{ kid, public_jwk, private_jwk_sealed: sealed }] = rows
    const { d } = JSON.parse(unseal([sealingKey(SECRET)], kid, sealed)!)
    t.match(d, /^[\w-]{43}$/)
    t.notMatch(JSON.stringify(public_jwk), d)
    t.notMatch(sealed.toString('latin1'), d)

    const newer = randomBytes(32).toString('base64')
    const starts = (secret: string) =>
      buildApp(readConfig({ DATABASE_URL: url, SECRET: secret, LOG_LEVEL: 'silent' }))
    const refusal = /^SECRET does not open the signing key in this database/
    await t.rejects(starts(newer), { message: /^SECRET is none/ }, 'another secret')
    const rotated = await testReplica(t, url, { SECRET: `${newer},${SECRET}` })
    const token = rotated.app.keys.sign('at+jwt', claims())
    t.match(await app.keys.verify(token, EXPECTED), { ok: true }, 'old and new sign the same')

    await pool.query('update signing_keys set private_jwk_sealed = $1', [sealed.subarray(0, 20)])
    await t.rejects(starts(SECRET), { message: refusal }, 'cut short')
    await pool.query('update signing_keys set private_jwk_sealed = $1, kid = $2', [sealed, 'other'])
    await t.rejects(starts(SECRET), { message: refusal }, 'moved to another key id')
  },
)

t.test('JOSE-09: the newest key signs, keys in use verify, retired ones do not', async (t) => {
  const { url, pool } = await testDatabase(t)
  const old = await testReplica(t, url)
  const oldToken = old.app.keys.sign('at+jwt', claims())
  await pool.query(
    `update signing_keys set retired_at = now(), created_at = now() - interval '1 h'`,
  )
  const young = await testReplica(t, url)
  const youngToken = young.app.keys.sign('at+jwt', claims())
  await refused(t, { ...young, pool }, oldToken, 'of a retired key', 'unknown_key')

  await pool.query('update signing_keys set retired_at = null')
  const both = await testReplica(t, url)
  const header = jose.decodeProtectedHeader(both.app.keys.sign('at+jwt', claims()))
  t.equal(header.kid, jose.decodeProtectedHeader(youngToken).kid)
  t.equal(both.app.keys.jwks.keys.length, 2)
  for (const token of [oldToken, youngToken])
    t.match(await both.app.keys.verify(token, EXPECTED), { ok: true })

  const nameless = signed({ alg: 'ES256', typ: 'at+jwt' }, claims(), await privateJwk({ pool }))
  const reason = 'unknown_key'
  await refused(t, { ...both, pool }, nameless, 'B21: no kid', reason)
})

t.test('what is sealed opens under its key and name, unchanged', async (t) => {
  const [key, other] = [Buffer.alloc(32, 1), Buffer.alloc(32, 2)]
  const sealed = seal(key, 'kid-1', 'Grüße')
  t.equal(unseal([key], 'kid-1', sealed), 'Grüße')
  t.equal(unseal([other, key], 'kid-1', sealed), 'Grüße', 'under the second of two')
  t.notSame(seal(key, 'kid-1', 'Grüße'), sealed, 'a nonce of its own')
  t.equal(unseal([other], 'kid-1', sealed), undefined)
  t.equal(unseal([], 'kid-1', sealed), undefined)
  t.equal(unseal([key], 'kid-2', sealed), undefined, 'moved to another name')
  for (let i = 0; i < sealed.length; i++) {
    const altered = Buffer.from(sealed)
    altered[i]! ^= 1
    t.equal(unseal([key], 'kid-1', altered), undefined, `octet ${i} altered`)
    t.equal(unseal([key], 'kid-1', sealed.subarray(0, i)), undefined, `cut to ${i} octets`)
  }
  const empty = seal(key, 'kid-1', '')
  t.equal(unseal([key], 'kid-1', empty), '')
  t.equal(unseal([key], 'kid-1', empty.subarray(0, 16)), undefined, 'a tag of four octets')
})
