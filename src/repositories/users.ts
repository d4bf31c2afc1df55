/** People, and the accounts they sign in with. */
import { sql } from 'kysely'
import type { Database, DatabaseTransaction } from './tables.js'
import { dbNow } from './time.js'

/**
 * The user behind a sign-in; made at the first one. `email` is verified and canonical: an account that already has
 * it is the same person's.
 */
export async function signInUser(
  db: DatabaseTransaction,
  signIn: { issuer: string; subject: string; email: string; newUserId: string },
): Promise<{ user_id: string; created: boolean }> {
  const { issuer, subject, email, newUserId } = signIn
  const known = await db
    .updateTable('sign_ins')
    .set({ last_seen_at: dbNow })
    .where('issuer', '=', issuer)
    .where('subject', '=', subject)
    .returning('user_id')
    .executeTakeFirst()
  if (known) return { ...known, created: false }
  const { id } = await db
    .insertInto('users')
    .values({ id: newUserId, email })
    // Two first sign-ins at once: the second waits here for the first and gets its row.
    .onConflict((conflict) => conflict.column('email').doUpdateSet({ email: sql`excluded.email` }))
    .returning('id')
    .executeTakeFirstOrThrow()
  await db
    .insertInto('sign_ins')
    .values({ issuer, subject, user_id: id })
    .onConflict((conflict) => conflict.columns(['issuer', 'subject']).doNothing())
    .execute()
  return { user_id: id, created: id === newUserId }
}

/** Whether an agent was linked to this account before. */
export async function hasLinkedAgent(db: Database, userId: string): Promise<boolean> {
  const row = await db
    .selectFrom('registrations')
    .select('id')
    .where('user_id', '=', userId)
    .where('claimed_at', 'is not', null)
    .limit(1)
    .executeTakeFirst()
  return row !== undefined
}

/** Keeps the user from being deleted until the transaction ends; false when that has already happened. */
export async function lockUser(db: DatabaseTransaction, id: string): Promise<boolean> {
  const row = await db
    .selectFrom('users')
    .select('id')
    .where('id', '=', id)
    .forKeyShare()
    .executeTakeFirst()
  return row !== undefined
}
