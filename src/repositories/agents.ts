/** The agents that a person has allowed, as the person sees and ends them. */
import { sql } from 'kysely'
import { recordAudit } from './audit-events.js'
import { issuerActive } from './registrations.js'
import type { Database, DatabaseTransaction } from './tables.js'
import { dbNow } from './time.js'

interface LinkedAgentsQuery {
  id?: string
  live?: boolean
  usedSince?: Date
  limit: number
}

export interface LinkedAgent {
  id: string
  registration_type: string
  issuer: string | null
  subject: string | null
  scopes: string[] | null
  claimed_at: Date
  revoked_at: Date | null
  set_aside_at: Date | null
  /** Its provider's delegation is set aside too, until the person confirms or refuses it. */
  link_set_aside: boolean
  claim_expires_at: Date | null
  claim_token_used_at: Date | null
  issuer_active: boolean
  /** From the trust list; null without a provider. */
  provider_name: string | null
  last_token_at: Date | null
  asked_from: string | null
}

/**
 * The claimed registrations of the user. With `usedSince` those that may still act come first, so that no number of
 * others hides one: not revoked, and with a provider, or with a claim token unused or first used after `usedSince`.
 * Within that the newest come first. With `id` only that one, if it is the user's; with `live` none that was revoked.
 */
export async function listLinkedAgents(
  db: Database,
  userId: string,
  { id, live = false, usedSince, limit }: LinkedAgentsQuery,
): Promise<LinkedAgent[]> {
  const lastToken = sql<Date | null>`(select occurred_at from audit_events
    where audit_events.registration_id = registrations.id and event = 'token.issued'
    order by audit_events.id desc limit 1)`
  const askedFrom = sql<string | null>`coalesce((select requested_from from claim_attempts
    where claim_attempts.registration_id = registrations.id and confirmed_at is not null
    order by requested_at desc limit 1), created_from)`
  const linkSetAside = sql<boolean>`(select true from delegations
    where delegations.issuer = registrations.issuer and delegations.subject = registrations.subject
      and delegations.user_id = registrations.user_id and delegations.set_aside_at is not null) is not null`
  const mayAct = sql`(revoked_at is null and (registrations.issuer is not null
    or claim_token_used_at is null or claim_token_used_at > ${usedSince ?? null}::timestamptz))`
  const rows = await db
    .selectFrom('registrations')
    .leftJoin('issuers', 'issuers.issuer', 'registrations.issuer')
    .where('registrations.user_id', '=', userId)
    .where('registrations.claimed_at', 'is not', null)
    .$if(live, (query) => query.where('registrations.revoked_at', 'is', null))
    .$if(id !== undefined, (query) => query.where('registrations.id', '=', id!))
    .select([
      'registrations.id',
      'registration_type',
      'registrations.issuer',
      'subject',
      'scopes',
      'claimed_at',
      'revoked_at',
      'set_aside_at',
      linkSetAside.as('link_set_aside'),
      'claim_expires_at',
      'claim_token_used_at',
      issuerActive.as('issuer_active'),
      'issuers.name as provider_name',
      lastToken.as('last_token_at'),
      askedFrom.as('asked_from'),
    ])
    .$if(usedSince !== undefined, (query) => query.orderBy(mayAct, 'desc'))
    .orderBy('claimed_at', 'desc')
    .limit(limit)
    .execute()
  return rows as LinkedAgent[]
}

interface HistoryEntry {
  event: string
  occurred_at: Date
  address: string | null
  /** Of a claim: the provider that made it instead of the person. */
  issuer: string | null
}

/** The events of a registration, the latest first; none about other people, whom the agent may have asked before. */
export async function listHistory(
  db: Database,
  registrationId: string,
  userId: string,
  limit: number,
): Promise<HistoryEntry[]> {
  return await db
    .selectFrom('audit_events')
    .select([
      'event',
      'occurred_at',
      'address',
      sql<string | null>`details->>'issuer'`.as('issuer'),
    ])
    .where('registration_id', '=', registrationId)
    .where((where) => where.or([where('user_id', 'is', null), where('user_id', '=', userId)]))
    .orderBy('id', 'desc')
    .limit(limit)
    .execute()
}

/** Ends one registration of the user and everything minted for it, unless it has ended already. */
export async function revokeRegistration(
  db: DatabaseTransaction,
  id: string,
  audit: { user_id: string; address: string; details: Record<string, string> },
): Promise<void> {
  const revoked = await db
    .updateTable('registrations')
    .set({ revoked_at: dbNow, generation: sql`generation + 1` })
    .where('id', '=', id)
    .where('user_id', '=', audit.user_id)
    .where('revoked_at', 'is', null)
    .returning('registration_type')
    .executeTakeFirst()
  const details = { ...revoked, ...audit.details }
  if (revoked)
    await recordAudit(db, { event: 'registration.revoked', registration_id: id, ...audit, details })
}
