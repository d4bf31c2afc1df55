/** Rows whose time is over, removed in small batches that replicas can take side by side. */
import { sql } from 'kysely'
import type { Database } from './tables.js'

const OVER = {
  spent_assertions: sql`expires_at < now()`,
  // An access token is refused by its own exp from then on.
  revoked_tokens: sql`expires_at < now() - interval '1 hour'`,
  rate_limits: sql`started_at < now() - interval '1 hour'`,
  sessions: sql`created_at < now() - interval '1 day'`,
} as const

export type Purged = Record<keyof typeof OVER, number>

/** How many rows went; as many as `limit` of a table means that there may be more. */
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

/**
 * Registrations that expired unclaimed so many days ago, and were told of, with their ceremonies. Their audit rows stay.
 * Returns how many went.
 */
export async function purgeUnclaimed(db: Database, days: number, limit: number): Promise<number> {
  const { rows } = await sql`
    with gone as (
      delete from registrations where id = any (array(
        select id from registrations
        where claimed_at is null and revoked_at is null and expiry_recorded_at is not null
          and claim_expires_at < now() - make_interval(days => ${days})
        order by claim_expires_at limit ${limit} for update skip locked))
      returning id),
    polled as (delete from poll_states where registration_id in (select id from gone))
    select id from gone`.execute(db)
  return rows.length
}
