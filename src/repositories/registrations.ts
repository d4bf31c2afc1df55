/** Registrations and what they are claimed with. */
import { sql } from 'kysely'
import { inOrder } from './in-order.js'
import type { Database, DatabaseTransaction } from './tables.js'
import type { Attempt, Registration } from '../domain/registration.js'
import type { Claimant } from '../domain/ceremony.js'
import type { Account } from '../domain/token-person.js'
import { lastSignIn } from './sign-ins.js'
import { dbNow, secondsFromNow } from './time.js'

/** What the domain knows of a registration, but for its user's email. */
export const REGISTRATION = [
  'registrations.id',
  'registrations.registration_type',
  'registrations.user_id',
  'registrations.generation',
  'registrations.claim_expires_at',
  'registrations.claim_token_used_at',
  'registrations.claimed_at',
  'registrations.revoked_at',
  'registrations.issuer',
  'registrations.subject',
  'registrations.set_aside_at',
  'registrations.scopes',
] as const

/** No provider, or one that is on the trust list and in force. */
export const issuerActive = sql<boolean>`(registrations.issuer is null or exists (
  select from issuers as listed where listed.issuer = registrations.issuer
    and listed.disabled_at is null and listed.removed_at is null))`

export interface ClaimState {
  registration: Registration & { sign_in: Account | null }
  attempt: Attempt | undefined
  claimant: Claimant | undefined
  now: Date
}

/**
 * A registration with its current attempt, in one statement: read one after the other,
 * a confirmation between the two would look like an expired ceremony. `sign_in` as of `findRegistrations`.
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
      'attempt.id as attempt_id',
      'attempt.expires_at',
      'attempt.wrong_codes',
      'attempt.declined_at',
      'attempt.confirmed_at',
      'attempt.login_hint_kind',
      'attempt.login_hint',
      'attempt.pinned_user_id',
      dbNow.as('now'),
    ])
    .executeTakeFirst()
  if (!row) return undefined
  const { attempt_id: id, expires_at, wrong_codes, declined_at, confirmed_at, now, ...rest } = row
  const { login_hint_kind, login_hint, pinned_user_id, ...registration } = rest
  if (id === null) return { registration, attempt: undefined, claimant: undefined, now }
  return {
    registration,
    attempt: { id, expires_at: expires_at!, wrong_codes: wrong_codes!, declined_at, confirmed_at },
    claimant: { login_hint_kind, login_hint, pinned_user_id } as Claimant,
    now,
  }
}

/**
 * Serializes every change of a claim: who holds the row decides, and reads after this see what the last one left.
 * Returns the registration's id.
 */
export async function lockByClaimToken(
  db: DatabaseTransaction,
  claimTokenHash: Buffer,
): Promise<string | undefined> {
  const row = await db
    .selectFrom('registrations')
    .select('id')
    .where('claim_token_hash', '=', claimTokenHash)
    .forUpdate()
    .executeTakeFirst()
  return row?.id
}

/** The same lock, by the token in the person's link. */
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

type FoundRegistration = Registration & { sign_in: Account | null; now: Date }

export async function findRegistration(
  db: Database,
  id: string,
): Promise<FoundRegistration | undefined> {
  return (await findRegistrations(db, [id], []))[0]
}

/**
 * In the order of their ids, with the user's verified email and account at one of these issuers, and the database's
 * clock. Fails where nothing can be written: what it leads to may be written after the answer.
 */
export async function findRegistrations(
  db: Database,
  ids: string[],
  signInIssuers: string[],
): Promise<(FoundRegistration | undefined)[]> {
  const rows = await db
    .selectFrom('registrations')
    .leftJoin('users', 'users.id', 'registrations.user_id')
    .where(sql<boolean>`registrations.id = any(${ids})`)
    .where(sql<boolean>`(select true from registrations where false for share) is null`)
    .select([
      ...REGISTRATION,
      issuerActive.as('issuer_active'),
      lastSignIn(signInIssuers).as('sign_in'),
      'users.email',
      dbNow.as('now'),
    ])
    .execute()
  return inOrder(rows, 'id', ids)
}

/**
 * Binds the registration to the person. An anonymous one changes generation: whoever captured what it had before
 * must not be upgraded with it.
 */
export async function claimRegistration(
  db: DatabaseTransaction,
  id: string,
  userId: string,
): Promise<boolean> {
  const { numUpdatedRows } = await db
    .updateTable('registrations')
    .set({
      claimed_at: dbNow,
      user_id: userId,
      registration_type: sql`case when issuer is null then registration_type else 'identity_assertion' end`,
      generation: sql`generation + case registration_type when 'anonymous' then 1 else 0 end`,
    })
    .where('id', '=', id)
    .where('claimed_at', 'is', null)
    .where('revoked_at', 'is', null)
    .where('claim_expires_at', '>', dbNow)
    .executeTakeFirst()
  return numUpdatedRows === 1n
}

/**
 * Marks the claim token's first success, after which nobody polls; false once the grace after it is over or the
 * registration is revoked.
 */
export async function useClaimToken(
  db: DatabaseTransaction,
  id: string,
  graceMs: number,
): Promise<boolean> {
  const { numUpdatedRows } = await db
    .updateTable('registrations')
    .set({ claim_token_used_at: sql`coalesce(claim_token_used_at, now())` })
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
  return numUpdatedRows === 1n
}

/** Kills everything minted under this generation; false when something else already did. */
export async function raiseGeneration(
  db: DatabaseTransaction,
  id: string,
  generation: number,
): Promise<boolean> {
  const { numUpdatedRows } = await db
    .updateTable('registrations')
    .set({ generation: sql`generation + 1` })
    .where('id', '=', id)
    .where('generation', '=', generation)
    .executeTakeFirst()
  return numUpdatedRows === 1n
}
