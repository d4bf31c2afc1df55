/** Runs every scenario at every server, round after round, so that what else the machine does affects all alike. */
import { measure, warmUp } from './measure.js'
import type { Options } from './options.js'
import type { Series } from './report.js'
import { SCENARIOS } from './scenarios.js'
import type { Target } from './target.js'

interface RoundOptions extends Pick<Options, 'rounds' | 'seconds' | 'connections' | 'scenarios'> {
  /**
   * Runs all rounds of one scenario before the next: scenarios that register come last, and would make all others
   * slower where cost grows with the size of the store.
   */
  byScenario?: boolean
  afterRound?: () => Promise<void>
}

/** A server that does not know a scenario gets no series for it. */
export async function runRounds(targets: Target[], options: RoundOptions): Promise<Series[]> {
  const { seconds, connections, rounds, byScenario = false } = options
  const all: Series[] = []
  const [first, ...others] = SCENARIOS
  // Beside those that are compared with it.
  for (const scenario of [first, 'empty_route', ...others] as const)
    for (const { name: target, rows, jobs } of targets)
      if (jobs[scenario] && (scenario === 'empty_route' || options.scenarios.includes(scenario)))
        all.push({ scenario, target, rows, samples: [], surprise: undefined })

  const targetOf = (series: Series) => targets.find(({ name }) => name === series.target)!

  async function add(series: Series): Promise<void> {
    const target = targetOf(series)
    const times = { connections, seconds }
    const { sample, surprise } = await measure(target, target.jobs[series.scenario]!, times)
    series.samples.push(sample)
    series.surprise ??= surprise
  }

  console.error('Warming up')
  for (const series of all) {
    const target = targetOf(series)
    await warmUp(target, target.jobs[series.scenario]!, connections)
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
