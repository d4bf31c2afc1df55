/** The tables that people read. */
import type { Sample } from './measure.js'
import type { Scenario } from './scenarios.js'
import { summarize, summarizeAll, type Summary } from './statistics.js'

/** All measurements of one scenario at one server. */
export interface Series {
  scenario: Scenario | 'empty_route'
  target: string
  rows: number
  samples: Sample[]
  surprise: string | undefined
}

/** Anything below this is noise: growth from such a base would be a factor of any size. */
const LEAST_US = 5

type Summaries = { [Member in keyof Sample]?: Summary }

export const summaryOf = (series: Pick<Series, 'samples'>): Summaries =>
  summarizeAll(series.samples)

export const number = (value: number | undefined, digits = 0) =>
  value === undefined
    ? '-'
    : value.toLocaleString('en-US', {
        minimumFractionDigits: digits,
        maximumFractionDigits: digits,
      })

export const range = (summary: Summary | undefined, digits = 0) =>
  summary === undefined
    ? '-'
    : `${number(summary.median, digits)} (${number(summary.min, digits)}-${number(summary.max, digits)})`

/** How many times as much as at `base` in the same round: one round differs from another by more than that. */
export function quotient(of: Series, base: Series, member: keyof Sample): Summary | undefined {
  const quotients = of.samples.flatMap((sample, round) => {
    const [value, one] = [sample[member], base.samples[round]![member]]
    return value === undefined || one === undefined || one === 0 ? [] : [value / one]
  })
  return quotients.length === 0 ? undefined : summarize(quotients)
}

/** Prints columns as wide as they need to be; the first two are aligned to the left. */
export function printTable(heads: string[], lines: string[][]): void {
  const widths = heads.map((head, i) =>
    Math.max(head.length, ...lines.map((line) => line[i]!.length)),
  )
  for (const line of [heads, ...lines])
    console.log(
      line
        .map((cell, i) => (i < 2 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!)))
        .join('  '),
    )
}

export function printSeries(all: Series[]): void {
  console.log('\nMedian (lowest-highest) of all rounds; CPU in microseconds per request\n')
  const proxied = all.some(({ samples }) => samples.some(({ proxy_us }) => proxy_us !== undefined))
  const cpu = ['server µs', 'Postgres µs', ...(proxied ? ['proxy µs'] : [])]
  printTable(
    ['scenario', 'server', 'req/s', 'p50 ms', 'p99 ms', ...cpu, 'MB', 'busy %', 'load %', 'errors'],
    all.map((series) => {
      const of = summaryOf(series)
      return [
        series.scenario,
        series.target,
        range(of.requests_per_second),
        number(of.p50_ms?.median, 1),
        number(of.p99_ms?.median, 1),
        range(of.server_us),
        range(of.postgres_us),
        ...(proxied ? [range(of.proxy_us)] : []),
        number(of.memory_mb?.max),
        number(of.server_busy?.median),
        number(of.load_busy?.median),
        number(series.samples.reduce((sum, { errors }) => sum + errors, 0)),
      ]
    }),
  )
  for (const { scenario, target, surprise } of all)
    if (surprise !== undefined) console.log(`  ${scenario}, ${target}: unexpected: ${surprise}`)
}

/** Prints how cost grows with the size of the store, from the smallest store on. */
export function printGrowth(all: Series[]): void {
  const lines = growth(all).map((line) => [
    line.scenario,
    line.target,
    range(line.server, 2),
    range(line.postgres, 2),
  ])
  if (lines.length === 0) return
  console.log(
    '\nCPU per request in times that of the smallest store; median (lowest-highest) of the rounds\n',
  )
  printTable(['scenario', 'server', 'server CPU', 'Postgres CPU'], lines)
}

export function growth(all: Series[]) {
  return all.flatMap((series) => {
    const first = all.find((other) => other.scenario === series.scenario)!
    if (first === series || first.rows === series.rows) return []
    const from = summaryOf(first)
    const grown = (member: 'server_us' | 'postgres_us') =>
      from[member] && from[member].median >= LEAST_US ? quotient(series, first, member) : undefined
    return [
      {
        scenario: series.scenario,
        target: series.target,
        server: grown('server_us'),
        postgres: grown('postgres_us'),
      },
    ]
  })
}
