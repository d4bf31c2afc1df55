/** The database, which must be at the version this code was written for. */
import fp from 'fastify-plugin'
import type pg from 'pg'
import { batched } from '../batched.js'
import {
  connect,
  CONNECTIONS,
  inTransaction,
  requireMigrations,
  requireSameTime,
  requireWritable,
  retryConflicts,
} from '../database.js'
import type { Database, DatabaseTransaction } from '../repositories/tables.js'

declare module 'fastify' {
  interface FastifyInstance {
    db: Database
    /** Runs `work` in a transaction. It may run again: it must have no effect outside `tx`. */
    transaction<Result>(work: (tx: DatabaseTransaction) => Promise<Result>): Promise<Result>
    /** Combines calls that come at the same moment into one call of `load`, which makes a single statement. */
    batched: typeof batched
    /** The connection pool, for metrics. */
    pool: Pick<pg.Pool, 'totalCount' | 'idleCount' | 'waitingCount' | 'options'>
  }
}

export default fp(
  async (app) => {
    const { pool, db } = connect(app.config.DATABASE_URL!, {
      max: CONNECTIONS,
      onLost: (message) => app.log.warn(message),
      log: app.traceStatement,
    })
    app.decorate('db', db)
    app.decorate('transaction', (work) => inTransaction(db, work))
    app.decorate('batched', (load, options) =>
      batched((inputs) => retryConflicts(async () => load(inputs)), options),
    )
    app.decorate('pool', pool)
    // Not db.destroy(), which does nothing before Kysely's first query.
    app.addHook('onClose', async () => pool.end())
    await requireMigrations(pool)
    app.readiness.push(
      () => requireMigrations(pool),
      () => requireWritable(pool),
      () => requireSameTime(pool, app.config.CLOCK_SKEW_SECONDS),
    )
  },
  { name: 'database', dependencies: ['readiness'] },
)
