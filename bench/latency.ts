/** Latency at half the load that the server can bear, sent at a fixed rate whether it has answered or not. */
import { measure, type Sample } from './measure.js'
import type { Options } from './options.js'
import { number, printTable, summaryOf, type Series } from './report.js'
import { summarize } from './statistics.js'
import type { Target } from './target.js'

interface Latency {
  scenario: Series['scenario']
  target: string
  /** The rate that was reached: lower than intended where the load itself was held up. */
  requests_per_second: number
  p50_ms: number
  p99_ms: number
  errors: number
}

const GOAL = 4

export async function measureLatency(
  targets: Target[],
  all: Series[],
  { seconds, rounds, connections }: Options,
): Promise<Latency[]> {
  const results: Latency[] = []
  for (const { scenario, target, samples } of all) {
    const at = targets.find(({ name }) => name === target)!
    const rate = summaryOf({ samples }).requests_per_second!.median / 2
    const paced: Sample[] = []
    for (let round = 0; round < rounds; round += 1) {
      const options = { connections, seconds, rate }
      paced.push((await measure(at, at.jobs[scenario]!, options)).sample)
    }
    const median = (member: 'requests_per_second' | 'p50_ms' | 'p99_ms') =>
      summarize(paced.map((sample) => sample[member])).median
    const errors = paced.reduce((sum, sample) => sum + sample.errors, 0)
    const requests_per_second = median('requests_per_second')
    const [p50_ms, p99_ms] = [median('p50_ms'), median('p99_ms')]
    results.push({ scenario, target, requests_per_second, p50_ms, p99_ms, errors })
  }
  return results
}

export function printLatency(results: Latency[]): void {
  console.log('\nLatency at half of the saturation load\n')
  printTable(
    ['scenario', 'server', 'req/s', 'p50 ms', 'p99 ms', 'p99 / p50', `at most ${GOAL}`, 'errors'],
    results.map(({ scenario, target, requests_per_second, p50_ms, p99_ms, errors }) => [
      scenario,
      target,
      number(requests_per_second),
      number(p50_ms, 2),
      number(p99_ms, 2),
      number(p99_ms / p50_ms, 1),
      p99_ms <= GOAL * p50_ms ? 'reached' : 'not reached',
      number(errors),
    ]),
  )
}
