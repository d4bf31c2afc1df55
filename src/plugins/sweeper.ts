/** Tells the audit trail of registrations whose window passed; every replica runs it, each row is told once. */
import { setTimeout as sleep } from 'node:timers/promises'
import fp from 'fastify-plugin'
import { recordExpiries } from '../repositories/registrations.js'

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

    async function sweep(): Promise<void> {
      while (!stop.signal.aborted) {
        const batch = app.db.transaction().execute((tx) => recordExpiries(tx, BATCH))
        const told = await batch.catch((error: unknown) => {
          app.log.warn({ err: error }, 'could not look for expired registrations')
          return 0
        })
        if (told < BATCH) await sleep(PAUSE_MS, undefined, { signal: stop.signal }).catch(() => {})
      }
    }
  },
  { name: 'sweeper', dependencies: ['database'] },
)
