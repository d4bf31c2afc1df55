/** HTTP-15: whether a replica can serve. The caller learns no more than that; the operator's log says why not. */
import { once } from 'node:events'
import { Agent, get, type IncomingMessage } from 'node:http'
import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { test, type Test } from 'tap'
import * as agents from './fixtures/app.js'
import { testDatabase } from './fixtures/database.js'
import { startServer, type Running } from './fixtures/process.js'
import { over } from './fixtures/wire.js'

/** `said` so far, as soon as it has `text`; the process may be slower than its answer. */
async function hears({ said }: Running, text: RegExp): Promise<void> {
  while (!text.test(said.stdout)) await sleep(10)
}

async function isUnready(t: Test, url: string, why: string) {
  const answer = await over(url).inject({ url: '/readyz' })
  t.equal(answer.statusCode, 503, why)
  t.match(answer.headers, { 'retry-after': /^\d+$/, 'cache-control': 'no-store' }, why)
  t.same(
    answer.json(),
    {
      error: 'temporarily_unavailable',
      error_description: 'The service cannot answer now. Try again soon.',
    },
    'without the reason',
  )
  t.equal((await fetch(`${url}/healthz`)).status, 200, 'it is alive')
}

test('HTTP-15: it is ready while the database is writable, complete and has its key', async (t) => {
  const { url: DATABASE_URL, pool } = await testDatabase(t)
  const server = await startServer(t, { DATABASE_URL })
  const { url } = server
  const database = new URL(DATABASE_URL).pathname.slice(1)
  const replaceConnections = `select pg_terminate_backend(pid) from pg_stat_activity
    where datname = current_database() and application_name = 'agent-registrar'`
  const faults: [why: RegExp, make: string, mend: string][] = [
    [
      /SECRET does not open the signing key .* sealed under another/,
      `insert into signing_keys (kid, public_jwk, private_jwk_sealed)
        select 'another', public_jwk || '{"kid":"another"}', '' from signing_keys`,
      `delete from signing_keys where kid = 'another'`,
    ],
    [
      /lacks migrations \(0001_/,
      'alter table migrations rename to moved',
      'alter table moved rename to migrations',
    ],
    [
      /relation .*signing_keys.* does not exist/,
      'alter table signing_keys rename to moved',
      'alter table moved rename to signing_keys',
    ],
    [
      /in a read-only transaction/,
      `alter database ${database} set default_transaction_read_only = on`,
      `alter database ${database} reset default_transaction_read_only`,
    ],
  ]
  const admin = await pool.connect()
  t.teardown(() => admin.release())
  for (const [why, make, mend] of faults) {
    await admin.query(make)
    await admin.query(replaceConnections)
    // Probed, as by a load balancer: a connection may have been lost besides.
    do await isUnready(t, url, String(why))
    while (!why.test(server.said.stdout))
    server.said.stdout = ''
    // Nothing else makes it try anew: it is not sent requests.
    await admin.query(mend)
    while ((await fetch(`${url}/readyz`)).status !== 200) await sleep(20)
  }
  const ready = await over(url).inject({ url: '/readyz' })
  t.equal(ready.statusCode, 200)
  t.same(ready.json(), { status: 'ready' })
})

test('an issuer with a path has its health at the root as well, where probes look for it', async (t) => {
  const { app } = await agents.testApp(t, { ISSUER: 'http://localhost:8000/tenant' })
  for (const below of ['', '/tenant'])
    for (const [path, status] of [
      ['/healthz', 'ok'],
      ['/readyz', 'ready'],
    ] as const) {
      const answer = await app.inject({ url: below + path })
      t.equal(answer.statusCode, 200, below + path)
      t.same(answer.json(), { status })
    }
  t.equal((await app.inject({ url: '/login' })).statusCode, 404, 'nothing else is there')
})

test('C39: told to stop it is unready first, and still serves whoever comes', async (t) => {
  const { url: DATABASE_URL } = await testDatabase(t)
  const server = await startServer(t, { DATABASE_URL, STOP_GRACE_SECONDS: '6' })
  const { url, child } = server
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  t.teardown(() => agent.destroy())
  const kept = async (path: string): Promise<IncomingMessage> => {
    const [answer] = await once(get(url + path, { agent }), 'response')
    answer.resume()
    await once(answer, 'end')
    return answer
  }
  t.equal((await kept('/readyz')).headers.connection, 'keep-alive')
  child.kill('SIGTERM')
  await hears(server, /"stopping"/)
  const last = await kept('/healthz')
  t.match(last, { statusCode: 200, headers: { connection: 'close' } }, 'on the connection it had')
  await isUnready(t, url, 'on a new one')
  const { identity_assertion } = await agents.registerAnonymous(over(url))
  t.equal((await agents.exchange(over(url), identity_assertion)).statusCode, 200)
  t.match(await server.ended, { code: 0 })
  t.notMatch(server.said.stdout, /"level":[45]0/, 'a stop is nothing to be alerted of')
  await t.rejects(fetch(`${url}/healthz`))
})

test('C39: connections that send nothing, or never an end, do not hold a stop', async (t) => {
  const { url: DATABASE_URL } = await testDatabase(t)
  const server = await startServer(t, { DATABASE_URL })
  const { port } = new URL(server.url)
  for (const sent of ['', 'GET /healthz HT', 'POST /oauth2/token HTTP/1.1\r\nHost: x\r\n']) {
    const socket = connect(Number(port), '127.0.0.1')
    t.teardown(() => socket.destroy())
    socket.on('error', () => {})
    await once(socket, 'connect')
    socket.write(sent)
  }
  t.equal((await fetch(`${server.url}/healthz`)).status, 200)
  server.child.kill('SIGTERM')
  t.match(await server.ended, { code: 0 })
})
