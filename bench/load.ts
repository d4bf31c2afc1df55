/** Puts load on one server: as many requests as it answers, or a given number each second. Every answer is checked. */
import { openConnection, type Connection, type Reply } from './connection.js'

export interface Work {
  /** The next request, whole. */
  next(): string
  /** Whether this is the answer that it should get. */
  expected(reply: Reply): boolean
}

export interface Outcome {
  requests: number
  errors: number
  /** The first answer that was not expected. */
  surprise: string | undefined
  seconds: number
  /** In milliseconds, sorted. */
  latencies: Float64Array
}

export interface LoadOptions {
  connections: number
  seconds: number
  /** Requests a second, in an open loop. Default: a closed loop, where each answer triggers the next request. */
  rate?: number
  /** The most requests; only in a closed loop. */
  requests?: number
  /** Runs when the connections are open, before the first request. */
  onStart?: () => void
}

type Address = { host: string; port: number }

export async function load(address: Address, work: Work, options: LoadOptions): Promise<Outcome> {
  const connections = await Promise.all(
    Array.from({ length: options.connections }, () => openConnection(address.host, address.port)),
  )
  const tally = newTally(work)
  options.onStart?.()
  const from = performance.now()
  const until = from + options.seconds * 1000
  await (options.rate === undefined
    ? closedLoop(connections, work, tally, until, options.requests)
    : openLoop(connections, work, tally, { from, until, rate: options.rate }))
  const seconds = (performance.now() - from) / 1000
  for (const connection of connections) connection.end()
  return { ...tally.outcome(), seconds }
}

interface Tally {
  count(reply: Reply | undefined, since: number): void
  outcome(): Omit<Outcome, 'seconds'>
}

function newTally(work: Work): Tally {
  const latencies: number[] = []
  let errors = 0
  let surprise: string | undefined
  return {
    count(reply, since) {
      latencies.push(performance.now() - since)
      if (reply && work.expected(reply)) return
      errors += 1
      surprise ??= reply ? `${reply.status} ${reply.body.slice(0, 300)}` : 'the connection was lost'
    },
    outcome: () => ({
      requests: latencies.length,
      errors,
      surprise,
      latencies: Float64Array.from(latencies).toSorted(),
    }),
  }
}

/** Ends when the last request is answered. */
async function closedLoop(
  connections: Connection[],
  work: Work,
  tally: Tally,
  until: number,
  most = Infinity,
): Promise<void> {
  let sent = 0
  await Promise.all(
    connections.map(
      (connection) =>
        new Promise<void>((resolve) => {
          const again = () => {
            const since = performance.now()
            if (since >= until || sent >= most) return resolve()
            sent += 1
            connection.send(work.next(), (reply) => {
              tally.count(reply, since)
              again()
            })
          }
          again()
        }),
    ),
  )
}

/** A timer of ours that is later than this was held up, and with it all else in this process. */
const LATE_MS = 3
const TICK_MS = 1

/**
 * A request that is due while all connections are busy waits, and its wait counts. Requests that were due while the
 * load itself was held up are not made up for: they would come all at once, as no callers do.
 */
async function openLoop(
  idle: Connection[],
  work: Work,
  tally: Tally,
  { from, until, rate }: { from: number; until: number; rate: number },
): Promise<void> {
  const all = idle.length
  const due: number[] = []
  let sent = 0
  const dispatch = () => {
    while (idle.length > 0 && due.length > 0) {
      const connection = idle.pop()!
      const since = due.shift()!
      connection.send(work.next(), (reply) => {
        tally.count(reply, since)
        idle.push(connection)
        dispatch()
      })
    }
  }
  let last = from
  let heldUp = 0
  await new Promise<void>((resolve) => {
    const tick = setInterval(() => {
      const now = performance.now()
      if (now - last > LATE_MS) heldUp += now - last - TICK_MS
      last = now
      const owed = Math.floor(((Math.min(now, until) - from - heldUp) / 1000) * rate)
      for (; sent < owed; sent += 1) due.push(now)
      dispatch()
      if (now < until || due.length > 0 || idle.length < all) return
      clearInterval(tick)
      resolve()
    }, TICK_MS)
  })
}

/** A percentile of sorted values; 0 when there are none. */
export function percentile(sorted: Float64Array, share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.ceil(sorted.length * share) - 1)] ?? 0
}
