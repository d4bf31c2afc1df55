/**
 * `npm run chaos [-- --seconds N] [--no-nginx]`: two replicas behind nginx under load, on a Postgres of their own,
 * while everything fails in turn, on this machine. Prints what became of it; ends with 1 when a promise was broken.
 */
import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { chmodSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { migrate } from '../../src/migrations.js'
import { testGate } from '../../test/fixtures/wire.js'
import { insistent, inTurn } from './client.js'
import { faultsOf, type Faults } from './faults.js'
import { count, newLedger, print, type Ledger } from './ledger.js'
import { work } from './load.js'
import { HELP, readOptions, type Options } from './options.js'
import { startNginx } from '../nginx.js'
import { openPostgres } from '../postgres.js'
import { makeReplica, type Replica } from '../replica.js'
import { runToEnd, type Scope } from '../scope.js'
import { verify } from './verify.js'
import { makeWitness } from './witness.js'

const CLI = join(import.meta.dirname, '../../src/cli.js')
const WORKERS = 6
const PAUSE_MS = 2_000
/** What must never be in a log: tokens of links and claims, codes, JWTs. */
const SECRET = /cat_[\w-]{20}|clm_[\w-]{20}|user_code=|eyJ[\w-]{20}/g

const { seconds, nginx } = told()

await runToEnd(main)

/** Ends the process when there is nothing to do. */
function told(): Options {
  try {
    const options = readOptions(process.argv.slice(2))
    if (options) return options
    console.log(HELP)
    return process.exit(0)
  } catch (error) {
    console.error(`${(error as Error).message}\n(npm run chaos -- --help says what there is)`)
    return process.exit(2)
  }
}

async function main(life: Scope, interrupted: () => boolean): Promise<boolean> {
  const folder = mkdtempSync(join(tmpdir(), 'registrar-chaos-'))
  // Postgres and nginx's workers run as other accounts, and have to pass through.
  chmodSync(folder, 0o711)
  life.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const postgres = await openPostgres(life, folder, 'registrar_chaos')
  await migrate(postgres.url, 'up')
  const gate = await testGate(life, postgres.url)
  const env = {
    ISSUER: 'http://localhost:8000',
    SECRET: randomBytes(32).toString('base64'),
    DATABASE_URL: gate.url,
    LOG_LEVEL: 'warn',
    TRUST_PROXY: nginx ? '1' : 'false',
    STOP_GRACE_SECONDS: '1',
    // Tokens must not expire, however long the run is.
    ASSERTION_TTL_SECONDS: '604800',
    ACCESS_TOKEN_TTL_SECONDS: '604800',
  }
  const replicas = [
    await makeReplica(life, folder, 'replica-1', env),
    await makeReplica(life, folder, 'replica-2', env),
  ]
  for (const replica of replicas) await replica.start()
  for (const replica of replicas) await replica.ready()
  const urls = replicas.map(({ url }) => url)
  const hosts = replicas.map(({ host }) => host)
  const proxy = nginx ? await startNginx(life, folder, hosts) : undefined
  const authorization = await resourceServer({ ...env, DATABASE_URL: postgres.url })

  const ledger = newLedger()
  const witness = makeWitness(urls, authorization, ledger)
  const until = Date.now() + seconds * 1000
  const over = () => interrupted() || Date.now() > until
  const once = inTurn(proxy ? [proxy.url] : urls)
  const app = insistent(once, ledger)
  console.log(`${seconds} s of chaos${proxy ? ' behind nginx' : ''}; Ctrl-C ends it`)
  const workers = Array.from({ length: WORKERS }, (_, n) =>
    work({ app, once, ledger, witness, over }, n),
  )
  await disturb(faultsOf(replicas, postgres, gate), replicas, ledger, over)
  await Promise.all(workers)
  console.log('Checking everything that was acknowledged')
  await verify(ledger, witness, postgres.url)
  return print(ledger, seconds, proxy?.log().match(SECRET)?.length ?? 0)
}

/** Makes the faults in turn; after each, every replica must become ready by itself. */
async function disturb(faults: Faults, replicas: Replica[], ledger: Ledger, over: () => boolean) {
  for (let turn = 0; !over(); turn += 1) {
    await sleep(PAUSE_MS)
    const [name, make] = faults[turn % faults.length]!
    console.log(`  ${name}`)
    count(ledger.faults, name, (await make()) ?? 1)
    for (const replica of replicas) await replica.ready()
  }
}

/** Adds a resource server by the operator's command; returns its `Authorization` header. */
async function resourceServer(env: NodeJS.ProcessEnv): Promise<string> {
  const { PATH } = process.env
  const add = ['resource-servers', 'add', 'chaos']
  const { stdout } = await promisify(execFile)(process.execPath, [CLI, ...add], {
    env: { PATH, ...env },
  })
  const { id, secret } = JSON.parse(stdout)
  return `Basic ${Buffer.from(`${id}:${secret}`).toString('base64')}`
}
