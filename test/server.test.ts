/** The server as operators run it: as a process, which starts or says why not, and stops when told. */
import { once } from 'node:events'
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { test } from 'tap'
import * as agents from './fixtures/app.js'
import { testDatabase } from './fixtures/database.js'
import { isSentence, operator, start, startServer, temporaryFolder } from './fixtures/process.js'
import { over } from './fixtures/wire.js'

const { SECRET } = agents

async function freed(url: string): Promise<boolean> {
  const server = createServer().listen(Number(new URL(url).port), '127.0.0.1')
  await once(server, 'listening')
  server.close()
  return true
}

test('the server does not start on a database that lacks migrations', async (t) => {
  const { url: DATABASE_URL } = await testDatabase(t, { empty: true })
  const lacking = /^The database lacks migrations \(0001_.*\)\. .*registrar -- migrate up\n$/
  const env = { DATABASE_URL, SECRET, PORT: '0' }
  const ended = await Promise.all([
    start(t, 'server', [], env).ended,
    start(t, 'cli', ['start'], env).ended,
    operator(t, env)('resource-servers', 'list'),
  ])
  for (const one of ended) isSentence(t, one, lacking)
})

test('settings that cannot be used are all named at once', async (t) => {
  const env = {
    ISSUER: 'http://agents.example',
    PORT: 'eighty',
    SECRET: 'short',
    SIGN_IN: 'development',
    PRE_CLAIM_SCOPES: 'unknown',
  }
  const server = start(t, 'server', [], env).ended
  for (const { code, stderr } of [await server, await operator(t, env)('migrate', 'status')]) {
    t.equal(code, 1)
    t.match(stderr, /^These settings cannot be used:\n/)
    for (const name of ['ISSUER', 'PORT', 'PRE_CLAIM_SCOPES', 'SECRET', 'DATABASE_URL', 'SIGN_IN'])
      t.match(stderr, new RegExp(`^ {2}- ${name}: `, 'm'))
    t.notMatch(stderr, /short|^ +at /m)
  }
})

test('a database that cannot be reached is said in a sentence', async (t) => {
  const env = { SECRET, PORT: '0' }
  const away = /^The database cannot be reached: connect ECONNREFUSED .*:1\n$/
  // A name may have several addresses, which fail one by one.
  const server = start(t, 'server', [], { ...env, DATABASE_URL: 'postgres://localhost:1/x' }).ended
  const command = operator(t, { ...env, DATABASE_URL: 'postgres://127.0.0.1:1/x' })
  for (const one of [await server, await command('migrate', 'status')]) isSentence(t, one, away)
})

test('a host that is not there and a certificate that is not believed are told with their setting', async (t) => {
  const { url } = await testDatabase(t)
  for (const [env, why] of [
    [{ DATABASE_URL: 'postgres://no-such-host.invalid/x' }, /^DATABASE_URL: .*no-such-host/],
    [{ DATABASE_URL: `${url}?sslmode=verify-full` }, /^DATABASE_URL: no TLS/],
    [{ HOST: 'no-such-host.invalid' }, /^HOST, PORT: .*no-such-host/],
    [
      { METRICS_PORT: '0', METRICS_HOST: 'no-such-host.invalid' },
      /^METRICS_HOST, METRICS_PORT: .*no-such-host/,
    ],
  ] as const) {
    const settings = { DATABASE_URL: url, SECRET, PORT: '0', LOG_LEVEL: 'silent', ...env }
    isSentence(t, await start(t, 'server', [], settings).ended, why)
  }
  const file = join(temporaryFolder(t), 'file')
  writeFileSync(file, '')
  const { ended } = start(t, 'server', [], { DATABASE_URL: url, DATA_DIR: file })
  isSentence(t, await ended, /^SECRET is not set, and none can be kept in DATA_DIR \(.*file\): E/)
})

test('a port that is taken is said in a sentence', async (t) => {
  const { url: DATABASE_URL } = await testDatabase(t)
  const other = createServer().listen(0, '127.0.0.1')
  t.teardown(() => void other.close())
  await once(other, 'listening')
  const PORT = String((other.address() as AddressInfo).port)
  const env = { DATABASE_URL, SECRET, PORT, LOG_LEVEL: 'silent' }
  isSentence(
    t,
    await start(t, 'server', [], env).ended,
    new RegExp(`^HOST, PORT: .* already in use.*:${PORT}\n$`),
  )
})

test('C39: a signal lets the request in flight finish, however often it comes, and frees the port', async (t) => {
  const { url: DATABASE_URL, pool } = await testDatabase(t)
  const claims = [['SIGTERM'], ['SIGINT', 'SIGINT'], ['SIGINT', 'SIGTERM', 'SIGHUP']] as const
  for (const signals of claims) {
    const { url, child, ended, said } = await startServer(t, { DATABASE_URL })
    const agent = over(url)
    const { claim_token, registration_id } = await agents.registerAnonymous(agent)
    const holder = await pool.connect()
    await holder.query('begin')
    await holder.query('select from registrations where id = $1 for update', [registration_id])
    const login_hint = 'alice@example.com'
    const inFlight = agents.postJson(agent, '/agent/identity/claim', { claim_token, login_hint })
    await sleep(200)
    for (const signal of signals) {
      child.kill(signal)
      await sleep(100)
    }
    await t.rejects(fetch(`${url}/healthz`), 'new ones go to another replica')
    await holder.query('commit')
    holder.release()
    t.equal((await inFlight).statusCode, 200)
    t.match(await ended, { code: 0 })
    t.match(said.stderr, /Agent Registrar is ready\..*auth\.md/s)
    t.ok(await freed(url))
  }
})

test('npm start passes a signal on to the server, and ends with it', async (t) => {
  const { url: DATABASE_URL } = await testDatabase(t)
  const HOME = temporaryFolder(t)
  const { url, child, ended } = await startServer(t, { DATABASE_URL, HOME }, 'npm')
  child.kill('SIGTERM')
  t.match(await ended, { code: 0, stdout: /"msg":"stopping"/ })
  t.ok(await freed(url))
})

test('without DATABASE_URL it brings its own database, which keeps what it is told', async (t) => {
  const DATA_DIR = join(temporaryFolder(t), 'data')
  const env = { DATA_DIR, SECRET: '' }
  const registrar = operator(t, env)
  const running = await startServer(t, env)
  t.match(running.said.stderr, /^Applied 0001_registrations$/m)
  const { identity_assertion } = await agents.registerAnonymous(over(running.url))
  const beside = await registrar('resource-servers', 'add', 'beside')
  t.match(beside, { code: 0 }, 'while the server runs')
  const secret = readFileSync(join(DATA_DIR, 'secret'), 'utf8')
  t.equal(statSync(join(DATA_DIR, 'secret')).mode & 0o777, 0o600)
  running.child.kill('SIGINT')
  t.match(await running.ended, { code: 0 })
  t.notOk(existsSync(join(DATA_DIR, 'postgres/postmaster.pid')), 'Postgres stops with it')

  const listed = await registrar('resource-servers', 'list')
  t.match(JSON.parse(listed.stdout), [{ name: 'beside' }], 'while it does not')
  t.notOk(existsSync(join(DATA_DIR, 'postgres/postmaster.pid')))

  const again = await startServer(t, env)
  t.equal(readFileSync(join(DATA_DIR, 'secret'), 'utf8'), secret)
  const exchanged = await agents.exchange(over(again.url), identity_assertion)
  t.equal(exchanged.statusCode, 200, 'the same keys, the same registration')
  again.child.kill('SIGTERM')
  t.match(await again.ended, { code: 0 })
})
