/** Every scenario at every server, round after round, so that what happens on the machine meanwhile meets all alike. */
import { measure } from './measure.js'
import type { Options } from './options.js'
import type { Series } from './report.js'
import type { Scenario } from './scenarios.js'
import type { Target } from './target.js'

const WARM_UP_SECONDS = 0.75
/** Before its first measurement, code is compiled as well. */
const FIRST_WARM_UP_SECONDS = 2

export interface RoundOptions extends Pick<Options, 'rounds' | 'seconds' | 'connections'> {
  scenarios: (Scenario | 'empty_route')[]
}

/** Servers that do not know a scenario have no series of it. */
export async function runRounds(targets: Target[], options: RoundOptions): Promise<Series[]> {
  const { seconds, connections } = options
  const all: Series[] = []
  for (const scenario of options.scenarios)
    for (const { name: target, rows, jobs } of targets)
      if (jobs[scenario]) all.push({ scenario, target, rows, samples: [], surprise: undefined })
  for (let round = 1; round <= options.rounds; round += 1) {
    console.error(`Round ${round} of ${options.rounds}`)
    for (const series of all) {
      const target = targets.find(({ name }) => name === series.target)!
      const warmUp = Math.min(seconds, round === 1 ? FIRST_WARM_UP_SECONDS : WARM_UP_SECONDS)
      const { sample, surprise } = await measure(target, target.jobs[series.scenario]!, {
        connections,
        seconds,
        warmUp,
      })
      series.samples.push(sample)
      series.surprise ??= surprise
    }
  }
  return all
}
