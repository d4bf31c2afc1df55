/** Sign-ins that must not succeed, and providers that are away, wrong or hostile. */
import { generateKeyPairSync } from 'node:crypto'
import { SignJWT, UnsecuredJWT } from 'jose'
import { t, test } from 'tap'
import { seal } from '../../src/domain/sealing.js'
import { deriveKey } from '../../src/domain/secrets.js'
import { ISSUER, testApp, testReplica, type Sender } from '../fixtures/app.js'
import { testIdentityProvider, verified } from '../fixtures/identity-provider.js'
import { OidcPerson } from '../fixtures/oidc-person.js'
import { startServer } from '../fixtures/process.js'
import { over, testGate } from '../fixtures/wire.js'

const PENDING = '__Host-registrar-sign-in-'
const idp = await testIdentityProvider(t)
const { app, config, pool } = await testApp(t, idp.env)
const CALLBACK = '/login/callback'
const OVER = { statusCode: 400, body: /<h1>This sign-in is over/ }
const UNVERIFIED = { statusCode: 400, body: /<h1>This sign-in could not be verified/ }
const AWAY = {
  statusCode: 503,
  headers: { 'retry-after': '5' },
  body: /<h1>Sign-in does not answer/,
}
/** Whoever writes such an address calls no operator. */
const REJECTED = { statusCode: 400, body: /<h1>Sign-in is not set up right/ }
const WRONG = { statusCode: 500, body: /<h1>Sign-in is not set up right/ }

/** To the provider and back, up to the callback's path. */
async function callback(person: OidcPerson, account: string | null = person.account) {
  const away = await person.get('/login?return_to=%2Fagents')
  return (await idp.signIn(away.headers.location!, account, person.there)).slice(ISSUER.length)
}

const alice = (at: Sender = app) => new OidcPerson(at, idp, 'alice')

async function signedIn(person: OidcPerson): Promise<boolean> {
  return (await person.get('/agents')).statusCode === 200
}

test('WEB-03: an answer to somebody else’s question signs nobody in', async (t) => {
  const attacker = alice()
  const url = await callback(attacker)
  const victim = new OidcPerson(app, idp, 'bob')
  t.match(await victim.get(url), OVER)
  await victim.get('/login')
  t.match(await victim.get(url), OVER, 'with a sign-in of their own under way')
  t.notOk(await signedIn(victim))
  t.equal((await attacker.get(url)).statusCode, 303)
  t.match(await attacker.get(url), OVER, 'nor twice')
})

test('state, iss and code must be those that were asked for', async (t) => {
  const tricks: [string, (query: URLSearchParams) => void, object][] = [
    ['no state', (query) => query.delete('state'), OVER],
    ['another state', (query) => query.set('state', 'x'.repeat(43)), OVER],
    ['a second state', (query) => query.append('state', 'y'), UNVERIFIED],
    ['a long state', (query) => query.set('state', 'x'.repeat(5000)), OVER],
    ['a state that is no name', (query) => query.set('state', '__proto__\0\r\n'), OVER],
    ['RFC 9207: another iss', (query) => query.set('iss', 'https://evil.example'), UNVERIFIED],
    ['RFC 9207: no iss', (query) => query.delete('iss'), UNVERIFIED],
    ['another code', (query) => query.set('code', 'x'), OVER],
    ['no code', (query) => query.delete('code'), UNVERIFIED],
    ['two codes', (query) => query.append('code', 'x'), UNVERIFIED],
    ['an id token as well', (query) => query.set('id_token', 'x'), UNVERIFIED],
  ]
  for (const [name, change, expected] of tricks) {
    const person = alice()
    const [path, text] = (await callback(person)).split('?')
    const query = new URLSearchParams(text)
    change(query)
    t.match(await person.get(`${path}?${query}`), expected, name)
    t.notOk(await signedIn(person), name)
  }
  for (const url of [CALLBACK, `${CALLBACK}?`, `${CALLBACK}?state=`, `${CALLBACK}?state=%00`])
    t.match(await alice().get(url), OVER, url)
})

test('what the browser keeps cannot be read, changed, moved or kept for later', async (t) => {
  const person = alice()
  const url = await callback(person)
  const state = new URLSearchParams(url.split('?')[1]).get('state')!
  const name = PENDING + state
  const good = person.cookies.get(name)!
  t.notMatch(Buffer.from(good, 'base64url').toString('latin1'), /agents|verifier|nonce/)
  const other = alice()
  await other.get('/login')
  const [, foreign] = [...other.cookies].find(([key]) => key.startsWith(PENDING))!
  const key = deriveKey(config.secrets[0]!, 'cookie')
  const late = seal(key, name, JSON.stringify({ until: Date.now() - 1, value: {} }))
  const flipped = Buffer.from(good, 'base64url')
  flipped[40]! ^= 1
  for (const value of [
    '',
    'x',
    foreign,
    flipped.toString('base64url'),
    late.toString('base64url'),
  ]) {
    person.cookies.set(name, value)
    t.match(await person.get(url), OVER)
  }
  person.cookies.set(name, good)
  t.equal((await person.get(url)).statusCode, 303)
})

test('an ID token that lies, or is signed by another, signs nobody in', async (t) => {
  const now = Math.floor(Date.now() / 1000)
  const lies: Record<string, object> = {
    'another nonce': { nonce: 'x' },
    'no nonce': { nonce: undefined },
    'another issuer': { iss: 'https://evil.example' },
    'another audience': { aud: 'another-client' },
    'two audiences': { aud: [idp.env.OIDC_CLIENT_ID, 'another-client'] },
    expired: { exp: now - 120 },
    'from the future': { iat: now + 120, nbf: now + 120 },
    'no exp': { exp: undefined },
    'a numeric subject': { sub: 42 },
    'an empty subject': { sub: '' },
    'no subject': { sub: undefined },
    'a subject with NUL': { sub: 'a\0b' },
    'a long subject': { sub: 'x'.repeat(256) },
  }
  for (const [name, lie] of Object.entries(lies)) {
    idp.idToken = (claims) => ({ ...claims, ...lie })
    const person = alice()
    t.match(
      await person.get(await callback(person)),
      { statusCode: 400, body: 'could not be' },
      name,
    )
    t.notOk(await signedIn(person), name)
  }
  idp.idToken = (claims) => claims
  idp.document = (path, body) => (path === '/token' ? { ...body, id_token: undefined } : body)
  const untold = alice()
  t.match(await untold.get(await callback(untold)), UNVERIFIED, 'none at all')
  idp.document = (_path, body) => body
})

test('JOSE-04, 8725-01: an ID token that is not signed by a key of the provider signs nobody in', async (t) => {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const jwt = (claims: object) => new SignJWT({ ...claims })
  const header = { alg: 'RS256', kid: 'r1' }
  const secret = Buffer.from(idp.env.OIDC_CLIENT_SECRET)
  const forgeries: Record<string, (claims: object) => string | Promise<string>> = {
    'another key': (claims) => jwt(claims).setProtectedHeader(header).sign(privateKey),
    'alg none': (claims) => new UnsecuredJWT({ ...claims }).encode(),
    'no signature': (claims) =>
      new UnsecuredJWT({ ...claims }).encode().replace('bm9uZSJ9', 'UlMyNTYifQ'),
    'the client secret': (claims) => jwt(claims).setProtectedHeader({ alg: 'HS256' }).sign(secret),
    'not a JWT': () => 'x',
  }
  for (const [name, forge] of Object.entries(forgeries)) {
    const person = alice()
    const away = (await person.get('/login?return_to=%2Fagents')).headers.location!
    const nonce = new URL(away).searchParams.get('nonce')
    const back = await idp.signIn(away, 'alice', person.there)
    const iat = Math.floor(Date.now() / 1000)
    const aud = idp.env.OIDC_CLIENT_ID
    const claims = { iss: idp.issuer, sub: 'alice', aud, nonce, iat, exp: iat + 300 }
    const id_token = await forge(claims)
    answering('/token', (response) =>
      response
        .setHeader('content-type', 'application/json')
        .end(JSON.stringify({ access_token: 'x', token_type: 'Bearer', id_token })),
    )
    t.match(await person.get(back.slice(ISSUER.length)), UNVERIFIED, name)
    idp.answer = idp.serve
    t.notOk(await signedIn(person), name)
  }
})

test('who cancels at the provider is told so, and may try again; nothing it says is repeated', async (t) => {
  const person = alice()
  const cancelled = await person.get(await callback(person, null))
  t.match(cancelled, { statusCode: 403, body: /<h1>You are not signed in/ })
  t.match(cancelled.body, `href="${ISSUER}/login?return_to=%2Fagents"`)
  for (const [error, expected] of Object.entries({
    access_denied: { statusCode: 403 },
    temporarily_unavailable: AWAY,
    server_error: AWAY,
    invalid_scope: REJECTED,
    '<script>alert(1)</script>': REJECTED,
    toString: REJECTED,
  })) {
    const again = alice()
    const away = new URL((await again.get('/login')).headers.location!)
    const query = new URLSearchParams({ error, error_description: '"><script>alert(1)</script>' })
    query.set('state', away.searchParams.get('state')!)
    query.set('iss', idp.issuer)
    const answer = await again.get(`${CALLBACK}?${query}`)
    t.match(answer, expected, error)
    t.notMatch(answer.body, /alert|script/)
  }
})

test('C31: a provider that is away is a 503 page that loses nothing, and needs no restart', async (t) => {
  const fresh = await testReplica(t, config.DATABASE_URL!, idp.env)
  const early = alice(fresh.app)
  await idp.shut()
  const closed = await early.get('/login?return_to=%2Fclaim%3Fclaim_attempt_token%3Dcat_x')
  t.match(closed, AWAY, 'before anything is known of it')
  t.match(closed.body, `href="${ISSUER}/login?return_to=%2Fclaim%3Fclaim_attempt_token%3Dcat_x"`)
  t.equal((await fresh.app.inject('/auth.md')).statusCode, 200, 'agents do not notice')
  await idp.open()
  const url = await callback(early)
  await idp.shut()
  const away = await early.get(url)
  t.match(away, AWAY, 'on the way back')
  t.match(away.body, `href="${ISSUER}/login?return_to=%2Fagents"`)
  await idp.open()
  t.match(
    await early.get(url),
    { statusCode: 303, headers: { location: `${ISSUER}/agents` } },
    'a reload goes on',
  )

  const broken: [string, Parameters<typeof answering>[1], object][] = [
    [
      '/token',
      (r) => r.writeHead(502, { 'content-type': 'text/html' }).end('<h1>Bad gateway'),
      AWAY,
    ],
    [
      '/token',
      (r) =>
        r.writeHead(500, { 'content-type': 'application/json' }).end('{"error":"server_error"}'),
      AWAY,
    ],
    ['/token', (r) => r.setHeader('content-type', 'application/json').end('{'), AWAY],
    ['/token', (r) => r.setHeader('content-type', 'text/html').end('hello'), AWAY],
    ['/token', (r) => r.destroy(), AWAY],
    ['/token', (r) => r.writeHead(302, { location: 'https://evil.example/' }).end(), WRONG],
    ['/jwks', (r) => r.writeHead(503).end(), AWAY],
    [
      '/jwks',
      (r) => r.setHeader('content-type', 'application/json').end('{"keys":[]}'),
      UNVERIFIED,
    ],
    ['/token', (r) => r.writeHead(401, { 'www-authenticate': 'Basic realm="x"' }).end('{}'), WRONG],
  ]
  for (const [path, misbehave, expected] of broken) {
    const { app: at } = await testReplica(t, config.DATABASE_URL!, idp.env)
    const person = alice(at)
    const back = await callback(person)
    answering(path, misbehave)
    t.match(await person.get(back), expected, `${path} ${misbehave}`)
    idp.answer = idp.serve
    t.notOk(await signedIn(person))
  }
})

test('a provider that was taken off the settings meanwhile signs nobody in', async (t) => {
  const person = alice()
  const url = await callback(person)
  const { env } = await testIdentityProvider(t)
  const { app: at } = await testReplica(t, config.DATABASE_URL!, env)
  t.match(await person.at(at).get(url), OVER)
})

test('metadata is read again in time, and the old serves on while the provider is away', async (t) => {
  const { app: at } = await testReplica(t, config.DATABASE_URL!, idp.env)
  const discoveries = () => idp.requests.filter((url) => url.startsWith('/.well-known/')).length
  const before = discoveries()
  await alice(at).get('/login')
  await alice(at).get('/login')
  t.equal(discoveries(), before + 1)
  const real = performance.now.bind(performance)
  const ahead = t.intercept(performance, 'now', { value: () => real() + 3_600_001 })
  await idp.shut()
  t.equal((await alice(at).get('/login')).statusCode, 303)
  await idp.open()
  await alice(at).get('/login')
  ahead.restore()
  t.equal(discoveries(), before + 2)
})

test('a provider that is set up wrong is the operator’s to mend, and says so to nobody else', async (t) => {
  const wrong: NodeJS.ProcessEnv[] = [
    { OIDC_CLIENT_SECRET: 'wrong' },
    { OIDC_ISSUER: `${idp.issuer}/nowhere` },
    { OIDC_ISSUER: `${idp.issuer}/` },
  ]
  for (const env of wrong) {
    const { app: at } = await testReplica(t, config.DATABASE_URL!, { ...idp.env, ...env })
    const answer = await alice(at).signIn('/')
    t.match(answer, WRONG, JSON.stringify(env))
    t.notMatch(answer.body, idp.issuer)
  }
  idp.document = (path, body) =>
    path.includes('openid') ? { ...body, issuer: 'https://evil.example' } : body
  const { app: at } = await testReplica(t, config.DATABASE_URL!, idp.env)
  t.match(await alice(at).get('/login'), WRONG)
  idp.document = (_path, body) => body
})

test('off localhost a provider is asked over TLS only', async (t) => {
  const { app: at } = await testReplica(t, config.DATABASE_URL!, {
    ...idp.env,
    ISSUER: 'https://agents.example.com',
    OIDC_ISSUER: idp.issuer.replace('http:', 'https:'),
  })
  t.match(await at.inject({ url: '/login' }), AWAY)
})

test('a provider that takes the secret in the body only gets it there', async (t) => {
  const seen: (string | undefined)[] = []
  idp.document = (path, body) =>
    path.includes('openid')
      ? { ...body, token_endpoint_auth_methods_supported: ['client_secret_post'] }
      : body
  const { app: at } = await testReplica(t, config.DATABASE_URL!, idp.env)
  idp.answer = (request, response) => {
    if (request.url === '/token') seen.push(request.headers.authorization)
    idp.serve(request, response)
  }
  await alice(at).signIn('/')
  idp.answer = idp.serve
  idp.document = (_path, body) => body
  t.same(seen, [undefined])
})

test('C31: with the database away the code waits: a reload, or a new try, goes on from there', async (t) => {
  const gate = await testGate(t, config.DATABASE_URL!)
  const { app: cut } = await testReplica(t, gate.url, idp.env)
  const person = alice(cut)
  const url = await callback(person)
  await gate.shut()
  t.match(await person.get(url), { statusCode: 503, body: 'Nothing was changed' })
  await gate.open()
  const reloaded = await person.get(url)
  t.match(reloaded, OVER, 'the provider takes a code once')
  t.match(
    reloaded.body,
    `href="${ISSUER}/login?return_to=%2Fagents"`,
    'but where it leads is known',
  )
  t.equal((await person.signIn('/agents')).headers.location, `${ISSUER}/agents`)
})

test('first sign-ins at the same moment on two replicas make one account; an address ends with one', async (t) => {
  const { app: other } = await testReplica(t, config.DATABASE_URL!, idp.env)
  for (let round = 0; round < 5; round += 1) {
    const name = `rush-${round}`
    idp.accounts[name] = verified(name)
    idp.accounts[`${name}-2`] = verified(name)
    const people = [app, other, app, other].map(
      (at, i) => new OidcPerson(at, idp, i < 2 ? name : `${name}-2`),
    )
    const urls: string[] = []
    for (const person of people) urls.push(await callback(person))
    const answers = await Promise.all(people.map((person, i) => person.get(urls[i]!)))
    t.same(
      answers.map(({ statusCode }) => statusCode),
      [303, 303, 303, 303],
    )
    const { rows } = await pool.query(
      'select subject, email from sign_ins join users on users.id = user_id where starts_with(subject, $1) order by 1',
      [name],
    )
    t.same(
      rows.map(({ subject }) => subject),
      [name, `${name}-2`],
    )
    t.equal(rows.filter(({ email }) => email === `${name}@example.com`).length, 1)
  }
})

test('SEC-06: no code, state, verifier or token of a sign-in is in a log line', async (t) => {
  const server = await startServer(t, {
    DATABASE_URL: config.DATABASE_URL,
    LOG_LEVEL: 'trace',
    ...idp.env,
  })
  const person = alice(over(server.url))
  const url = await callback(person)
  await person.get(url.replace(/iss=[^&]*/, 'iss=https%3A%2F%2Fevil.example'))
  await person.get(url)
  await person.get(url)
  const denied = alice(over(server.url))
  await denied.get(await callback(denied, null))
  server.child.kill('SIGTERM')
  const { stdout, stderr } = await server.ended
  t.match(stdout, '"reason":"unverified"')
  const query = new URLSearchParams(url.split('?')[1])
  for (const secret of [query.get('code')!, query.get('state')!, 'eyJ', ...person.cookies.values()])
    if (secret) t.notOk((stdout + stderr).includes(secret), secret.slice(0, 12))
})

/** `misbehave` answers at that path of the provider, until `answer` is set again. */
function answering(
  path: string,
  misbehave: (response: Parameters<typeof idp.serve>[1]) => void,
): void {
  idp.answer = (request, response) =>
    request.url!.split('?')[0] === path ? misbehave(response) : idp.serve(request, response)
}
