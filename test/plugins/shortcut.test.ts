/** The documents over a socket: what is answered before the framework, and what is not, is the same. */
import { once } from 'node:events'
import { Agent, request as httpRequest, type IncomingMessage, type RequestOptions } from 'node:http'
import { text } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import { test } from 'tap'
import { testApp } from '../fixtures/app.js'
import { testCollector } from '../fixtures/collector.js'
import { testDatabase } from '../fixtures/database.js'
import { scrape } from '../fixtures/metrics.js'
import { startServer } from '../fixtures/process.js'
import { listening } from '../fixtures/wire.js'

const DOCUMENTS = [
  '/.well-known/oauth-protected-resource',
  '/.well-known/oauth-authorization-server',
  '/.well-known/jwks.json',
  '/auth.md',
]
/** No document has it: a condition is for the framework to look at. */
const CONDITION = { 'if-none-match': '"x"' }

async function ask(url: string, options: RequestOptions = {}, body?: string) {
  const request = httpRequest(url, options)
  request.end(body)
  const [answer] = (await once(request, 'response')) as [IncomingMessage]
  const { statusCode, headers } = answer
  return { statusCode, headers, body: await text(answer) }
}

test('a document is the same on either way', async (t) => {
  const { app } = await testApp(t, { ISSUER: 'http://localhost:8000/x-y', METRICS_PORT: '0' })
  const { url } = await listening(app)
  const paths = [
    '/.well-known/oauth-authorization-server/x-y',
    '/.well-known/oauth-protected-resource',
    '/x-y/.well-known/jwks.json',
    '/x-y/auth.md',
  ]
  for (const path of paths) {
    const [direct, routed] = [await ask(url + path), await ask(url + path, { headers: CONDITION })]
    t.equal(direct.statusCode, 200, path)
    t.equal(direct.body, routed.body)
    t.match(direct.headers['x-request-id'], /^[\da-f]{32}$/)
    t.not(direct.headers['x-request-id'], routed.headers['x-request-id'])
    for (const { headers } of [direct, routed])
      for (const name of ['x-request-id', 'date']) delete headers[name]
    t.same(direct.headers, routed.headers)

    const etag = direct.headers.etag as string
    const known = await ask(url + path, { headers: { 'if-none-match': etag } })
    t.match(known, { statusCode: 304, body: '' })
    const head = await ask(url + path, { method: 'HEAD' })
    t.match(head, { statusCode: 200, body: '', headers: { etag } })
    t.equal((await ask(`${url}${path}?a=b`)).body, direct.body)
    t.equal((await ask(url + path, { method: 'POST' })).statusCode, 405)
  }
  t.equal((await ask(`${url}/auth.md`)).statusCode, 404)
  const { value } = await scrape(app)
  const counted = { surface: 'discovery', outcome: 'ok', status: '2xx' }
  t.equal(value('registrar_http_requests_total', counted), 4 * 4, 'and each is counted')
})

test('requests follow each other on one connection, with a body or without', async (t) => {
  const { app } = await testApp(t)
  const { url } = await listening(app)
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  t.teardown(() => agent.destroy())
  const ports = new Set<unknown>()
  agent.on('free', (socket) => ports.add(socket.localPort))
  const path = `${url}/auth.md`
  const { body } = await ask(path, { agent })
  // Longer than what is read ahead, so that it has to be thrown away.
  const long = await ask(
    path,
    { agent, headers: { 'content-length': 200_000 } },
    'x'.repeat(200_000),
  )
  t.equal(long.body, body)
  t.equal((await ask(`${url}/healthz`, { agent })).statusCode, 200)
  t.equal((await ask(path, { agent })).body, body)
  t.equal(ports.size, 1)
})

test('its line in the log is as that of any other', async (t) => {
  const { url: DATABASE_URL } = await testDatabase(t)
  for (const [TRUST_PROXY, address] of [
    ['false', '127.0.0.1'],
    ['1', '203.0.113.7'],
    ['127.0.0.0/8', '203.0.113.7'],
  ]) {
    const server = await startServer(t, { DATABASE_URL, LOG_LEVEL: 'info', TRUST_PROXY })
    const headers = { 'x-forwarded-for': '198.51.100.1, 203.0.113.7' }
    for (const path of DOCUMENTS)
      for (const more of [
        { 'x-request-id': 'direct-1' },
        { 'x-request-id': 'routed-1', ...CONDITION },
      ]) {
        const answer = await ask(server.url + path, { headers: { ...headers, ...more } })
        t.equal(answer.headers['x-request-id'], more['x-request-id'])
      }
    const told = () =>
      server.said.stdout
        .split('\n')
        .flatMap((line) => (line.includes('"reqId"') ? [JSON.parse(line)] : []))
    while (told().length < 2 * DOCUMENTS.length) await sleep(10)
    for (const [i, line] of told().entries()) {
      const { time, responseTime, pid, hostname, ...rest } = line
      t.ok(responseTime >= 0 && responseTime < 10_000 && time && pid && hostname)
      t.strictSame(rest, {
        level: 30,
        reqId: i % 2 === 0 ? 'direct-1' : 'routed-1',
        req: { method: 'GET', url: DOCUMENTS[i >> 1], remoteAddress: address },
        res: { statusCode: 200 },
        surface: 'discovery',
        outcome: 'ok',
        msg: 'request completed',
      })
    }
  }
})

test('C39: told to stop, it ends the connection after a document too', async (t) => {
  const { app } = await testApp(t)
  const { url } = await listening(app)
  t.equal((await ask(`${url}/auth.md`)).headers.connection, 'keep-alive')
  app.drain()
  t.equal((await ask(`${url}/auth.md`)).headers.connection, 'close')
})

test('with traces on, documents have theirs', async (t) => {
  const collector = await testCollector(t)
  const { app } = await testApp(t, { OTEL_EXPORTER_OTLP_ENDPOINT: collector.endpoint })
  const { url } = await listening(app)
  await ask(`${url}/auth.md`)
  await app.close()
  t.match(collector.spans(), [{ name: 'GET /auth.md' }])
})
