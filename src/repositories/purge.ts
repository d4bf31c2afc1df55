/** Removes expired rows in small batches, which replicas can do side by side. */
import { sql } from 'kysely'
import type { Database } from './tables.js'

const OVER = {
  spent_assertions: sql`expires_at < now()`,
  // By then the access token is refused by its own `exp`.
  revoked_tokens: sql`expires_at < now() - interval '1 hour'`,
  rate_limits: sql`started_at < now() - interval '1 hour'`,
  sessions: sql`created_at < now() - interval '1 day'`,
} as const

type Purged = Record<keyof typeof OVER, number>

/** Returns how many rows of each table were removed; `limit` of them means that there may be more. */
export async function purgeExpired(db: Database, limit: number): Promise<Purged> {
  const purged: Purged = { spent_assertions: 0, revoked_tokens: 0, rate_limits: 0, sessions: 0 }
  for (const [table, over] of Object.entries(OVER)) {
    const { numAffectedRows = 0n } = await sql`
      delete from ${sql.table(table)} where ctid = any (array(
        select ctid from ${sql.table(table)} where ${over} limit ${limit} for update skip locked))`.execute(
      db,
    )
    purged[table as keyof Purged] = Number(numAffectedRows)
  }
  return purged
}
