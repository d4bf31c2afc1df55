/** Compares this server with others that were measured by turns with it. */
import { printTable, quotient, range, type Series } from './report.js'
import type { Summary } from './statistics.js'

interface Compared {
  scenario: Series['scenario']
  target: string
  other: string
  /** Our requests per second divided by the other's; undefined when the other cannot do the scenario. */
  rate: Summary | undefined
  /** Our CPU per request divided by the other's, of the server alone. */
  cpu: Summary | undefined
}

/** Compares servers that have the same number of rows. */
export function compare(all: Series[], isOther: (target: string) => boolean): Compared[] {
  const names = [...new Set(all.map(({ target }) => target))]
  const others = names.filter(isOther)
  return all
    .filter(({ scenario, target }) => scenario !== 'empty_route' && !isOther(target))
    .flatMap((ours) => {
      const { scenario, rows, target } = ours
      const rivals = others.filter((name) =>
        all.some((series) => series.target === name && series.rows === rows),
      )
      return rivals.map((other) => {
        const theirs = all.find((series) => series.scenario === scenario && series.target === other)
        const rate = theirs && quotient(ours, theirs, 'requests_per_second')
        const cpu = theirs && quotient(ours, theirs, 'server_us')
        return { scenario, target, other, rate, cpu }
      })
    })
}

export function printComparison(lines: Compared[]): void {
  if (lines.length === 0) return
  console.log('\nIn times the other: more requests per second, less CPU is better\n')
  printTable(
    ['scenario', 'server', 'beside', 'req/s', 'server CPU'],
    lines.map(({ scenario, target, other, rate, cpu }) => [
      scenario,
      target,
      other,
      range(rate, 2),
      range(cpu, 2),
    ]),
  )
}
