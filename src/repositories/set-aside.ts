/** Delegations from before their person ever signed in: set aside until that person says yes or no. */
import { sql } from 'kysely'
import { recordAudit } from './audit-events.js'
import { putDelegation, type Subject } from './delegations.js'
import type { Database, DatabaseTransaction } from './tables.js'
import { dbNow } from './time.js'

/**
 * At a person's first sign-in, sets aside whatever providers had linked to their account before: whoever got a provider
 * to vouch for them could be in it already (pre-hijacking).
 */
export async function setAsideDelegations(
  db: DatabaseTransaction,
  user_id: string,
  address: string,
): Promise<void> {
  const aside = await db
    .updateTable('delegations')
    .set({ set_aside_at: dbNow })
    .where('user_id', '=', user_id)
    .returning('issuer')
    .execute()
  await db
    .updateTable('registrations')
    .set({ set_aside_at: dbNow })
    .where('user_id', '=', user_id)
    .where('revoked_at', 'is', null)
    .execute()
  await recordAudit(
    db,
    ...aside.map(({ issuer }) => ({
      event: 'delegation.set_aside' as const,
      user_id,
      address,
      details: { issuer },
    })),
  )
}

/** The user's delegations that are set aside, the oldest first, with the provider's name from the trust list. */
export async function listSetAside(
  db: Database,
  userId: string,
): Promise<(Subject & { name: string; created_at: Date })[]> {
  return await db
    .selectFrom('delegations')
    .innerJoin('issuers', 'issuers.issuer', 'delegations.issuer')
    .select(['delegations.issuer', 'subject', 'issuers.name', 'delegations.created_at'])
    .where('user_id', '=', userId)
    .where('set_aside_at', 'is not', null)
    .orderBy('delegations.created_at')
    .execute()
}

/** The user's own consent to a provider's subject, in a step-up or to one that was set aside. */
export async function confirmDelegation(
  db: DatabaseTransaction,
  { issuer, subject }: Subject,
  user_id: string,
  address: string,
): Promise<void> {
  await putDelegation(db, { issuer, subject }, user_id, address)
  await db
    .updateTable('registrations')
    // Tokens minted before the person came may be in other hands: the agent has to present itself again.
    .set({ set_aside_at: null, generation: sql`generation + 1` })
    .where('issuer', '=', issuer)
    .where('subject', '=', subject)
    .where('user_id', '=', user_id)
    .where('set_aside_at', 'is not', null)
    .execute()
}
