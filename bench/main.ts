/** `npm run bench`: what requests cost, in a table and as JSON. All of it on this machine (`--help`). */
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { cpus, tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { openCluster } from './cluster.js'
import { pinSelf, planCores } from './cores.js'
import { HELP, readOptions, type Options } from './options.js'
import { startOwn, startProvider, type Deployment } from './own.js'
import { growth, number, printGrowth, printSeries, summaryOf, type Series } from './report.js'
import { runRounds } from './rounds.js'
import { runToEnd, type Scope } from './scope.js'
import type { Target } from './target.js'

/** Registrations that the load itself needs, so that nobody is polled too often. */
const WAITING = 10_000

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

async function bench(life: Scope, chosen: Options): Promise<boolean> {
  const folder = mkdtempSync(join(tmpdir(), 'registrar-bench-'))
  chmodSync(folder, 0o711)
  life.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const cores = planCores(chosen.replicas)
  pinSelf(cores.others)
  const postgresUrl = await openCluster(life, folder)
  const deployment: Deployment = {
    life,
    folder,
    postgresUrl,
    cores,
    replicas: chosen.replicas,
    env: serverEnv(chosen),
    gently: chosen.profile !== undefined,
    provider: await startProvider(life),
  }
  const targets: Target[] = []
  for (const rows of chosen.rows)
    targets.push(
      await startOwn(deployment, { name: `${number(rows)} rows`, rows, waiting: WAITING }),
    )
  const all = await runRounds(targets, chosen)
  printSeries(all)
  printGrowth(all)
  write(chosen, { series: withSummaries(all), growth: growth(all) })
  return all.every(({ samples }) => samples.every(({ errors }) => errors === 0))
}

function serverEnv({ logLevel, profile }: Options): Record<string, string> {
  const env: Record<string, string> = {}
  if (logLevel !== undefined) env.LOG_LEVEL = logLevel
  if (profile !== undefined) env.NODE_OPTIONS = `--cpu-prof --cpu-prof-dir=${resolve(profile)}`
  return env
}

function withSummaries(all: Series[]) {
  return all.map((series) => ({ ...series, summary: summaryOf(series) }))
}

function write(chosen: Options, figures: object): void {
  const machine = { cpu: cpus()[0]?.model, cores: cpus().length, node: process.version }
  mkdirSync(dirname(chosen.out), { recursive: true })
  writeFileSync(
    chosen.out,
    `${JSON.stringify({ machine, options: chosen, ...figures }, null, 2)}\n`,
  )
  console.log(`\nAll figures: ${chosen.out}`)
}
