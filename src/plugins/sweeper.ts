/**
 * Tells the audit trail of registrations whose window passed, and removes what no longer matters. Every replica runs
 * it; each row is taken once.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import fp from 'fastify-plugin'
import { recordExpiries } from '../repositories/expiries.js'
import { purgeExpired } from '../repositories/purge.js'

const PAUSE_MS = 10_000
const BATCH = 500

export default fp(
  async (app) => {
    const stop = new AbortController()
    let running = Promise.resolve()
    app.addHook('onReady', async () => {
      running = sweep()
    })
    app.addHook('onClose', async () => {
      stop.abort()
      await running
    })

    async function sweepOnce(): Promise<number> {
      const told = await app.transaction((tx) => recordExpiries(tx, BATCH))
      return Math.max(told, ...Object.values(await purgeExpired(app.db, BATCH)))
    }

    async function sweep(): Promise<void> {
      while (!stop.signal.aborted) {
        const done = await sweepOnce().catch((error: unknown) => {
          app.log.warn({ err: error }, 'could not look for what has expired')
          return 0
        })
        if (done < BATCH) await sleep(PAUSE_MS, undefined, { signal: stop.signal }).catch(() => {})
      }
    }
  },
  { name: 'sweeper', dependencies: ['database'] },
)
