/** What holds for every token, not only for those that somebody thought of. */
import fc from 'fast-check'
import { t, test } from 'tap'
import { parseJwt } from '../src/domain/jwt.js'
import { OAuthError } from '../src/errors.js'
import { testApp } from './fixtures/app.js'
import { notify, present } from './fixtures/assertions.js'
import { base64url, compact, idJagClaims, testProvider } from './fixtures/provider.js'

const { app, pool } = await testApp(t)
const P = await testProvider(t)
await P.trust(pool)

/** Of this one nothing may be changed; it is never spent, so no refusal is owed to its having been used. */
const TOKEN = P.idJag()
const PARTS = TOKEN.split('.') as [string, string, string]
const HEADER = { typ: 'oauth-id-jag+jwt', alg: 'ES256', kid: 'p1' }
const UNLIMITED = { limit: async () => {} }
const RUNS = { numRuns: 300 }

async function refused(token: string): Promise<boolean> {
  try {
    await app.verifyIdJag(token, UNLIMITED)
    return false
  } catch (error) {
    return error instanceof OAuthError && error.statusCode === 400
  }
}

const position = fc.nat({ max: TOKEN.length - 1 })
const character = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom(...'ABCxyz0189-_') },
  { weight: 2, arbitrary: fc.constantFrom(...'.=+/ \t\n\r\0%"é\uFEFF\u200B') },
  { weight: 1, arbitrary: fc.string({ unit: 'binary', minLength: 1, maxLength: 3 }) },
)

test('the token that the properties change is accepted as it is', async (t) => {
  t.match(await app.verifyIdJag(TOKEN, UNLIMITED), { subject: 'alice' })
})

test('8725-03, JOSE-02: with a character replaced, inserted or deleted it is refused', async (t) => {
  const change = fc.tuple(position, character, fc.nat({ max: 3 }))
  await fc.assert(
    fc.asyncProperty(change, async ([at, text, deleted]) => {
      const changed = TOKEN.slice(0, at) + text + TOKEN.slice(at + deleted)
      fc.pre(changed !== TOKEN)
      return refused(changed)
    }),
    RUNS,
  )
  for (let at = 0; at <= TOKEN.length; at += 1)
    if (!(await refused(TOKEN.slice(0, at) + TOKEN.slice(at + 1))) && at < TOKEN.length)
      t.fail(`without its character ${at}`)
  for (const last of 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_')
    if (!TOKEN.endsWith(last)) t.ok(await refused(TOKEN.slice(0, -1) + last), `ending in ${last}`)
})

test('JOSE-02, 8725-03: no part of it counts in another place, or in another spelling', async (t) => {
  const others = [
    TOKEN,
    P.idJag({ sub: 'mallory' }),
    P.idJag({}, { key: P.p2 }),
    P.securityEvent(),
  ].map((token) => token.split('.'))
  const part = fc.tuple(fc.nat({ max: 3 }), fc.nat({ max: 2 })).map(([i, j]) => others[i]![j]!)
  await fc.assert(
    fc.asyncProperty(fc.tuple(part, part, part), async (parts) => {
      fc.pre(!others.some((other) => other.join('.') === parts.join('.')))
      return refused(parts.join('.'))
    }),
    RUNS,
  )
  const spellings: ((part: string) => string)[] = [
    (text) => `${text}=`,
    (text) => `${text}==`,
    (text) => ` ${text}`,
    (text) => `${text} `,
    (text) => `${text}\n`,
    (text) => `${text}\r\n`,
    (text) => `${text.slice(0, 20)}\n${text.slice(20)}`,
    (text) => `${text}A`,
    (text) => `${text}\0`,
    (text) => encodeURIComponent(`${text} `),
    (text) => Buffer.from(text).toString('base64url'),
    (text) => Buffer.from(text, 'base64url').toString('hex'),
  ]
  for (const [index, spell] of spellings.entries())
    for (const place of [0, 1, 2]) {
      const spelt = PARTS.with(place, spell(PARTS[place]!)).join('.')
      t.ok(await refused(spelt), `spelling ${index} of part ${place}`)
    }
})

test('8725-03: with other members in header or payload, or only other white space, it is refused', async () => {
  const members = fc.dictionary(
    fc.oneof(fc.constantFrom('alg', 'kid', 'typ', 'jwk', 'iss', 'sub', 'exp'), fc.string()),
    fc.oneof(fc.jsonValue(), fc.constantFrom('none', 'HS256', 'RS256', 'p2', 'mallory')),
  )
  const json = (text: string) => JSON.parse(Buffer.from(text, 'base64url').toString())
  await fc.assert(
    fc.asyncProperty(fc.nat({ max: 1 }), members, fc.boolean(), async (place, more, indented) => {
      const changed = JSON.stringify({ ...json(PARTS[place]!), ...more }, null, indented ? 1 : 0)
      const token = PARTS.with(place, base64url(changed)).join('.')
      fc.pre(token !== TOKEN)
      return refused(token)
    }),
    RUNS,
  )
})

test('parseJwt returns two objects or nothing, and never throws', async () => {
  const bytes = fc.uint8Array({ maxLength: 40 }).map((array) => base64url(Buffer.from(array)))
  const text = fc.oneof(fc.string({ unit: 'binary' }), fc.json(), fc.json().map(base64url), bytes)
  const token = fc.oneof(
    text,
    fc.array(text, { maxLength: 5 }).map((parts) => parts.join('.')),
  )
  const isPlain = (value: unknown) => Object.prototype.toString.call(value) === '[object Object]'
  fc.assert(
    fc.property(token, (candidate) => {
      const jwt = parseJwt(candidate)
      return jwt === undefined || (isPlain(jwt.header) && isPlain(jwt.payload))
    }),
    { numRuns: 3000 },
  )
  const object = fc.dictionary(fc.string(), fc.jsonValue())
  fc.assert(
    fc.property(object, object, (header, payload) => {
      const same = (a: unknown, b: unknown) => JSON.stringify(a) === JSON.stringify(b)
      const jwt = parseJwt(compact(header, payload))
      return jwt !== undefined && same(jwt.header, header) && same(jwt.payload, payload)
    }),
  )
})

test('B26: whatever a trusted provider signs, the answer is never a fault of ours', async () => {
  const value = fc.oneof(
    fc.jsonValue(),
    fc.string({ unit: 'binary', maxLength: 300 }),
    fc.double(),
    fc.constantFrom('\0', '\uD800', '1e400', '__proto__', 'x'.repeat(3000), [], {}, null),
  )
  const names = Object.keys(idJagClaims(''))
  const more = ['nbf', 'scope', 'resource', 'phone_number', 'tenant', 'events', 'amr', '__proto__']
  const claims = fc.dictionary(fc.constantFrom(...names, ...more), value, { maxKeys: 2 })
  await fc.assert(
    fc.asyncProperty(claims, async (changes) => {
      const own = { phone_number_verified: true, ...changes }
      const registered = await present(app, P.idJag(own))
      const notified = await notify(app, P.securityEvent(changes))
      return registered.statusCode < 500 && notified.statusCode < 500
    }),
    { numRuns: 100 },
  )
})

test('B40: whatever a provider publishes, the answer comes and is a refusal', async () => {
  const [ec, rsa] = P.jwks.keys
  const member = fc.constantFrom('kty', 'crv', 'x', 'y', 'n', 'e', 'alg', 'use', 'kid', 'key_ops')
  const value = fc.oneof(fc.jsonValue(), fc.constantFrom('EC', 'RSA', 'OKP', 'P-256', 'AQAB', 'p1'))
  const key = fc
    .tuple(fc.constantFrom(ec, rsa), fc.dictionary(member, value, { minKeys: 1, maxKeys: 3 }))
    .map(([jwk, changes]) => Object.assign({}, jwk, changes))
  const jwks = fc.oneof(
    fc.json(),
    fc.string({ unit: 'binary' }),
    fc
      .array(fc.oneof(key, fc.jsonValue()), { maxLength: 4 })
      .map((keys) => JSON.stringify({ keys })),
  )
  let published = ''
  let turn = 0
  P.answer = (_request, response) => response.end(published)
  const forger = await testProvider(t)
  await fc.assert(
    fc.asyncProperty(jwks, async (text) => {
      const issuer = `${P.issuer}/${(turn += 1)}`
      published = text
      await P.trust(pool, { issuer, jwks_uri: issuer })
      const claims = { ...idJagClaims(issuer), client_id: issuer }
      const { statusCode } = await present(app, compact(HEADER, claims, forger.p1))
      return [400, 503].includes(statusCode)
    }),
    { numRuns: 200 },
  )
})
