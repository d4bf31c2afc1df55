/**
 * Audits registrations whose claim window has passed, and removes rows that no longer matter. Every replica runs it;
 * each row is taken once.
 */
import fp from 'fastify-plugin'
import { inBackground, pause } from '../background.js'
import { recordExpiries } from '../repositories/expiries.js'
import { purgeExpired } from '../repositories/purge.js'

const PAUSE_MS = 10_000
const BATCH = 500

export default fp(
  async (app) => {
    async function sweepOnce(): Promise<number> {
      const told = await app.transaction((tx) => recordExpiries(tx, BATCH))
      return Math.max(told, ...Object.values(await purgeExpired(app.db, BATCH)))
    }

    inBackground(app, async (stop) => {
      while (!stop.aborted) {
        const done = await sweepOnce().catch((error: unknown) => {
          app.log.warn({ err: error }, 'could not look for what has expired')
          return 0
        })
        if (done < BATCH) await pause(PAUSE_MS, stop)
      }
    })
  },
  { name: 'sweeper', dependencies: ['database'] },
)
