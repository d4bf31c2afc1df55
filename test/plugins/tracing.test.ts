/** Traces: what a request did and how long each part took, and nothing that anyone could use. */
import { createRequire } from 'node:module'
import { once } from 'node:events'
import { connect } from 'node:net'
import { test } from 'tap'
import {
  exchange,
  linkToken,
  poll,
  postForm,
  postJson,
  registerAnonymous,
  registerFor,
  testApp,
  testReplica,
} from '../fixtures/app.js'
import { present } from '../fixtures/assertions.js'
import { testCollector, type Received } from '../fixtures/collector.js'
import { testDatabase } from '../fixtures/database.js'
import { Person } from '../fixtures/person.js'
import { startServer } from '../fixtures/process.js'
import { testProvider } from '../fixtures/provider.js'
import { faults } from '../fixtures/settings.js'
import { listening } from '../fixtures/wire.js'

const loaded = () =>
  Object.keys(createRequire(import.meta.url).cache).filter((file) =>
    /node_modules.(@opentelemetry|prom-client)/.test(file),
  )

// First: what is loaded stays.
test('without the setting nothing is sent, nor is anything loaded that could', async (t) => {
  const collector = await testCollector(t)
  const { app } = await testApp(t, { OTEL_SERVICE_NAME: 'x' })
  const { identity_assertion } = await registerAnonymous(app)
  await exchange(app, identity_assertion)
  await app.close()
  t.same(loaded(), [])
  t.equal(collector.bodies.length, 0)
  const on = { OTEL_EXPORTER_OTLP_ENDPOINT: collector.endpoint, METRICS_PORT: '0' }
  await testApp(t, on)
  t.not(loaded().length, 0, 'and with it there is')
})

test('settings that cannot be used', async (t) => {
  for (const url of ['collector:4318', 'ftp://c.test', 'http://', 'http://a b'])
    t.match(faults({ OTEL_EXPORTER_OTLP_ENDPOINT: url }), [/^OTEL_EXPORTER_OTLP_ENDPOINT: /], url)
  for (const share of ['1.1', '-1', 'all', '1e-3'])
    t.match(faults({ OTEL_TRACES_SAMPLER_ARG: share }), [/^OTEL_TRACES_SAMPLER_ARG: /], share)
  t.same(faults({ OTEL_EXPORTER_OTLP_ENDPOINT: 'https://c.test/otlp/' }), [])
})

test('an exchange is one trace: the request, and in it each statement', async (t) => {
  const collector = await testCollector(t)
  const { app } = await testApp(t, { OTEL_EXPORTER_OTLP_ENDPOINT: `${collector.endpoint}/otlp/` })
  const at = await listening(app)
  const { identity_assertion } = await registerAnonymous(at)
  const answer = await exchange(at, identity_assertion)
  await exchange(at, 'a.b.c')
  await at.inject({ url: '/nowhere?a=b' })
  await at.inject({ url: '/healthz' })
  await app.close()

  t.same([...new Set(collector.paths)], ['/otlp/v1/traces'])
  t.match(collector.resource(), {
    'service.name': 'agent-registrar',
    'service.version': /^\d+\.\d+\.\d+$/,
  })
  const spans = collector.spans()
  const requests = spans.filter(({ kind }) => kind === 2)
  t.same(
    requests.map(({ name }) => name),
    ['POST /agent/identity', 'POST /oauth2/token', 'POST /oauth2/token', 'GET'],
  )
  const [registered, exchanged, refused, lost] = requests as [
    Received,
    Received,
    Received,
    Received,
  ]
  t.match(exchanged.attributes, {
    'http.request.method': 'POST',
    'http.route': '/oauth2/token',
    'http.response.status_code': 200,
    'registrar.request_id': answer.headers['x-request-id'],
    'registrar.surface': 'token',
    'registrar.outcome': 'ok',
  })
  t.match(refused.attributes, {
    'registrar.outcome': 'refused',
    'registrar.error': 'invalid_grant',
    'registrar.reason': 'not_compact',
  })
  t.equal(lost.attributes['http.route'], undefined)
  const within = (parent: Received) =>
    spans.filter(({ parentSpanId, traceId }) => {
      return parentSpanId === parent.spanId && traceId === parent.traceId
    })
  t.same(
    within(registered).map(({ name }) => name),
    ['with'],
  )
  t.same(
    within(exchanged).map(({ name }) => name),
    ['select', 'insert'],
  )
  t.match(within(exchanged)[0], {
    kind: 3,
    attributes: {
      'db.system.name': 'postgresql',
      'db.query.text': /^select [^]* where registrations\.id = any\(\$\d+\)/,
    },
  })
  for (const { startTimeUnixNano: from, endTimeUnixNano: to } of spans)
    t.ok(BigInt(from) <= BigInt(to))
  t.equal(within(refused).length, 0)
  t.equal(spans.length, requests.length + 3, 'and nothing of what no request did, nor of probes')
})

test('no secret, address or value is in a trace', async (t) => {
  const collector = await testCollector(t)
  const provider = await testProvider(t)
  const { app, pool } = await testApp(t, { OTEL_EXPORTER_OTLP_ENDPOINT: collector.endpoint })
  await provider.trust(pool)
  const alice = await Person.signedIn(app, 'alice@example.com')
  const anonymous = await registerAnonymous(app)
  const hinted = await registerFor(app, 'alice@example.com')
  await alice.confirm(linkToken(hinted.claim), hinted.claim.user_code)
  const claimed = (await poll(app, hinted.claim_token)).json()
  await postForm(app, '/oauth2/revoke', { token: claimed.access_token })
  const idJag = provider.idJag()
  await present(app, idJag)
  await app.inject({
    url: `/claim/${hinted.claim_token}?claim_attempt_token=${hinted.claim_token}`,
  })
  // A failure whose message quotes a value.
  await pool.query(`alter table registrations add constraint no check (id = '') not valid`)
  t.equal((await postJson(app, '/agent/identity', { type: 'anonymous' })).statusCode, 500)
  await app.close()

  const all = collector.bodies.join()
  const secrets = [
    anonymous.claim_token,
    anonymous.identity_assertion,
    hinted.claim_token,
    linkToken(hinted.claim),
    claimed.access_token,
    claimed.identity_assertion,
    idJag,
    ...alice.cookies.values(),
  ]
  for (const secret of secrets) {
    const body = secret.replace(/^(clm|cat)_/, '').replace(/^.*\./, '')
    t.notOk(all.includes(body), secret.slice(0, 8))
  }
  t.notMatch(all, /alice|127\.0\.0\.1"|eyJ/)
  t.notMatch(all, hinted.registration_id)
  const failed = collector.spans().filter(({ status }) => status.code === 2)
  t.match(failed, [
    { name: 'with', attributes: { 'db.response.status_code': '23514' } },
    { name: 'POST /agent/identity', attributes: { 'registrar.outcome': 'error' } },
  ])
  const fetched = collector.spans().find(({ name }) => name === 'fetch jwks')!
  t.match(fetched.attributes, { 'server.address': new URL(provider.issuer).host })
  const parent = collector.spans().find(({ spanId }) => spanId === fetched.parentSpanId)
  t.equal(parent?.name, 'POST /agent/identity')
})

test('a caller’s traceparent is a parent, when it is one, and decides nothing', async (t) => {
  const collector = await testCollector(t)
  const { app } = await testApp(t, { OTEL_EXPORTER_OTLP_ENDPOINT: collector.endpoint })
  const [traceId, spanId] = ['0af7651916cd43dd8448eb211c80319c', 'b7ad6b7169203331']
  const parents = [
    `00-${traceId}-${spanId}-01`,
    `00-${traceId}-${spanId}-00`,
    `cc-${traceId}-${spanId}-00`,
    `ff-${traceId}-${spanId}-01`,
    `00-${'0'.repeat(32)}-${spanId}-01`,
    `00-${traceId}-${'0'.repeat(16)}-01`,
    `00-${traceId.toUpperCase()}-${spanId}-01`,
    `00-${traceId}-${spanId}-01, 00-${traceId}-${spanId}-01`,
    'x'.repeat(5000),
    '',
  ]
  for (const traceparent of parents)
    await app.inject({
      url: '/auth.md',
      headers: { traceparent, tracestate: 'evil=1', baggage: 'evil=1' },
    })
  await app.close()
  const spans = collector.spans()
  t.equal(spans.length, parents.length, 'whatever its flag says')
  t.same(
    spans.map((span) => span.traceId === traceId && span.parentSpanId === spanId),
    parents.map((_, i) => i < 3),
  )
  t.same(
    spans.slice(3).map(({ parentSpanId }) => parentSpanId ?? ''),
    parents.slice(3).map(() => ''),
  )
  t.notMatch(collector.bodies.join(), 'evil')
})

test('a share of requests, also none; and one that was aborted', async (t) => {
  const collector = await testCollector(t)
  const { url } = await testDatabase(t)
  const ON = { OTEL_EXPORTER_OTLP_ENDPOINT: collector.endpoint }
  const { app: none } = await testReplica(t, url, { ...ON, OTEL_TRACES_SAMPLER_ARG: '0' })
  await registerAnonymous(none)
  await none.close()
  t.equal(collector.bodies.length, 0)

  const { app } = await testReplica(t, url, ON)
  const at = await listening(app)
  const aborted = new Promise<void>((resolve) => {
    app.endings.push(({ outcome }) => outcome === 'aborted' && resolve())
  })
  const started = new Promise<void>((resolve) => {
    app.server.once('request', () => resolve())
  })
  const socket = connect(Number(new URL(at.url).port), '127.0.0.1')
  await once(socket, 'connect')
  socket.write(
    'POST /oauth2/token HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 9\r\n\r\na',
  )
  await started
  socket.destroy()
  await aborted
  await app.close()
  t.match(collector.spans(), [
    {
      name: 'POST /oauth2/token',
      attributes: { 'registrar.outcome': 'aborted', 'http.response.status_code': undefined },
    },
  ])
})

test('a collector that is away is said once, and holds nothing up', async (t) => {
  const { url } = await testDatabase(t)
  const collector = await testCollector(t)
  collector.status = 400
  const server = await startServer(t, {
    DATABASE_URL: url,
    OTEL_EXPORTER_OTLP_ENDPOINT: collector.endpoint,
    OTEL_SERVICE_NAME: 'registrar-test',
  })
  t.equal((await fetch(`${server.url}/auth.md`)).status, 200)
  server.child.kill('SIGTERM')
  const { code, stdout } = await server.ended
  t.equal(code, 0)
  t.equal(stdout.match(/could not send traces/g)?.length, 1)
  t.match(collector.resource(), { 'service.name': 'registrar-test' })

  const away = await startServer(t, {
    DATABASE_URL: url,
    OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:9',
  })
  t.equal((await fetch(`${away.url}/auth.md`)).status, 200)
  away.child.kill('SIGTERM')
  t.equal((await away.ended).code, 0)
})
