/** Measures the chosen servers by turns, and prints all that is said of them. */
import { existsSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { compare, printComparison } from './comparison.js'
import { measureLatency, printLatency } from './latency.js'
import * as limits from './limits.js'
import type { Options } from './options.js'
import { openOther } from './other.js'
import { prepare, startOwn, type Deployment, type Prepared } from './own.js'
import { growth, number, printGrowth, printSeries, summaryOf, type Series } from './report.js'
import { runRounds } from './rounds.js'
import type { Target } from './target.js'

/** Registrations for the load itself, so that none is polled too often. */
export const WAITING = 20_000
/** The same beside another server: as few as it can be expected to bear, because it may keep them in one list. */
const WAITING_BESIDE_OTHERS = 1_000
const BASELINE = ', baseline'

export async function table(deployment: Deployment, chosen: Options) {
  const { life, cores } = deployment
  const waiting = chosen.against ? WAITING_BESIDE_OTHERS : WAITING
  const targets: Target[] = []
  let store: Prepared | undefined
  for (const rows of chosen.rows.toSorted((a, b) => a - b)) {
    const name = `${number(rows)} rows`
    const own = await prepare(deployment, rows + waiting)
    store = own
    targets.push(await startOwn(deployment, { name, rows }, own))
    if (chosen.baseline === undefined) continue
    const server = baselineServer(chosen.baseline)
    const beside = await prepare(deployment, rows + waiting)
    targets.push(await startOwn(deployment, { name: name + BASELINE, rows, server }, beside))
  }
  const found: limits.Limits = { jose: [], node: [], select: [], insert: [] }
  if (chosen.limits || chosen.latency) {
    const empty = await limits.startEmptyRoute(life, cores.servers[0])
    targets.push({ ...empty, rows: targets[0]!.rows })
  }
  const afterRound = async () => {
    if (chosen.limits) await limits.addLimits(found, cores.servers[0], store!)
  }
  const all = chosen.against
    ? await besideOther(deployment, targets, chosen, afterRound)
    : await runRounds(targets, { ...chosen, afterRound })

  printSeries(all)
  const ours = all.filter(({ target }) => targets.some(({ name }) => name === target))
  const isBaseline = (target: string) => target.endsWith(BASELINE)
  printGrowth(ours.filter(({ target }) => !isBaseline(target)))
  const compared = compare(
    all,
    (target) => isBaseline(target) || target.startsWith(chosen.against?.host ?? '\n'),
  )
  printComparison(compared)
  if (chosen.limits) limits.printLimits(found, all)
  const latency = chosen.latency ? await measureLatency(targets, ours, chosen) : undefined
  if (latency) printLatency(latency)
  return {
    figures: {
      series: all.map((series) => ({ ...series, summary: summaryOf(series) })),
      growth: growth(ours.filter(({ target }) => !isBaseline(target))),
      compared,
      latency,
      ...(chosen.limits ? { limits: found, distances: limits.distances(found, all) } : {}),
    },
    fine: all.every(({ samples }) => samples.every(({ errors }) => errors === 0)),
  }
}

/** The other server has one store, so it is measured at each size before it grows to the next. */
async function besideOther(
  { life, cores }: Deployment,
  targets: Target[],
  chosen: Options,
  afterRound: () => Promise<void>,
): Promise<Series[]> {
  const other = await openOther(life, chosen.against!, {
    pid: chosen.againstPid,
    cores: cores.servers[0],
  })
  const all: Series[] = []
  for (const rows of new Set(targets.map((target) => target.rows))) {
    console.error(
      `  ${other.name}: registering up to ${number(rows + WAITING_BESIDE_OTHERS)} agents`,
    )
    await other.grow(rows + WAITING_BESIDE_OTHERS)
    const at = { ...other, name: `${other.name} at ${number(rows)} rows`, rows }
    const beside = targets.filter((target) => target.rows === rows)
    const options = { ...chosen, afterRound, byScenario: true }
    all.push(...(await runRounds([...beside, at], options)))
  }
  return all
}

function baselineServer(folder: string): string {
  const server = join(resolve(folder), 'dist/src/server.js')
  if (existsSync(server)) return server
  throw new Error(`--baseline: there is no ${server}. Build that checkout first: npm run build`)
}
