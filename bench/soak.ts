/** Runs all scenarios at once for minutes, to see whether memory grows. */
import { residentMb } from './accounting.js'
import { load } from './load.js'
import type { Options } from './options.js'
import { number } from './report.js'
import { slope } from './statistics.js'
import type { Target } from './target.js'

const SLICE_SECONDS = 60
/** The share of the time in which the heap finds its size and code is compiled. */
const WARM_UP_SHARE = 0.2
const GOAL_MB = 130

export async function soak(target: Target, options: Options) {
  const seconds = options.soakMinutes * 60
  const jobs = options.scenarios.flatMap((scenario) => target.jobs[scenario] ?? [])
  const connections = Math.max(1, Math.round(options.connections / jobs.length))
  const from = performance.now()
  const elapsed = () => (performance.now() - from) / 1000
  const points: { x: number; y: number }[] = []
  const sampler = setInterval(
    () => points.push({ x: elapsed() / 3600, y: residentMb(target.pids()) }),
    1000,
  )
  let requests = 0
  let errors = 0
  let surprise: string | undefined
  try {
    while (elapsed() < seconds) {
      for (const job of jobs) await job.prepare?.(0)
      const slice = { connections, seconds: Math.min(SLICE_SECONDS, seconds - elapsed()) }
      const outcomes = await Promise.all(jobs.map((job) => load(target, job, slice)))
      for (const outcome of outcomes) {
        requests += outcome.requests
        errors += outcome.errors
        surprise ??= outcome.surprise
      }
      console.error(
        `  ${number(elapsed() / 60, 1)} minutes: ${number(residentMb(target.pids()), 1)} MB`,
      )
    }
  } finally {
    clearInterval(sampler)
  }
  const warm = points.filter(({ x }) => x * 3600 >= seconds * WARM_UP_SHARE)
  const memory = warm.map(({ y }) => y)
  return {
    requests,
    errors,
    surprise,
    mb_first: memory[0]!,
    mb_most: Math.max(...memory),
    mb_last: memory.at(-1)!,
    mb_per_hour: slope(warm),
    points,
  }
}

export function printSoak(target: string, soaked: Awaited<ReturnType<typeof soak>>): void {
  const { requests, errors, surprise, mb_first, mb_most, mb_last, mb_per_hour } = soaked
  console.log(`\nSoaked: ${target}\n`)
  console.log(`  ${number(requests)} requests, ${number(errors)} errors`)
  if (surprise !== undefined) console.log(`  unexpected: ${surprise}`)
  console.log(
    `  resident after the warm-up ${number(mb_first, 1)} MB, at the end ${number(mb_last, 1)} MB`,
  )
  console.log(
    `  most ${number(mb_most, 1)} MB (goal: at most ${GOAL_MB}), slope ${number(mb_per_hour, 1)} MB/h`,
  )
}
