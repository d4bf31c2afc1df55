/** The audit trail, read in its own order: by id. */
import type { Database } from './tables.js'

/** Its latest, in their order. */
export async function listRegistrationEvents(db: Database, registrationId: string, limit: number) {
  const rows = await db
    .selectFrom('audit_events')
    .select(['id', 'occurred_at', 'event', 'user_id', 'address', 'details'])
    .where('registration_id', '=', registrationId)
    .orderBy('id', 'desc')
    .limit(limit)
    .execute()
  return rows.toReversed()
}
