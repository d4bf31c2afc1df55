/** Measures the time from process start to ready, on a migrated database. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Deployment, Prepared } from './own.js'
import { makeReplica } from './replica.js'
import { number } from './report.js'
import { summarize, type Summary } from './statistics.js'

const STARTS = 9
const GOAL_MS = 1_500
const LOOK_EVERY_MS = 5

export async function measureStart(
  { life, folder, cores }: Deployment,
  { env }: Prepared,
): Promise<Summary> {
  const replica = await makeReplica(life, folder, 'start', env, { cores: cores.servers[0] })
  const ready = async () => {
    const answer = await fetch(`${replica.url}/readyz`).catch(() => undefined)
    return answer?.ok ?? false
  }
  const times: number[] = []
  for (let start = 0; start < STARTS; start += 1) {
    const from = performance.now()
    await replica.start()
    while (!(await ready())) {
      if (performance.now() - from > 60_000) throw new Error('The server does not become ready')
      await sleep(LOOK_EVERY_MS)
    }
    times.push(performance.now() - from)
    await replica.stop('SIGTERM')
  }
  return summarize(times)
}

export function printStart({ median, min, max }: Summary): void {
  console.log(
    `\nFrom process start to ready: ${number(median)} ms (${number(min)}-${number(max)}), of ${STARTS} starts; goal: at most ${number(GOAL_MS)} ms`,
  )
}
