/** Work that goes on beside requests, for as long as the app serves. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'

/** Starts `work` when the app is ready. Closing the app aborts `stop` and waits until `work` has ended. */
export function inBackground(
  app: FastifyInstance,
  work: (stop: AbortSignal) => Promise<void>,
): void {
  const stop = new AbortController()
  let working = Promise.resolve()
  app.addHook('onReady', async () => {
    working = work(stop.signal)
  })
  app.addHook('onClose', async () => {
    stop.abort()
    await working
  })
}

/** Ends early when `stop` is aborted. */
export async function pause(ms: number, stop: AbortSignal): Promise<void> {
  await sleep(ms, undefined, { signal: stop }).catch(() => {})
}
