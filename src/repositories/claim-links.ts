/** Ceremonies, looked up by the token in the person's link. */
import { sql } from 'kysely'
import type { Claimant } from '../domain/ceremony.js'
import type { PageClaim } from '../domain/claim.js'
import { ATTEMPT, CLAIMANT, takeAttempt } from './claim-attempts.js'
import { issuerActive, REGISTRATION } from './registrations.js'
import type { Database, DatabaseTransaction } from './tables.js'
import { dbNow } from './time.js'

/** `PageClaim`, and what else the page shows and checks. */
export type LoadedClaim = PageClaim & {
  attempt: { requested_at: Date; requested_from: string | null; user_code_mac: Buffer }
  /** The hinted address, or that of the pinned user where it may be shown masked. */
  expected_email: string | null
  /** From the trust list, never from the provider's own words. */
  provider: { name: string; issuer: string } | undefined
  now: Date
}

/**
 * Null when a phone number may have led to the user: the agent then never knew the address, and even its first letter
 * would give something away.
 */
const pinnedEmail = sql<string | null>`case when pinned.phone_number is null then pinned.email end`

export async function findClaimByLink(
  db: Database,
  tokenHash: Buffer,
): Promise<LoadedClaim | undefined> {
  const row = await db
    .selectFrom('claim_attempts as attempt')
    .innerJoin('registrations', 'registrations.id', 'attempt.registration_id')
    .leftJoin('users', 'users.id', 'registrations.user_id')
    .leftJoin('users as pinned', 'pinned.id', 'attempt.pinned_user_id')
    .leftJoin('issuers', 'issuers.issuer', 'registrations.issuer')
    .where('attempt.token_hash', '=', tokenHash)
    .select([
      ...ATTEMPT,
      'attempt.superseded_at',
      ...CLAIMANT,
      'attempt.requested_at',
      'attempt.requested_from',
      'attempt.user_code_mac',
      pinnedEmail.as('pinned_email'),
      'issuers.name as provider_name',
      ...REGISTRATION,
      issuerActive.as('issuer_active'),
      'users.email',
      dbNow.as('now'),
    ])
    .executeTakeFirst()
  if (!row) return undefined
  const { attempt, rest } = takeAttempt(row)
  const { superseded_at, requested_at, requested_from, user_code_mac, ...more } = rest
  const { login_hint_kind, login_hint, pinned_user_id, ...others } = more
  const { provider_name, pinned_email, now, ...registration } = others
  const claimant = { login_hint_kind, login_hint, pinned_user_id } as Claimant
  const asked = { superseded_at, requested_at, requested_from, user_code_mac }
  return {
    registration,
    attempt: { ...attempt!, ...claimant, ...asked },
    expected_email: login_hint ?? pinned_email,
    provider:
      provider_name === null ? undefined : { name: provider_name, issuer: registration.issuer! },
    now,
  }
}

/** Locks the registration of the link, as `lockByClaimToken` does. */
export async function lockByLink(db: DatabaseTransaction, tokenHash: Buffer): Promise<void> {
  await db
    .selectFrom('registrations')
    .select('id')
    .where('id', '=', (of) =>
      of.selectFrom('claim_attempts').select('registration_id').where('token_hash', '=', tokenHash),
    )
    .forUpdate()
    .execute()
}
