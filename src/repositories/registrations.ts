/** Registrations: looked up by id, bound to a person, and their generation raised. */
import { sql, type RawBuilder } from 'kysely'
import { inOrder } from './in-order.js'
import type { Database, DatabaseTransaction } from './tables.js'
import type { Registration } from '../domain/registration.js'
import type { Account } from '../domain/token-person.js'
import { dbNow } from './time.js'

/** The columns of `Registration`, except its user's email and `issuer_active`. */
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

/** True without a provider, or with one that is on the trust list and in force. */
export const issuerActive = sql<boolean>`(registrations.issuer is null or exists (
  select from issuers as listed where listed.issuer = registrations.issuer
    and listed.disabled_at is null and listed.removed_at is null))`

/** The registration's user's account at one of these issuers, the one last signed in with; null when there is none. */
export function lastSignIn(issuers: string[]): RawBuilder<Account | null> {
  if (issuers.length === 0) return sql`null`
  return sql`(
    select json_build_object('issuer', used.issuer, 'subject', used.subject) from sign_ins as used
    where used.user_id = registrations.user_id and used.issuer = any(${issuers})
    order by used.last_seen_at desc, used.issuer, used.subject limit 1)`
}

export interface ExchangeState extends Registration {
  sign_in: Account | null
  /** Of the assertion issued last, if it is on record. */
  assertion_hash: Buffer | null
  now: Date
}

/**
 * The registrations in the order of `ids`, with the user's verified email and last account at one of these issuers, and
 * the database's clock. Fails when the database takes no writes, since what follows from the answer may be written
 * after it.
 */
export async function findRegistrations(
  db: Database,
  ids: string[],
  signInIssuers: string[],
): Promise<(ExchangeState | undefined)[]> {
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
      'registrations.assertion_hash',
      dbNow.as('now'),
    ])
    .execute()
  return inOrder(rows, 'id', ids)
}

/**
 * Binds the registration to the person; false when it is claimed, revoked or expired already. An anonymous one changes
 * generation: whoever captured its earlier credentials must not be upgraded with it.
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

/** Ends everything minted under this generation; false when something else already has. */
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
