/** People as operators see them, and how one is forgotten. */
import { sql } from 'kysely'
import { recordAudit } from './audit-events.js'
import type { Database, DatabaseTransaction } from './tables.js'
import { dbNow } from './time.js'
import { lockEmail } from './users.js'

export async function findUserId(
  db: Database,
  by: { id: string } | { email: string },
): Promise<string | undefined> {
  const [[column, value]] = Object.entries(by) as [['id' | 'email', string]]
  const row = await db.selectFrom('users').select('id').where(column, '=', value).executeTakeFirst()
  return row?.id
}

/**
 * The user with their sign-in accounts, their delegations and the number of their sessions. Throws when there is no
 * such user.
 */
export async function findPerson(db: Database, id: string) {
  const user = await db
    .selectFrom('users')
    .select(['id', 'email', 'phone_number', 'created_at', 'forgotten_at'])
    .select(
      sql<number>`(select count(*)::int from sessions where user_id = users.id)`.as('sessions'),
    )
    .where('id', '=', id)
    .executeTakeFirstOrThrow()
  const sign_ins = await db
    .selectFrom('sign_ins')
    .select(['issuer', 'subject', 'created_at', 'last_seen_at'])
    .where('user_id', '=', id)
    .orderBy('last_seen_at', 'desc')
    .execute()
  const delegations = await db
    .selectFrom('delegations')
    .select(['issuer', 'subject', 'created_at', 'last_seen_at', 'set_aside_at'])
    .where('user_id', '=', id)
    .orderBy('last_seen_at', 'desc')
    .execute()
  return { ...user, sign_ins, delegations }
}

/**
 * Forgets a person: from the commit on nobody is this user, and nothing can be bound to it (see `lockUser` and
 * `findSession`). Locks in the order of sign-ins (address, account, user) and of confirmations (user, delegation).
 * Returns the address that was theirs, if any; null also when they had been forgotten before.
 */
export async function forgetPerson(db: DatabaseTransaction, id: string): Promise<string | null> {
  const { email } = await db
    .selectFrom('users')
    .select('email')
    .where('id', '=', id)
    .executeTakeFirstOrThrow()
  if (email !== null) await lockEmail(db, email)
  await db.deleteFrom('sign_ins').where('user_id', '=', id).execute()
  const last = await db
    .selectFrom('users')
    .select(['email', 'forgotten_at'])
    .where('id', '=', id)
    .forNoKeyUpdate()
    .executeTakeFirstOrThrow()
  await db.deleteFrom('delegations').where('user_id', '=', id).execute()
  await db.deleteFrom('sessions').where('user_id', '=', id).execute()
  if (last.forgotten_at) return null
  await db
    .updateTable('users')
    .set({ email: null, phone_number: null, forgotten_at: dbNow })
    .where('id', '=', id)
    .execute()
  await recordAudit(db, { event: 'user.forgotten', user_id: id })
  return last.email
}
