/** The log: one line for each request, when it has ended (SEC-06, HTTP-13). */
import { once } from 'node:events'
import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { test, type Test } from 'tap'
import { outcomeOf, surfaceOf } from '../../src/domain/outcome.js'
import {
  callApi,
  exchange,
  linkToken,
  poll,
  postForm,
  postJson,
  registerAnonymous,
  registerFor,
  testApp,
} from '../fixtures/app.js'
import { testDatabase } from '../fixtures/database.js'
import { Person } from '../fixtures/person.js'
import { startServer, type Running } from '../fixtures/process.js'
import { blocked } from '../fixtures/replicas.js'
import { over, testGate } from '../fixtures/wire.js'

interface Line {
  level: number
  msg: string
  reqId?: string
  req?: { method: string; url: string; remoteAddress: string }
  res?: { statusCode: number }
  responseTime?: number
  surface?: string
  outcome?: string
  error?: string
  reason?: string
  description?: string
}

const linesOf = ({ stdout }: { stdout: string }): Line[] =>
  stdout
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line))

/** Lines that tell of requests, once there are so many. */
async function told({ said }: Running, at: number): Promise<Line[]> {
  for (;;) {
    const lines = linesOf(said).filter(({ reqId }) => reqId !== undefined)
    if (lines.length >= at) return lines
    await sleep(10)
  }
}

async function logged(t: Test, env: NodeJS.ProcessEnv = {}) {
  const { url, pool } = await testDatabase(t)
  const server = await startServer(t, { DATABASE_URL: url, LOG_LEVEL: 'trace', ...env })
  let before = 0
  /** The lines since the last call, at least `least` of them. */
  const news = async (least = 1) => {
    const lines = await told(server, before + least)
    return lines.slice(before, (before = lines.length))
  }
  return { app: over(server.url), server, news, databaseUrl: url, pool }
}

test('each request is one line, with what it was and why it was refused', async (t) => {
  const { app, news } = await logged(t)
  const registered = await registerAnonymous(app)
  t.match(await news(), [
    {
      level: 30,
      msg: 'request completed',
      reqId: /^[\da-f]{32}$/,
      req: { method: 'POST', url: '/agent/identity', remoteAddress: '127.0.0.1' },
      res: { statusCode: 200 },
      responseTime: Number,
      surface: 'identity',
      outcome: 'ok',
      error: undefined,
    },
  ])
  const cases: [() => Promise<unknown>, object][] = [
    [() => exchange(app, registered.identity_assertion), { surface: 'token', outcome: 'ok' }],
    [
      () => exchange(app, 'a.b.c'),
      { surface: 'token', outcome: 'refused', error: 'invalid_grant', reason: 'not_compact' },
    ],
    [
      () => poll(app, registered.claim_token),
      { surface: 'token', error: 'authorization_pending', reason: 'pending' },
    ],
    [() => poll(app, 'clm_x'), { error: 'expired_token', reason: 'unknown' }],
    [
      () => postForm(app, '/oauth2/token', { grant_type: 'password' }),
      { error: 'unsupported_grant_type', reason: undefined },
    ],
    [
      () => postJson(app, '/agent/identity', { type: 'service_auth' }),
      { surface: 'identity', error: 'invalid_request', reason: 'schema' },
    ],
    [
      () => postForm(app, '/agent/identity', {}),
      { error: 'invalid_request', reason: 'fst_err_ctp_invalid_media_type' },
    ],
    [
      () => postJson(app, '/agent/identity/claim', { claim_token: registered.claim_token }),
      { surface: 'claim', error: 'invalid_request', reason: 'hint_missing' },
    ],
    [
      () =>
        postJson(app, '/agent/identity/claim', { claim_token: 'clm_x', login_hint: 'a@b.test' }),
      { surface: 'claim', error: 'invalid_claim_token', reason: 'unknown' },
    ],
    [() => postForm(app, '/oauth2/revoke', { token: 'x' }), { surface: 'revoke', outcome: 'ok' }],
    [
      () => postForm(app, '/oauth2/introspect', { token: 'x' }),
      { surface: 'introspect', outcome: 'refused', error: 'invalid_client' },
    ],
    [() => callApi(app, 'x'), { surface: 'api', error: 'invalid_token' }],
    [
      () => app.inject({ url: '/.well-known/jwks.json' }),
      { surface: 'discovery', outcome: 'ok', res: { statusCode: 200 } },
    ],
    [() => app.inject({ url: '/nowhere' }), { surface: 'none', error: 'not_found' }],
    [
      () => app.inject({ method: 'OPTIONS', url: '/oauth2/token' }),
      { surface: 'none', outcome: 'ok', error: undefined },
    ],
    [
      () => app.inject({ url: '/oauth2/token' }),
      { surface: 'none', error: 'method_not_allowed', res: { statusCode: 405 } },
    ],
    // No hook runs for it.
    [() => app.inject({ url: '/%zz' }), { surface: 'none', error: 'invalid_request' }],
    [
      () =>
        app.inject({
          method: 'POST',
          url: '/agent/event/notify',
          payload: 'x',
          headers: { 'content-type': 'application/secevent+jwt' },
        }),
      { surface: 'events', error: 'invalid_request', reason: 'unreadable' },
    ],
    [
      () =>
        app.inject({
          method: 'POST',
          url: '/agent/auth/revoke',
          payload: 'x',
          headers: { 'content-type': 'application/logout+jwt' },
        }),
      { surface: 'events', error: 'invalid_request', reason: 'unreadable' },
    ],
    [
      () => app.inject({ method: 'POST', url: '/login', headers: { origin: 'https://evil.test' } }),
      { surface: 'pages', outcome: 'refused', error: 'forbidden' },
    ],
  ]
  for (const [send, expected] of cases) {
    await send()
    t.match(await news(), [{ msg: 'request completed', ...expected }], JSON.stringify(expected))
  }
})

test('the claim page says in the log why it showed what it did', async (t) => {
  const { app, news } = await logged(t)
  const alice = await Person.signedIn(app, 'alice@example.com')
  const { claim } = await registerFor(app, 'alice@example.com')
  await alice.openClaim(linkToken(claim))
  await news(4)
  const wrong = claim.user_code === '111111' ? '222222' : '111111'
  for (const [code, reason] of [
    ['12', 'no_code'],
    [wrong, 'wrong_code'],
  ] as const) {
    await alice.confirm(linkToken(claim), code)
    const page = { surface: 'pages', outcome: 'refused', error: 'claim_refused', reason }
    t.match((await news(2)).at(-1), page)
  }
  await alice.openClaim('cat_unknown')
  t.match(await news(), [{ error: 'claim_refused', reason: 'not_found' }])
  await alice.confirm(linkToken(claim), claim.user_code)
  await alice.openClaim(linkToken(claim))
  t.match((await news(3)).at(-1), { outcome: 'ok', error: undefined, reason: undefined })
})

test('probes are quiet while all is well, and a failure has a line with its cause', async (t) => {
  const { url } = await testDatabase(t)
  const gate = await testGate(t, url)
  const server = await startServer(t, { DATABASE_URL: gate.url })
  const app = over(server.url)
  for (const path of ['/healthz', '/readyz']) await app.inject({ url: path })
  await gate.shut()
  await app.inject({ url: '/readyz' })
  await registerAnonymous(app)
  const lines = await told(server, 3)
  t.match(lines, [
    { level: 50, msg: 'request failed', err: { type: String } },
    { level: 50, msg: 'request failed', err: { type: String } },
    {
      msg: 'request completed',
      surface: 'identity',
      outcome: 'unavailable',
      error: 'temporarily_unavailable',
      reason: 'database_away',
    },
  ])
  t.equal(lines.length, 3)
})

test('a caller that hangs up before the answer has a line too, and only one', async (t) => {
  const { server, news, pool } = await logged(t)
  const head =
    'POST /oauth2/token HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n'
  const socket = connect(Number(new URL(server.url).port), '127.0.0.1')
  await once(socket, 'connect')
  socket.write(`${head}Content-Length: 99\r\n\r\ntoken=`)
  await sleep(50)
  socket.destroy()
  const [line, ...more] = await news()
  t.match(line, { msg: 'request aborted', surface: 'token', outcome: 'aborted', res: undefined })
  t.same(more, [])

  const { claim_token } = await registerFor(over(server.url), 'alice@example.com')
  await news()
  const lock = await pool.connect()
  await lock.query('begin; lock table registrations in access exclusive mode')
  const body = String(
    new URLSearchParams({ grant_type: 'urn:workos:agent-auth:grant-type:claim', claim_token }),
  )
  const impatient = connect(Number(new URL(server.url).port), '127.0.0.1')
  impatient.write(`${head}Content-Length: ${body.length}\r\n\r\n${body}`)
  await blocked(pool)
  impatient.destroy()
  t.match(await news(), [{ surface: 'token', outcome: 'aborted', res: undefined }])
  await lock.query('rollback')
  lock.release()
  await over(server.url).inject({ url: '/nowhere' })
  t.match(await news(), [{ surface: 'none' }], 'and none for the answer that nobody got')
})

test('every route has a surface, and its names are bounded', async (t) => {
  const { app } = await testApp(t, { ISSUER: 'http://localhost:8000/tenant' })
  await app.ready()
  const routes = ['/agent/identity', '/agent/identity/claim', '/oauth2/token', '/auth.md']
  for (const url of routes)
    t.not(
      app.findRoute({ method: url.endsWith('.md') ? 'GET' : 'POST', url: `/tenant${url}` }),
      null,
    )
  t.equal(surfaceOf('/agent/identity/claim/complete'), 'pages')
  t.equal(surfaceOf('/'), 'pages')
  t.equal(surfaceOf('/.well-known/oauth-authorization-server/tenant'), 'discovery')
  t.same([200, 303, 400, 404, 429, 500, 502, 503].map(outcomeOf), [
    'ok',
    'ok',
    'refused',
    'refused',
    'rate_limited',
    'error',
    'error',
    'unavailable',
  ])
})
