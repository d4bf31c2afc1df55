/** Delegations: which user a provider's subject stands for. */
import { sql, type RawBuilder } from 'kysely'
import { recordAudit, type AuditEntry } from './audit-events.js'
import type { Database, DatabaseTransaction, Tables } from './tables.js'
import { dbNow } from './time.js'

export interface Subject {
  issuer: string
  subject: string
}

/** The subject of a registration; undefined when no provider vouched for it. */
export function subjectOf({
  issuer,
  subject,
}: Pick<Tables['registrations'], 'issuer' | 'subject'>): Subject | undefined {
  return issuer === null || subject === null ? undefined : { issuer, subject }
}

/**
 * Serializes everything about one subject of one provider: its assertions, its events, the confirmation of its
 * step-ups. Taken before any row lock, so that no two of them deadlock.
 */
export async function lockSubject(
  db: DatabaseTransaction,
  { issuer, subject }: Subject,
): Promise<void> {
  await sql`select pg_advisory_xact_lock(${subjectKey(issuer, subject)})`.execute(db)
}

/** The number of a subject's lock, in SQL. Takes values or columns. */
export function subjectKey(issuer: unknown, subject: unknown): RawBuilder<bigint> {
  return sql`hashtextextended(${subject}, hashtextextended(${issuer}, 0))`
}

/**
 * Finds the user that the subject stands for, and notes that it was seen. A delegation that is set aside counts for
 * nothing until that user confirms it.
 */
export async function findDelegation(
  db: DatabaseTransaction,
  { issuer, subject }: Subject,
): Promise<{ user_id: string; set_aside_at: Date | null } | undefined> {
  return await db
    .updateTable('delegations')
    .set({ last_seen_at: dbNow })
    .where('issuer', '=', issuer)
    .where('subject', '=', subject)
    .returning(['user_id', 'set_aside_at'])
    .executeTakeFirst()
}

/** All subjects that stand for the user, set aside or not. */
export async function listSubjects(db: DatabaseTransaction, userId: string): Promise<Subject[]> {
  return await db
    .selectFrom('delegations')
    .select(['issuer', 'subject'])
    .where('user_id', '=', userId)
    .execute()
}

/** Creates the delegation, or hands an existing one to this user; it is not set aside any more. */
export async function putDelegation(
  db: DatabaseTransaction,
  { issuer, subject }: Subject,
  user_id: string,
  address: string,
): Promise<void> {
  await db
    .insertInto('delegations')
    .values({ issuer, subject, user_id })
    .onConflict((conflict) =>
      conflict.columns(['issuer', 'subject']).doUpdateSet({ user_id, set_aside_at: null }),
    )
    .execute()
  await recordAudit(db, { event: 'delegation.confirmed', user_id, address, details: { issuer } })
}

/** Whether the user has ever let this provider speak for them, even if that has ended. */
export async function knowsProvider(
  db: Database,
  userId: string,
  issuer: string,
): Promise<boolean> {
  const row = await db
    .selectFrom('delegations')
    .select('issuer')
    .where('user_id', '=', userId)
    .where('issuer', '=', issuer)
    .where('set_aside_at', 'is', null)
    .unionAll(
      db
        .selectFrom('registrations')
        .select('issuer')
        .where('user_id', '=', userId)
        .where('claimed_at', 'is not', null)
        .where('issuer', '=', issuer)
        .where('set_aside_at', 'is', null)
        .$narrowType<{ issuer: string }>(),
    )
    .limit(1)
    .executeTakeFirst()
  return row !== undefined
}

/**
 * Removes the delegation, with `ofUser` only if it is that user's; false when there was none. From then on the
 * provider's word for the subject is not enough: its person is asked again.
 */
export async function removeDelegation(
  db: DatabaseTransaction,
  { issuer, subject }: Subject,
  audit: Pick<AuditEntry, 'address' | 'details'>,
  ofUser?: string,
): Promise<boolean> {
  const removed = await db
    .deleteFrom('delegations')
    .where('issuer', '=', issuer)
    .where('subject', '=', subject)
    .$if(ofUser !== undefined, (query) => query.where('user_id', '=', ofUser!))
    .returning('user_id')
    .executeTakeFirst()
  if (removed) await recordAudit(db, { event: 'delegation.removed', ...removed, ...audit })
  return removed !== undefined
}

/**
 * Ends what a provider's subject may do: the delegation, and its registrations with everything minted for them. The
 * delegation goes first, as everywhere: in the other order this would deadlock with a first sign-in, which locks no
 * subject.
 */
export async function revokeSubject(
  db: DatabaseTransaction,
  { issuer, subject }: Subject,
  audit: { address: string; details: Record<string, string> },
): Promise<void> {
  await removeDelegation(db, { issuer, subject }, audit)
  const revoked = await db
    .updateTable('registrations')
    .set({ revoked_at: dbNow, generation: sql`generation + 1` })
    .where('issuer', '=', issuer)
    .where('subject', '=', subject)
    .where('revoked_at', 'is', null)
    .returning(['id', 'user_id', 'registration_type'])
    .execute()
  for (const { id: registration_id, user_id, registration_type } of revoked) {
    const of = user_id ? { registration_id, user_id } : { registration_id }
    const details = { registration_type, ...audit.details }
    await recordAudit(db, { event: 'registration.revoked', ...of, ...audit, details })
  }
}
