/** `npm run bench`: what requests cost, in a table and as JSON. Everything runs on this machine (`--help`). */
import { existsSync, chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { cpus, tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { LIMIT_NAMES } from '../src/domain/limits.js'
import { testProvider } from '../test/fixtures/provider.js'
import { stolen } from './accounting.js'
import { openCluster } from './cluster.js'
import { pinSelf, planCores } from './cores.js'
import { adviseHugePages } from './huge-pages.js'
import { hasNginx } from './nginx.js'
import { HELP, readOptions, type Options } from './options.js'
import { prepare, startOwn, type Deployment } from './own.js'
import { runToEnd, type Scope } from './scope.js'
import { printSoak, soak } from './soak.js'
import { measureStart, printStart } from './start.js'
import { table, WAITING } from './table.js'

const stolenMeanwhile = stolen()
const options = parse()
if (options) await runToEnd((life) => bench(life, options))
else console.log(HELP)

function parse(): Options | undefined {
  try {
    return readOptions(process.argv.slice(2))
  } catch (error) {
    console.error((error as Error).message)
    process.exit(2)
  }
}

async function bench(life: Scope, given: Options): Promise<boolean> {
  if (!existsSync('/proc/self/stat'))
    throw new Error('The bench needs Linux: it reads what processes cost from /proc.')
  const chosen = withoutMissing(given)
  const deployment = await deploy(life, chosen)
  if (chosen.start || chosen.soakMinutes > 0) return await single(deployment, chosen)
  const { figures, fine } = await table(deployment, chosen)
  write(chosen, figures)
  return fine
}

/** `--replicas` needs a proxy. */
function withoutMissing(chosen: Options): Options {
  if (chosen.replicas === 1 || hasNginx()) return chosen
  console.error(
    'nginx was not found (apt-get install nginx-light): --replicas is skipped, this is one replica without a proxy.',
  )
  return { ...chosen, replicas: 1 }
}

async function deploy(life: Scope, chosen: Options): Promise<Deployment> {
  const folder = mkdtempSync(join(tmpdir(), 'registrar-bench-'))
  chmodSync(folder, 0o711)
  life.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const cores = planCores(chosen.replicas)
  pinSelf(cores.others)
  const postgresUrl = await openCluster(life, folder)
  if (Math.max(...chosen.rows) > 0) await adviseHugePages(postgresUrl)
  return {
    life,
    folder,
    postgresUrl,
    cores,
    replicas: chosen.replicas,
    env: settings(chosen),
    profile: chosen.profile && resolve(chosen.profile),
    provider: await testProvider(life),
  }
}

function settings({ logLevel, rateLimits }: Options): Record<string, string> {
  const millions = Object.fromEntries(LIMIT_NAMES.map((name) => [name, 1_000_000]))
  return {
    ...(logLevel === undefined ? {} : { LOG_LEVEL: logLevel }),
    ...(rateLimits ? { RATE_LIMITS: JSON.stringify(millions) } : {}),
  }
}

/** Measures what needs one store only, with the first number of `--rows`. */
async function single(deployment: Deployment, chosen: Options): Promise<boolean> {
  const rows = chosen.rows[0]!
  const prepared = await prepare(deployment, rows + WAITING)
  const start = chosen.start ? await measureStart(deployment, prepared) : undefined
  if (start) printStart(start)
  if (chosen.soakMinutes === 0) {
    write(chosen, { start })
    return true
  }
  const target = await startOwn(deployment, { name: `${rows} rows`, rows }, prepared)
  const soaked = await soak(target, chosen)
  printSoak(target.name, soaked)
  write(chosen, { start, soak: soaked })
  return soaked.errors === 0
}

function write(chosen: Options, figures: object): void {
  const stolen_percent = stolenMeanwhile()
  const machine = {
    cpu: cpus()[0]?.model,
    cores: cpus().length,
    node: process.version,
    stolen_percent,
  }
  mkdirSync(dirname(chosen.out), { recursive: true })
  const text = JSON.stringify({ machine, options: chosen, ...figures }, null, 2)
  writeFileSync(chosen.out, `${text}\n`)
  if (stolen_percent >= 0.1)
    console.log(
      `\nMeanwhile the host of this machine gave ${stolen_percent.toFixed(1)} % of its busy time to others.`,
    )
  console.log(`\nAll figures: ${chosen.out}`)
}
