/** Registrations whose claim window has passed unclaimed: audited once, and removed when the operator says so. */
import { sql } from 'kysely'
import { recordAudit } from './audit-events.js'
import type { Database, DatabaseTransaction } from './tables.js'
import { dbNow } from './time.js'

/** Audits registrations whose window has passed unclaimed, each once, however many replicas look. Returns how many. */
export async function recordExpiries(db: DatabaseTransaction, limit: number): Promise<number> {
  const rows = await db
    .updateTable('registrations')
    .set({ expiry_recorded_at: dbNow })
    .where('id', 'in', (due) =>
      due
        .selectFrom('registrations')
        .select('id')
        .where('claim_expires_at', '<=', dbNow)
        .where('claimed_at', 'is', null)
        .where('revoked_at', 'is', null)
        .where('expiry_recorded_at', 'is', null)
        .orderBy('claim_expires_at')
        .limit(limit)
        .forUpdate()
        .skipLocked(),
    )
    .returning(['id', 'registration_type'])
    .execute()
  const expired = rows.map(({ id, registration_type }) => ({
    event: 'registration.expired' as const,
    registration_id: id,
    details: { registration_type },
  }))
  await sql`delete from poll_states where registration_id = any (${rows.map(({ id }) => id)})`.execute(
    db,
  )
  await recordAudit(db, ...expired)
  return rows.length
}

/**
 * Removes registrations that expired unclaimed more than `days` days ago, once that has been audited, with their
 * ceremonies; their audit rows stay. Returns how many were removed.
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
