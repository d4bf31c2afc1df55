/** People, and the accounts they sign in with. */
import { sql } from 'kysely'
import type { SignIn } from '../domain/sign-in.js'
import { listSubjects, lockSubject, revokeSubject } from './delegations.js'
import type { Database, DatabaseTransaction } from './tables.js'
import { dbNow } from './time.js'

/**
 * The user behind a sign-in, created at the first one. The account is (issuer, subject). A verified address leads to an
 * existing user only if nobody has ever signed in as that user, since whoever has the address today may not be who had
 * it before. `first`: the user was created on a provider's word, and this is its owner's first sign-in.
 */
export async function signInUser(
  db: DatabaseTransaction,
  { issuer, subject, email, newUserId }: SignIn & { newUserId: string },
  audit: { address: string; details: Record<string, string> },
): Promise<{ user_id: string; created: boolean; first: boolean }> {
  await lockSubject(db, { issuer, subject })
  if (email !== null) await lockEmail(db, email)
  const known = await db
    .updateTable('sign_ins')
    .set({ last_seen_at: dbNow })
    .where('issuer', '=', issuer)
    .where('subject', '=', subject)
    .returning('user_id')
    .executeTakeFirst()
  const holder = email === null ? undefined : await findHolder(db, email)
  if (known) {
    await moveEmail(db, known.user_id, email, holder, audit)
    return { ...known, created: false, first: false }
  }
  const theirs = holder && !holder.signed_in ? holder.id : undefined
  if (theirs === undefined) {
    await db.insertInto('users').values({ id: newUserId, email: null }).execute()
    await moveEmail(db, newUserId, email, holder, audit)
  }
  const user_id = theirs ?? newUserId
  await db.insertInto('sign_ins').values({ issuer, subject, user_id }).execute()
  return { user_id, created: theirs === undefined, first: theirs !== undefined }
}

/** Serializes everything that decides whose an address is. Taken after a subject's lock, never before. */
export async function lockEmail(db: DatabaseTransaction, email: string): Promise<void> {
  await sql`select pg_advisory_xact_lock(hashtextextended(${email}, 1))`.execute(db)
}

/** The user who has the address, and whether anybody has ever signed in as them. */
async function findHolder(
  db: DatabaseTransaction,
  email: string,
): Promise<{ id: string; signed_in: boolean } | undefined> {
  return await db
    .selectFrom('users')
    .where('email', '=', email)
    .select([
      'id',
      sql<boolean>`exists (select from sign_ins where user_id = users.id)`.as('signed_in'),
    ])
    .executeTakeFirst()
}

/**
 * Makes `email` the user's address, since their provider vouched for it last; null: they have none any more. The user
 * who had it keeps everything else; but if nobody ever signed in as that one, its agents end, since nobody could see or
 * end them any more.
 */
async function moveEmail(
  db: DatabaseTransaction,
  userId: string,
  email: string | null,
  holder: { id: string; signed_in: boolean } | undefined,
  audit: { address: string; details: Record<string, string> },
): Promise<void> {
  if (holder?.id === userId) return
  if (holder) {
    // Before the user's row is locked: agents that are registering lock in this order.
    if (!holder.signed_in)
      for (const subject of await listSubjects(db, holder.id))
        await revokeSubject(db, subject, audit)
    await db.updateTable('users').set({ email: null }).where('id', '=', holder.id).execute()
  }
  await db
    .updateTable('users')
    .set({ email })
    .where('id', '=', userId)
    .where(sql<boolean>`email is distinct from ${email}`)
    .execute()
}

/** Whether an agent was linked to this account before, by its person or with their consent. */
export async function hasLinkedAgent(db: Database, userId: string): Promise<boolean> {
  const row = await db
    .selectFrom('registrations')
    .select('id')
    .where('user_id', '=', userId)
    .where('claimed_at', 'is not', null)
    .where('set_aside_at', 'is', null)
    .limit(1)
    .executeTakeFirst()
  return row !== undefined
}

/**
 * Until the transaction ends the user cannot be deleted, and others that lock them wait. False when they are deleted
 * already, or forgotten. Lock the registration first.
 */
export async function lockUser(db: DatabaseTransaction, id: string): Promise<boolean> {
  const row = await db
    .selectFrom('users')
    .select('id')
    .where('id', '=', id)
    .where('forgotten_at', 'is', null)
    .forNoKeyUpdate()
    .executeTakeFirst()
  return row !== undefined
}

interface Contact {
  email: string | null
  phone_number: string | null
}

/** Nobody can ever sign in as them: they have no address to match, and no account. */
const unreachable = sql<boolean>`(email is null and not exists (select from sign_ins where user_id = users.id))`

/** The user who has the verified address, else the one who has the number; never one whom nobody can sign in as. */
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
 * Creates a user; false when somebody has the address or the number by now. A number held by a user whom nobody can
 * sign in as goes to the new user, and nothing else of theirs does.
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
