/** Connections to Postgres: every wait is bounded, so that beyond it a caller gets 503 and may try again. */
import type { EventEmitter } from 'node:events'
import type { Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { Kysely, PostgresDialect, type Logger } from 'kysely'
import pg from 'pg'
import { pendingMigrations } from './migrations.js'
import type { Database, DatabaseTransaction, Tables } from './repositories/tables.js'

/** The most connections that a replica opens. */
export const CONNECTIONS = 10
const TIMEOUTS = {
  connectionTimeoutMillis: 3_000,
  statement_timeout: 5_000,
  lock_timeout: 3_000,
  idle_in_transaction_session_timeout: 10_000,
}
/**
 * Plans are kept, even one made while a table was small: so rows are looked up by index, and no table is read from end
 * to end. Where there is no other way, the high estimated cost must not start the JIT compiler.
 */
const PLANS = '-c enable_seqscan=off -c enable_hashjoin=off -c enable_mergejoin=off -c jit=off'
/** Overrides the DateStyle of the role or the database: pg can read only this one. */
const TIMES = '-c datestyle=iso'
/**
 * How long a request or transaction may hold a connection: longer than Postgres takes to give up by itself. By then the
 * network or the whole machine is gone, or each of many answers is slow.
 */
const HELD_MS = 7_000
/**
 * read_only_sql_transaction; feature_not_supported: an unlogged table on a standby, or a kept plan that no longer fits.
 */
const USELESS = new Set(['25006', '0A000'])
/** More than our code has; reaching it means that something makes new texts all the time. */
const MOST_PREPARED = 300
const MOST_RETRIES = 3
const RETRY_SPREAD_MS = 50

/** Opens a pool, which `pool.end()` ends. */
export function connect(
  url: string,
  options: { max: number; onLost: (message: string) => void; log?: Logger | undefined },
): { pool: pg.Pool; db: Database } {
  const pool = new pg.Pool({
    connectionString: url,
    application_name: 'agent-registrar',
    max: options.max,
    idleTimeoutMillis: 60_000,
    keepAlive: true,
    options: `${PLANS} ${TIMES}`,
    ...TIMEOUTS,
  })
  const names = new Map<string, string>()
  const held = new WeakMap<pg.PoolClient, NodeJS.Timeout>()
  const useless = new WeakSet<pg.PoolClient>()
  pool.on('connect', (client) => {
    prepareStatements(client, names)
    // The pool does not listen while a client is in use, and an error that nobody listens for would end the process.
    client.on('error', ({ message }) => {
      // A pool that is ending does not wait for its connections, and a Postgres that stops with us may end them first.
      if (!pool.ending) options.onLost(`Lost a database connection: ${message}`)
    })
    // After a failover the old primary may live on as a standby: its connections must go, for the new one to be found.
    wireOf(client).on('errorMessage', ({ code }) => {
      if (USELESS.has(code)) useless.add(client)
    })
  })
  pool.on('acquire', (client) => {
    held.set(client, setTimeout(endDeaf, HELD_MS, client))
  })
  pool.on('release', (_error, client) => {
    clearTimeout(held.get(client))
    // The pool drops a client that is ending.
    if (useless.has(client)) void client.end()
  })
  // The client has reported the loss of an idle connection above; the next query opens another.
  pool.on('error', () => {})
  const dialect = new PostgresDialect({ pool })
  const log = options.log ?? []
  return { pool, db: new Kysely<Tables>({ dialect, log }) }
}

function endDeaf(client: pg.PoolClient): void {
  wireOf(client).stream.destroy(new Error('Connection terminated: Postgres was too slow'))
}

/** Postgres parses and plans a statement that has a name once for each connection, instead of each time. */
function prepareStatements(client: pg.PoolClient, names: Map<string, string>): void {
  const query = client.query.bind(client) as (...args: unknown[]) => unknown
  client.query = ((text: unknown, values?: unknown, ...more: unknown[]) => {
    if (typeof text !== 'string' || !Array.isArray(values) || values.length === 0)
      return query(text, values, ...more)
    if (!names.has(text) && names.size < MOST_PREPARED) names.set(text, `s${names.size}`)
    return query({ name: names.get(text), text, values }, ...more)
  }) as typeof client.query
}

/**
 * Commits what `work` does, or nothing. After a deadlock or a serialization failure `work` runs again: it must have no
 * effect outside `tx`.
 */
export async function inTransaction<Result>(
  db: Database,
  work: (tx: DatabaseTransaction) => Promise<Result>,
): Promise<Result> {
  return await retryConflicts(() => db.transaction().execute(work))
}

/** `work`: one statement or one transaction, of which a deadlock or a serialization failure leaves nothing behind. */
export async function retryConflicts<Result>(work: () => Promise<Result>): Promise<Result> {
  for (let retries = 0; retries < MOST_RETRIES; retries += 1) {
    try {
      return await work()
    } catch (error) {
      if (!isConflict(error)) throw error
      // Spread out, or those that collided would collide again.
      await sleep(Math.random() * RETRY_SPREAD_MS)
    }
  }
  return await work()
}

/** @throws when this version needs migrations that the database lacks. */
export async function requireMigrations(pool: pg.Pool): Promise<void> {
  const pending = await pendingMigrations(pool)
  if (pending.length > 0)
    throw new Error(
      `The database lacks migrations (${pending.join(', ')}). Run them first: npm run registrar -- migrate up`,
    )
}

/** @throws the error that a write would get, which also makes the pool drop the connection and look for the primary. */
export async function requireWritable(pool: pg.Pool): Promise<void> {
  await pool.query('select from signing_keys where false for share')
}

/** The least that the database's clock and ours can be apart, in seconds: the time of the round trip is not counted. */
export async function clockDistance(pool: pg.Pool): Promise<number> {
  const before = Date.now()
  const { rows } = await pool.query<{ now: number }>(
    'select 1000 * extract(epoch from clock_timestamp())::float8 as now',
  )
  const { now } = rows[0]!
  return Math.max(before - now, now - Date.now(), 0) / 1000
}

/** @throws when the clocks are too far apart: times in tables are the database's, times in tokens are ours. */
export async function requireSameTime(pool: pg.Pool, skewSeconds: number): Promise<void> {
  const seconds = await clockDistance(pool)
  if (!isSameTime(seconds, skewSeconds))
    throw new Error(`This clock and the database's are ${Math.round(seconds)} s apart`)
}

/** Whether clocks this many seconds apart count as the same. */
export function isSameTime(seconds: number, skewSeconds: number): boolean {
  // Tokens are dated in whole seconds.
  return seconds <= skewSeconds + 1
}

/** What an operator can mend, in a sentence. A host with several addresses fails with several errors and no message. */
export function sentence(error: unknown): string {
  const { errors: [first] = [error] } = error as Partial<AggregateError>
  const { message, syscall } = first as NodeJS.ErrnoException
  if (isTlsFault(first)) return `DATABASE_URL: no TLS connection to the database: ${message}`
  if (syscall === 'getaddrinfo') return `DATABASE_URL: its host is not found: ${message}`
  return syscall === 'connect' ? `The database cannot be reached: ${message}` : message
}

/** The certificate is not believed, or Postgres has TLS switched off. */
export function isTlsFault(error: unknown): boolean {
  const { code, message } = error as NodeJS.ErrnoException
  return /CERT|SIGNATURE|^ERR_(SSL|TLS)_|^EPROTO$/.test(code ?? '') || /support SSL/.test(message)
}

/** serialization_failure, deadlock_detected: others hold the rows, and soon will not. */
function isConflict(error: unknown): boolean {
  return ['40001', '40P01'].includes(String((error as { code?: unknown } | null)?.code))
}

/** A client's own connection, to end one that is deaf: pg's own query timeout would put it back into the pool. */
function wireOf(client: pg.PoolClient) {
  return (client as unknown as { connection: EventEmitter & { stream: Socket } }).connection
}
