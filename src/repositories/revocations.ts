/** Revocation of one registration by the operator, whoever it belongs to. */
import { sql } from 'kysely'
import { recordAudit, type AuditEntry } from './audit-events.js'
import { lockSubject, removeDelegation, subjectOf } from './delegations.js'
import type { DatabaseTransaction } from './tables.js'
import { dbNow } from './time.js'

export type Details = NonNullable<AuditEntry['details']>

/** Looks like Postgres's own, so that the transaction is tried again. */
class SerializationFailure extends Error {
  readonly code = '40001'
}

/**
 * Ends one registration, everything minted for it, and its provider's delegation for the user whom it is bound to or
 * waits for: otherwise the provider's next assertion would bring it back.
 * @throws when it has got a subject meanwhile, whose lock has to come first.
 */
export async function revokeById(
  db: DatabaseTransaction,
  id: string,
  details: Details,
): Promise<'revoked' | 'over' | 'unknown'> {
  let found = await findStanding(db, id)
  if (!found) return 'unknown'
  const subject = subjectOf(found)
  if (subject) {
    await lockSubject(db, subject)
    found = await findStanding(db, id)
  }
  if (!found || found.revoked_at) return 'over'
  const person = found.user_id ?? found.asked_user_id
  if (subject && person !== null) await removeDelegation(db, subject, { details }, person)
  const revoked = await db
    .updateTable('registrations')
    .set({ revoked_at: dbNow, generation: sql`generation + 1` })
    .where('id', '=', id)
    .where('revoked_at', 'is', null)
    .where(sql<boolean>`issuer is not distinct from ${subject?.issuer ?? null}`)
    .where(sql<boolean>`subject is not distinct from ${subject?.subject ?? null}`)
    .returning(['id', 'user_id'])
    .executeTakeFirst()
  if (!revoked) throw new SerializationFailure(`${id} has changed`)
  await recordAudit(db, revocation(revoked, details))
  return 'revoked'
}

async function findStanding(db: DatabaseTransaction, id: string) {
  return await db
    .selectFrom('registrations')
    .select([
      'issuer',
      'subject',
      'user_id',
      'revoked_at',
      sql<string | null>`(
        select coalesce(pinned_user_id, (select id from users where email = login_hint)) from claim_attempts
        where registration_id = registrations.id and superseded_at is null)`.as('asked_user_id'),
    ])
    .where('id', '=', id)
    .executeTakeFirst()
}

export function revocation(
  { id, user_id }: { id: string; user_id: string | null },
  details: Details,
): AuditEntry {
  const of = user_id === null ? {} : { user_id }
  return { event: 'registration.revoked', registration_id: id, ...of, details }
}
