/** Every scenario at every server, round after round, so that what happens on the machine meanwhile meets all alike. */
import { measure } from './measure.js'
import type { Options } from './options.js'
import type { Series } from './report.js'
import { SCENARIOS } from './scenarios.js'
import type { Target } from './target.js'

const WARM_UP_SECONDS = 0.75
/** Before its first measurement, code is compiled as well. */
const FIRST_WARM_UP_SECONDS = 2

export interface RoundOptions extends Pick<
  Options,
  'rounds' | 'seconds' | 'connections' | 'scenarios'
> {
  /**
   * All rounds of one scenario before the next: those that register come last, and would make every other scenario
   * slower where the cost grows with what is stored.
   */
  byScenario?: boolean
  afterRound?: () => Promise<void>
}

/** Servers that do not know a scenario have no series of it. */
export async function runRounds(targets: Target[], options: RoundOptions): Promise<Series[]> {
  const { seconds, connections, rounds, byScenario = false } = options
  const all: Series[] = []
  for (const scenario of [...SCENARIOS, 'empty_route'] as const)
    for (const { name: target, rows, jobs } of targets)
      if (jobs[scenario] && (scenario === 'empty_route' || options.scenarios.includes(scenario)))
        all.push({ scenario, target, rows, samples: [], surprise: undefined })

  async function add(series: Series): Promise<void> {
    const target = targets.find(({ name }) => name === series.target)!
    const first = series.samples.length === 0
    const warmUp = Math.min(seconds, first ? FIRST_WARM_UP_SECONDS : WARM_UP_SECONDS)
    const times = { connections, seconds, warmUp }
    const { sample, surprise } = await measure(target, target.jobs[series.scenario]!, times)
    series.samples.push(sample)
    series.surprise ??= surprise
  }

  if (byScenario)
    for (const scenario of new Set(all.map((series) => series.scenario))) {
      console.error(`Scenario ${scenario}`)
      for (let round = 1; round <= rounds; round += 1)
        for (const series of all) if (series.scenario === scenario) await add(series)
    }
  else
    for (let round = 1; round <= rounds; round += 1) {
      console.error(`Round ${round} of ${rounds}`)
      for (const series of all) await add(series)
      await options.afterRound?.()
    }
  if (byScenario) await options.afterRound?.()
  return all
}
