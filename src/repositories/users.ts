/** People, and the accounts they sign in with. */
import { sql } from 'kysely'
import type { Database, DatabaseTransaction } from './tables.js'
import { dbNow } from './time.js'

/**
 * The user behind a sign-in; made at the first one. `email` is verified and canonical: an account that already has
 * it is the same person's. `first`: nobody ever signed in to it before.
 */
export async function signInUser(
  db: DatabaseTransaction,
  signIn: { issuer: string; subject: string; email: string; newUserId: string },
): Promise<{ user_id: string; created: boolean; first: boolean }> {
  const { issuer, subject, email, newUserId } = signIn
  const known = await db
    .updateTable('sign_ins')
    .set({ last_seen_at: dbNow })
    .where('issuer', '=', issuer)
    .where('subject', '=', subject)
    .returning('user_id')
    .executeTakeFirst()
  if (known) return { ...known, created: false, first: false }
  const made = await db
    .insertInto('users')
    .values({ id: newUserId, email })
    .onConflict((conflict) => conflict.column('email').doNothing())
    .returning('id')
    .executeTakeFirst()
  // Two first sign-ins at once: the second waits here for the first. The lock is the one that lets others refer to the
  // row: an assertion that is being presented would deadlock with a stronger one.
  const { id } =
    made ??
    (await db
      .selectFrom('users')
      .select('id')
      .where('email', '=', email)
      .forNoKeyUpdate()
      .executeTakeFirstOrThrow())
  const before = await db
    .selectFrom('sign_ins')
    .select('issuer')
    .where('user_id', '=', id)
    .limit(1)
    .executeTakeFirst()
  await db
    .insertInto('sign_ins')
    .values({ issuer, subject, user_id: id })
    .onConflict((conflict) => conflict.columns(['issuer', 'subject']).doNothing())
    .execute()
  return { user_id: id, created: id === newUserId, first: before === undefined }
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

export interface Contact {
  email: string | null
  phone_number: string | null
}

/** Nobody can sign in as them: no address to compare, no account. */
const unreachable = sql<boolean>`(email is null and not exists (select from sign_ins where user_id = users.id))`

/** The user who has the verified address, else the one who has the number, if that one can confirm anything. */
export async function findUserByContact(
  db: DatabaseTransaction,
  { email, phone_number }: Contact,
): Promise<string | undefined> {
  const rows = await db
    .selectFrom('users')
    .select(['id', 'email'])
    .where((where) =>
      where.or([where('email', '=', email), where('phone_number', '=', phone_number)]),
    )
    .where(sql<boolean>`not ${unreachable}`)
    .execute()
  return (rows.find((row) => email !== null && row.email === email) ?? rows[0])?.id
}

/**
 * False when somebody has the address or the number by now. A number that leads to nobody who could ever confirm goes to
 * the new user, and nothing else of the old one does.
 */
export async function insertUser(
  db: DatabaseTransaction,
  id: string,
  contact: Contact,
): Promise<boolean> {
  if (contact.phone_number !== null)
    await db
      .updateTable('users')
      .set({ phone_number: null })
      .where('phone_number', '=', contact.phone_number)
      .where(unreachable)
      .execute()
  const row = await db
    .insertInto('users')
    .values({ id, ...contact })
    .onConflict((conflict) => conflict.doNothing())
    .returning('id')
    .executeTakeFirst()
  return row !== undefined
}
