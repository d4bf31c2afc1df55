/** The embedded Postgres: one server per data folder, started by the first, stopped by the last. */
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import fs from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import t, { type Test } from 'tap'
import { binaries, nativeFolder, openEmbeddedPostgres } from '../src/embedded.js'

const asRoot = process.getuid?.() === 0
const settings = { fsync: 'off' }
const log = () => {}

/** A folder that any account may pass through, so that root's tests and a user's do the same. */
function folder(t: Test, mode = 0o711): string {
  const made = fs.mkdtempSync(join(tmpdir(), 'embedded '))
  fs.chmodSync(made, mode)
  t.teardown(() => fs.rmSync(made, { recursive: true, force: true }))
  return made
}

async function open(t: Test, dataDir: string, say: (message: string) => void = log) {
  const opened = await openEmbeddedPostgres({ dataDir, settings, log: say })
  t.teardown(() => opened.close())
  return opened
}

async function ask(url: string, sql: string): Promise<unknown[]> {
  const client = new pg.Client(url)
  client.on('error', () => {})
  await client.connect()
  const { rows } = await client.query(sql).finally(() => client.end())
  return rows
}

const pidFile = (dataDir: string) => join(dataDir, 'postgres', 'postmaster.pid')
const serverPid = (dataDir: string) => parseInt(fs.readFileSync(pidFile(dataDir), 'utf8'))
const leftovers = (dataDir: string) =>
  fs.readdirSync(dataDir).filter((name) => name.startsWith('postgres.new-'))

async function killAndWait(pid: number) {
  process.kill(pid, 'SIGKILL')
  try {
    while (process.kill(pid, 0)) await sleep(10)
  } catch {
    // It has gone.
  }
}

t.test('data survives closing and opening again', async (t) => {
  const dataDir = join(folder(t), 'data')
  const first = await openEmbeddedPostgres({ dataDir })
  await ask(first.url, `create table kept as select 'Grüße' as word`)
  await first.close()
  await first.close()
  t.notOk(fs.existsSync(pidFile(dataDir)), 'the server has stopped')

  const second = await open(t, dataDir)
  t.same(await ask(second.url, 'select upper(word) as word from kept'), [
    { word: 'GRÜSSE'.replace('SS', 'ß') },
  ])
  const [server] = await ask(
    second.url,
    `select current_setting('fsync') as fsync, current_setting('listen_addresses') as listens,
      current_setting('unix_socket_directories') as sockets, current_database() as database`,
  )
  t.same(server, { fsync: 'off', listens: '127.0.0.1', sockets: '', database: 'registrar' })
  t.not(new URL(second.url).port, '5432')
})

t.test('only who can read the password gets in', async (t) => {
  const dataDir = folder(t)
  const { url } = await open(t, dataDir)
  const password = join(dataDir, 'postgres', 'registrar.password')
  t.equal(fs.statSync(join(dataDir, 'postgres')).mode & 0o777, 0o700)
  t.equal(fs.statSync(password).mode & 0o777, 0o600)
  t.equal(new URL(url).password, fs.readFileSync(password, 'utf8'))
  fs.writeFileSync(password, 'wrong')
  const refused = openEmbeddedPostgres({ dataDir, log })
  await t.rejects(refused, { message: /let nobody in/, cause: { code: '28P01' } })
})

t.test('two that open a fresh folder at once share a server, which the last stops', async (t) => {
  const dataDir = folder(t)
  const [one, two] = await Promise.all([open(t, dataDir), open(t, dataDir)])
  t.equal(one.url, two.url)
  t.same(leftovers(dataDir), [], 'the loser of the race cleans up')
  await one.close()
  t.same(await ask(two.url, 'select 1 as one'), [{ one: 1 }])
  await two.close()
  t.notOk(fs.existsSync(pidFile(dataDir)))
})

t.test('one that comes while the server stops gets the next server', async (t) => {
  const dataDir = folder(t)
  const one = await open(t, dataDir)
  const closing = one.close()
  const two = await open(t, dataDir)
  await closing
  t.same(await ask(two.url, 'select 1 as one'), [{ one: 1 }])
})

t.test('the orphan of a killed process is adopted, and stopped', async (t) => {
  const dataDir = folder(t)
  const script = `
    import { openEmbeddedPostgres } from ${JSON.stringify(new URL('../src/embedded.js', import.meta.url))}
    console.log((await openEmbeddedPostgres(${JSON.stringify({ dataDir, settings })})).url)`
  const args = [...process.execArgv, '--input-type=module', '-e', script]
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  const [url] = await once(child.stdout, 'data')
  child.kill('SIGKILL')
  await once(child, 'exit')

  const adopted = await open(t, dataDir)
  t.equal(adopted.url, String(url).trim())
  await adopted.close()
  t.notOk(fs.existsSync(pidFile(dataDir)))
})

t.test('a pid file that names a stranger, or nobody, does not stop a start', async (t) => {
  const dataDir = folder(t)
  await (await open(t, dataDir)).close()
  for (const line of [String(process.pid), '']) {
    const rest = [join(dataDir, 'postgres'), '1700000000', '54321', '', '127.0.0.1', '', 'ready']
    fs.writeFileSync(pidFile(dataDir), line && [line, ...rest, ''].join('\n'))
    fs.utimesSync(pidFile(dataDir), 0, 0)
    const opened = await open(t, dataDir)
    t.same(await ask(opened.url, 'select 1 as one'), [{ one: 1 }])
    await opened.close()
  }
})

t.test('a killed server is reported, and the next to open starts another', async (t) => {
  const dataDir = folder(t)
  const said: string[] = []
  const first = await open(t, dataDir, (message) => said.push(message))
  await ask(first.url, 'create table kept as select 1 as one')
  await ask(first.url, 'checkpoint')
  const busy = 'select count(*) from generate_series(1, 5000) a, generate_series(1, 5000) b'
  const work = Promise.allSettled([ask(first.url, busy)])
  await sleep(200)
  await killAndWait(serverPid(dataDir))
  const second = await open(t, dataDir)
  t.same(await ask(second.url, 'select * from kept'), [{ one: 1 }])
  t.match(said, [/has gone; .*postgres\.log/])
  await work
  await t.resolves(first.close(), 'leaving what is gone is no fault')
  t.same(await ask(second.url, 'select 1 as one'), [{ one: 1 }], 'and leaves the next server alone')
})

t.test('what a killed first start left is removed, once it is surely dead', async (t) => {
  const dataDir = folder(t)
  for (const name of ['postgres.new-old', 'postgres.new-young'])
    fs.mkdirSync(join(dataDir, name, 'made'), { recursive: true })
  fs.utimesSync(join(dataDir, 'postgres.new-old'), 0, 0)
  await open(t, dataDir)
  t.same(leftovers(dataDir), ['postgres.new-young'])
})

t.test('what prevents it is said', async (t) => {
  const dataDir = folder(t)
  fs.writeFileSync(join(dataDir, 'file'), '')
  await t.rejects(openEmbeddedPostgres({ dataDir: join(dataDir, 'file') }), {
    message: /^No embedded Postgres in .*file: E.*\nSet DATABASE_URL/,
  })
  const mistaken = openEmbeddedPostgres({ dataDir, settings: { shared_buffers: 'a lot' }, log })
  await t.rejects(mistaken, { message: /did not start.*\n.*shared_buffers/ })
  await t.rejects(openEmbeddedPostgres({ dataDir: join(dataDir, 'x/'.repeat(600)), log }), {
    message: /initdb/,
  })
  t.throws(() => nativeFolder('pdp11-unix'), { message: /no Postgres for pdp11-unix/ })
})

t.test('missing links between the libraries are made', async (t) => {
  const copy = join(folder(t), 'native')
  fs.cpSync(nativeFolder(), copy, { recursive: true, verbatimSymlinks: true })
  const libraries = join(copy, 'lib')
  const links = () =>
    fs.readdirSync(libraries, { withFileTypes: true }).filter((entry) => entry.isSymbolicLink())
  const before = links().map(({ name }) => name)
  t.not(before.length, 0)
  for (const name of before) fs.rmSync(join(libraries, name))
  const bin = await binaries(undefined, log, copy)
  t.match(execFileSync(join(bin, 'postgres'), ['--version'], { encoding: 'utf8' }), /17\./)
  t.same(
    links().map(({ name }) => name),
    before,
  )
})

t.test('as root, a folder that is private stays so', { skip: !asRoot }, async (t) => {
  const dataDir = join(folder(t, 0o700), 'data')
  const said: string[] = []
  const say = (message: string) => said.push(message)
  const [one, two] = await Promise.all([open(t, dataDir, say), open(t, dataDir, say)])
  const place = fs.realpathSync(join(dataDir, 'postgres'))
  t.teardown(() => fs.rmSync(place, { recursive: true, force: true }))
  t.equal(one.url, two.url)
  t.match(said, [`its data is in ${place}`])
  t.match(place, /^\/var\/lib\/agent-registrar\//)
  t.equal(fs.statSync(join(dataDir, '..')).mode & 0o777, 0o700)
  await ask(one.url, 'create table kept as select 1 as one')
  await one.close()
  await two.close()

  fs.chmodSync(join(dataDir, '..'), 0o711)
  const again = await open(t, dataDir)
  t.same(
    await ask(again.url, 'select * from kept'),
    [{ one: 1 }],
    'found again, whatever it is now',
  )
  await again.close()
})

t.test(
  'as root, binaries in a private folder are copied out once',
  { skip: !asRoot },
  async (t) => {
    const home = folder(t, 0o700)
    const version = `test-${process.pid}`
    fs.cpSync(nativeFolder(), join(home, 'native'), { recursive: true, verbatimSymlinks: true })
    fs.writeFileSync(join(home, 'package.json'), JSON.stringify({ version }))
    const copy = `/var/lib/agent-registrar/binaries-${version}`
    t.teardown(() => fs.rmSync(copy, { recursive: true, force: true }))
    const nobody = { uid: 65534, gid: 65534 }
    const said: string[] = []
    const find = () => binaries(nobody, (message) => said.push(message), join(home, 'native'))
    t.equal(await find(), join(copy, 'bin'))
    t.equal(await find(), join(copy, 'bin'))
    t.match(said, [`the copy ${copy}`])
    execFileSync(join(copy, 'bin/postgres'), ['--version'], { ...nobody, cwd: '/' })
    t.notOk(fs.readdirSync(join(copy, 'lib')).some((name) => name.endsWith('.a')))
  },
)
