/** What one call costs this process, with many under way at once, as in a server. */
export interface Cost {
  per_second: number
  /** CPU microseconds. */
  us: number
}

const AT_ONCE = 10
const WARM_UP_MS = 500
const MEASURED_MS = 1_000

export async function costOf(call: (n: number) => Promise<unknown> | void): Promise<Cost> {
  await repeat(call, WARM_UP_MS)
  const [from, before] = [performance.now(), process.cpuUsage()]
  const calls = await repeat(call, MEASURED_MS)
  const { user, system } = process.cpuUsage(before)
  const seconds = (performance.now() - from) / 1000
  return { per_second: calls / seconds, us: (user + system) / calls }
}

async function repeat(call: (n: number) => Promise<unknown> | void, ms: number): Promise<number> {
  const until = performance.now() + ms
  let calls = 0
  const worker = async () => {
    while (performance.now() < until) await call((calls += 1))
  }
  await Promise.all(Array.from({ length: AT_ONCE }, worker))
  return calls
}
