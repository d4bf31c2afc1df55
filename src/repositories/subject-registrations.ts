/**
 * Registrations made by a provider's assertion: at most one for each issuer, subject and audience that is not revoked.
 */
import { sql } from 'kysely'
import type { Registration } from '../domain/registration.js'
import { recordAudit, type AuditEntry } from './audit-events.js'
import { supersedeAttempt } from './claim-attempts.js'
import type { Subject } from './delegations.js'
import type { DatabaseTransaction } from './tables.js'
import { dbNow, secondsFromNow } from './time.js'

interface NewRow extends Subject {
  id: string
  audience: string
  scopes: string[] | null
  created_from: string
}

/** What the answer to the agent is made of. */
export type Bound = Pick<Registration, 'id' | 'generation' | 'claimed_at' | 'scopes' | 'email'>

const BOUND = [
  'id',
  'generation',
  'claimed_at',
  'scopes',
  sql<string | null>`(select email from users where users.id = registrations.user_id)`.as('email'),
] as const

/** The current registration, pending or bound. */
function selectCurrent(
  db: DatabaseTransaction,
  { issuer, subject, audience }: Subject & { audience: string },
) {
  return db
    .selectFrom('registrations')
    .where('issuer', '=', issuer)
    .where('subject', '=', subject)
    .where('audience', '=', audience)
    .where('revoked_at', 'is', null)
}

/** The id of the current registration, pending or bound. */
export async function findSubjectRegistration(
  db: DatabaseTransaction,
  subject: Subject & { audience: string },
): Promise<string | undefined> {
  const row = await selectCurrent(db, subject).select('id').executeTakeFirst()
  return row?.id
}

/**
 * A clean match: binds the registration to the user at once, and makes it if there is none. One that waited for a
 * step-up, or was another user's, is bound anew: nothing minted before counts, nor does the claim token of a step-up
 * that nobody confirmed. Also audits the assertion that is issued for it. Returns the registration as it is now.
 */
export async function bindSubject(
  db: DatabaseTransaction,
  row: NewRow & { user_id: string },
): Promise<Bound> {
  // Most assertions find the registration just as they would make it, and a write is the most expensive part of them.
  const settled = await selectCurrent(db, row)
    .where('claimed_at', 'is not', null)
    .where('set_aside_at', 'is', null)
    .where('user_id', '=', row.user_id)
    .where(sql<boolean>`scopes is not distinct from ${row.scopes}`)
    .select(BOUND)
    .executeTakeFirst()
  const { created, bound, ...registration } = settled
    ? { created: false, bound: false, ...settled }
    : await putBound(db, row)
  const { id: registration_id } = registration
  if (bound && !created) await supersedeAttempt(db, registration_id)
  const { user_id, created_from: address } = row
  await recordAudit(db, ...(created ? [{ ...creation(registration_id, row), user_id }] : []), {
    event: 'assertion.issued',
    registration_id,
    user_id,
    address,
  })
  return registration
}

function putBound(db: DatabaseTransaction, row: NewRow & { user_id: string }) {
  return db
    .insertInto('registrations')
    .values({ ...row, registration_type: 'identity_assertion', claimed_at: dbNow })
    .onConflict((conflict) =>
      conflict
        .columns(['issuer', 'subject', 'audience'])
        .where('revoked_at', 'is', null)
        .doUpdateSet({
          user_id: row.user_id,
          scopes: row.scopes,
          claimed_at: sql`coalesce(registrations.claimed_at, now())`,
          claim_token_hash: unlessPending('claim_token_hash'),
          claim_expires_at: unlessPending('claim_expires_at'),
          set_aside_at: null,
          generation: sql`registrations.generation + case
            when registrations.claimed_at is null or registrations.set_aside_at is not null
              or registrations.user_id is distinct from excluded.user_id then 1 else 0 end`,
        }),
    )
    .returning([
      ...BOUND,
      sql<boolean>`xmax = 0`.as('created'),
      sql<boolean>`claimed_at = now()`.as('bound'),
    ])
    .executeTakeFirstOrThrow()
}

const unlessPending = <Column>(column: string) =>
  sql<Column>`case when registrations.claimed_at is not null then ${sql.ref(`registrations.${column}`)} end`

/**
 * An account match: the person has to confirm. Whatever the registration was before, it now waits, under a new claim
 * token and generation.
 */
export async function awaitStepUp(
  db: DatabaseTransaction,
  row: NewRow & { claim_token_hash: Buffer; claim_window_seconds: number },
): Promise<{ id: string; claim_expires_at: Date }> {
  const { claim_window_seconds, claim_token_hash, ...columns } = row
  const claim_expires_at = secondsFromNow(claim_window_seconds)
  const { created, ...registration } = await db
    .insertInto('registrations')
    .values({
      ...columns,
      registration_type: 'identity_assertion',
      claim_token_hash,
      claim_expires_at,
    })
    .onConflict((conflict) =>
      conflict
        .columns(['issuer', 'subject', 'audience'])
        .where('revoked_at', 'is', null)
        .doUpdateSet({
          claim_token_hash,
          claim_expires_at,
          claim_token_used_at: null,
          claimed_at: null,
          user_id: null,
          set_aside_at: null,
          expiry_recorded_at: null,
          scopes: row.scopes,
          generation: sql`registrations.generation + 1`,
        }),
    )
    .returning(['id', 'claim_expires_at', sql<boolean>`xmax = 0`.as('created')])
    .executeTakeFirstOrThrow()
  if (created) await recordAudit(db, creation(registration.id, row))
  return { ...registration, claim_expires_at: registration.claim_expires_at! }
}

/** An anonymous registration takes on the subject that claims it; the subject's own registration stays separate. */
export async function attachSubject(
  db: DatabaseTransaction,
  id: string,
  { issuer, subject }: Subject,
  scopes: string[] | null,
): Promise<void> {
  await db
    .updateTable('registrations')
    .set({ issuer, subject, scopes })
    .where('id', '=', id)
    .execute()
}

function creation(registration_id: string, { issuer, created_from }: NewRow): AuditEntry {
  const details = { registration_type: 'identity_assertion', issuer }
  return { event: 'registration.created', registration_id, address: created_from, details }
}
