/** One measurement: warm up, then count for a while. */
import { residentMb } from './accounting.js'
import { load, percentile, type LoadOptions, type Outcome } from './load.js'
import type { Job } from './scenarios.js'
import type { Target } from './target.js'

export interface Sample {
  requests_per_second: number
  p50_ms: number
  p99_ms: number
  /** CPU per request, in microseconds. */
  server_us: number
  postgres_us: number | undefined
  proxy_us: number | undefined
  memory_mb: number
  errors: number
  /** Percent of one core: when it is under 100, something else was the limit. */
  server_busy: number
  load_busy: number
}

interface Measured {
  sample: Sample
  surprise: string | undefined
}

const FIRST_GUESS_PER_SECOND = 2_500
const MARGIN = 1.3
/** The last rate of each job, to know how much to prepare. */
const rates = new WeakMap<Job, number>()

/** Before each measurement. */
const WARM_UP_SECONDS = 0.5
/** Once for each scenario at each server: after it, code is compiled. */
const FIRST_WARM_UP = { seconds: 2, requests: 3_000, mostSeconds: 6 }

export async function warmUp(target: Target, job: Job, connections: number): Promise<void> {
  const { seconds, requests, mostSeconds } = FIRST_WARM_UP
  await job.prepare?.(requests)
  const { requests: done } = await load(target, job, { connections, seconds })
  if (done < requests)
    await load(target, job, {
      connections,
      seconds: mostSeconds - seconds,
      requests: requests - done,
    })
}

export async function measure(
  target: Target,
  job: Job,
  options: { connections: number; seconds: number; rate?: number },
): Promise<Measured> {
  const { connections, seconds, rate } = options
  const expected = rate ?? (rates.get(job) ?? FIRST_GUESS_PER_SECOND) * MARGIN
  await job.prepare?.(Math.ceil(expected * (seconds + WARM_UP_SECONDS)))
  const base: LoadOptions = { connections, seconds, ...(rate === undefined ? {} : { rate }) }
  await load(target, job, { ...base, seconds: WARM_UP_SECONDS })

  let before = usage(target)
  const outcome = await load(target, job, { ...base, onStart: () => (before = usage(target)) })
  const after = usage(target)
  rates.set(job, outcome.requests / outcome.seconds)
  return { sample: sampleOf(target, outcome, before, after), surprise: outcome.surprise }
}

interface Usage {
  server: number
  postgres: number | undefined
  proxy: number | undefined
  load: number
}

function usage({ server, postgres, proxy }: Target): Usage {
  const { user, system } = process.cpuUsage()
  return { server: server(), postgres: postgres?.(), proxy: proxy?.(), load: user + system }
}

function sampleOf(target: Target, outcome: Outcome, before: Usage, after: Usage): Sample {
  const { requests, seconds, latencies, errors } = outcome
  const server = after.server - before.server
  const each = (from: number | undefined, to: number | undefined) =>
    from === undefined || to === undefined ? undefined : (to - from) / requests
  const percent = (microseconds: number) => microseconds / seconds / 10_000
  return {
    requests_per_second: requests / seconds,
    p50_ms: percentile(latencies, 0.5),
    p99_ms: percentile(latencies, 0.99),
    server_us: server / requests,
    postgres_us: each(before.postgres, after.postgres),
    proxy_us: each(before.proxy, after.proxy),
    memory_mb: residentMb(target.pids()),
    errors,
    server_busy: percent(server),
    load_busy: percent(after.load - before.load),
  }
}
