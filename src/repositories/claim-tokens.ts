/** Registrations, looked up by the claim token that their agent holds. */
import { sql } from 'kysely'
import type { Claimant } from '../domain/ceremony.js'
import type { Attempt, Registration } from '../domain/registration.js'
import type { Account } from '../domain/token-person.js'
import { ATTEMPT, CLAIMANT, takeAttempt } from './claim-attempts.js'
import { issuerActive, lastSignIn, REGISTRATION } from './registrations.js'
import type { Database, DatabaseTransaction } from './tables.js'
import { dbNow, secondsFromNow } from './time.js'

export interface ClaimState {
  registration: Registration & { sign_in: Account | null }
  attempt: Attempt | undefined
  claimant: Claimant | undefined
  now: Date
}

/**
 * A registration with its current attempt, in one statement: with two, a confirmation between them would look like an
 * expired ceremony. For `sign_in` see `findRegistrations`.
 */
export async function findByClaimToken(
  db: Database,
  claimTokenHash: Buffer,
  signInIssuers: string[] = [],
): Promise<ClaimState | undefined> {
  const row = await db
    .selectFrom('registrations')
    .leftJoin('users', 'users.id', 'registrations.user_id')
    .leftJoin('claim_attempts as attempt', (join) =>
      join
        .onRef('attempt.registration_id', '=', 'registrations.id')
        .on('attempt.superseded_at', 'is', null),
    )
    .where('registrations.claim_token_hash', '=', claimTokenHash)
    .select([
      ...REGISTRATION,
      issuerActive.as('issuer_active'),
      lastSignIn(signInIssuers).as('sign_in'),
      'users.email',
      ...ATTEMPT,
      ...CLAIMANT,
      dbNow.as('now'),
    ])
    .executeTakeFirst()
  if (!row) return undefined
  const { attempt, rest } = takeAttempt(row)
  const { login_hint_kind, login_hint, pinned_user_id, now, ...registration } = rest
  const claimant = { login_hint_kind, login_hint, pinned_user_id } as Claimant
  return { registration, attempt, claimant: attempt && claimant, now }
}

/**
 * Locks the registration, which serializes all changes of a claim: whoever holds the lock decides, and later reads see
 * the result.
 */
export async function lockByClaimToken(
  db: DatabaseTransaction,
  claimTokenHash: Buffer,
): Promise<void> {
  await db
    .selectFrom('registrations')
    .select('id')
    .where('claim_token_hash', '=', claimTokenHash)
    .forUpdate()
    .execute()
}

/**
 * Marks the claim token's first success, ends its polling and puts the assertion on record. `spent`: the grace after
 * the first success is over; `revoked`: the registration is revoked or gone.
 */
export async function useClaimToken(
  db: DatabaseTransaction,
  id: string,
  assertionHash: Buffer,
  graceMs: number,
): Promise<'used' | 'spent' | 'revoked'> {
  const { numUpdatedRows } = await db
    .updateTable('registrations')
    .set({
      claim_token_used_at: sql`coalesce(claim_token_used_at, now())`,
      assertion_hash: assertionHash,
    })
    .where('id', '=', id)
    .where('claimed_at', 'is not', null)
    .where('revoked_at', 'is', null)
    .where((where) =>
      where.or([
        where('claim_token_used_at', 'is', null),
        where('claim_token_used_at', '>=', secondsFromNow(-graceMs / 1000)),
      ]),
    )
    .executeTakeFirst()
  await db.deleteFrom('poll_states').where('registration_id', '=', id).execute()
  if (numUpdatedRows === 1n) return 'used'
  const row = await db
    .selectFrom('registrations')
    .select('revoked_at')
    .where('id', '=', id)
    .executeTakeFirst()
  return row && !row.revoked_at ? 'spent' : 'revoked'
}
