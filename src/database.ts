/** Connections to Postgres: every wait is bounded, so that beyond it a caller gets 503 and may try again. */
import type { Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { Kysely, PostgresDialect } from 'kysely'
import pg from 'pg'
import { pendingMigrations } from './migrations.js'
import type { Database, DatabaseTransaction, Tables } from './repositories/tables.js'

const TIMEOUTS = {
  connectionTimeoutMillis: 3_000,
  statement_timeout: 5_000,
  lock_timeout: 3_000,
  idle_in_transaction_session_timeout: 10_000,
}
/** Longer than Postgres takes to give up by itself: after it the network or the whole machine is gone. */
const SILENCE_MS = 7_000
const MOST_RETRIES = 3
const RETRY_SPREAD_MS = 50

/** Ends with `pool.end()`. */
export function connect(
  url: string,
  options: { max: number; onLost: (message: string) => void },
): { pool: pg.Pool; db: Database } {
  const pool = new pg.Pool({
    connectionString: url,
    application_name: 'agent-registrar',
    max: options.max,
    idleTimeoutMillis: 60_000,
    keepAlive: true,
    ...TIMEOUTS,
  })
  pool.on('connect', (client) => {
    // The pool does not listen while a client is in use. Unheard, an error would end the process.
    client.on('error', ({ message }) => options.onLost(`Lost a database connection: ${message}`))
    const socket = socketOf(client)
    socket.on('timeout', () =>
      socket.destroy(new Error('Connection terminated: Postgres has fallen silent')),
    )
  })
  pool.on('acquire', (client) => void socketOf(client).setTimeout(SILENCE_MS))
  pool.on('release', (_error, client) => void socketOf(client).setTimeout(0))
  // A lost idle connection, which its client has told of, is replaced at the next query.
  pool.on('error', () => {})
  return { pool, db: new Kysely<Tables>({ dialect: new PostgresDialect({ pool }) }) }
}

/**
 * Commits what `work` does, or nothing. After a deadlock or a serialization failure, which leave nothing behind, `work`
 * runs again: it must have no effect outside `tx`.
 */
export async function inTransaction<Result>(
  db: Database,
  work: (tx: DatabaseTransaction) => Promise<Result>,
): Promise<Result> {
  for (let retries = 0; ; retries += 1) {
    try {
      return await db.transaction().execute(work)
    } catch (error) {
      if (retries === MOST_RETRIES || !isConflict(error)) throw error
      // Apart from each other, or those who collided would collide again.
      await sleep(Math.random() * RETRY_SPREAD_MS)
    }
  }
}

/** @throws when this version needs migrations that the database lacks. */
export async function requireMigrations(pool: pg.Pool): Promise<void> {
  const pending = await pendingMigrations(pool)
  if (pending.length > 0)
    throw new Error(
      `The database lacks migrations (${pending.join(', ')}). Run them first: npm run registrar -- migrate up`,
    )
}

/** @throws when the database takes no writes, or its clock is not ours: times are the database's, tokens are dated by us. */
export async function requireWritable(pool: pg.Pool, skewSeconds: number): Promise<void> {
  const before = Date.now()
  const { rows } = await pool.query<{ now: number; read_only: boolean }>(
    `select 1000 * extract(epoch from clock_timestamp())::float8 as now,
       current_setting('transaction_read_only')::boolean as read_only`,
  )
  const { now, read_only } = rows[0]!
  if (read_only) throw new Error('The database is read-only')
  const seconds = Math.max(before - now, now - Date.now()) / 1000
  // Tokens are dated in whole seconds.
  if (seconds > skewSeconds + 1)
    throw new Error(`This clock and the database's are ${Math.round(seconds)} s apart`)
}

/** What an operator can mend, in a sentence. A host with several addresses fails with several errors, and no words. */
export function sentence(error: unknown): string {
  const { errors: [first] = [error] } = error as Partial<AggregateError>
  const { message, syscall } = first as NodeJS.ErrnoException
  return syscall === 'connect' ? `The database cannot be reached: ${message}` : message
}

/** serialization_failure, deadlock_detected: others hold the rows, and soon will not. */
function isConflict(error: unknown): boolean {
  return ['40001', '40P01'].includes(String((error as { code?: unknown } | null)?.code))
}

/** pg's own timeout for a query would put the deaf connection back into the pool. */
function socketOf(client: pg.PoolClient): Socket {
  return (client as unknown as { connection: { stream: Socket } }).connection.stream
}
