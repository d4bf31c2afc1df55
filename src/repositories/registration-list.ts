/** Registrations as operators see them: a page of many, or all there is about one. */
import { sql, type RawBuilder } from 'kysely'
import type { Status } from '../domain/registration.js'
import { ATTEMPT, takeAttempt } from './claim-attempts.js'
import type { Database, RegistrationType } from './tables.js'
import { dbNow } from './time.js'

export interface ListFilter {
  state?: Status
  kind?: RegistrationType
  user_id?: string
  issuer?: string
  since?: Date
  /** The id of the last one on the page before; undefined: the first page. */
  after?: string
  limit: number
  /** Wrong codes that end a ceremony. */
  maxTries: number
}

/** Everything about a registration but its secrets. */
const COLUMNS = [
  'registrations.id',
  'registration_type',
  'user_id',
  'users.email',
  'registrations.issuer',
  'subject',
  'audience',
  'scopes',
  'generation',
  'registrations.created_at',
  'created_from',
  'claim_expires_at',
  'claim_token_used_at',
  'claimed_at',
  'revoked_at',
  'set_aside_at',
] as const

export type ListedRegistration = Awaited<ReturnType<typeof listRegistrations>>[number]

/** A page of registrations that match, the newest first. */
export async function listRegistrations(db: Database, filter: ListFilter) {
  const { state, kind, user_id, issuer, since, after, limit, maxTries } = filter
  const rows = await selectListed(db)
    .$if(state !== undefined, (query) => query.where(inState(state!, maxTries)))
    .$if(kind !== undefined, (query) => query.where('registration_type', '=', kind!))
    .$if(user_id !== undefined, (query) => query.where('user_id', '=', user_id!))
    .$if(issuer !== undefined, (query) => query.where('registrations.issuer', '=', issuer!))
    .$if(since !== undefined, (query) => query.where('registrations.created_at', '>=', since!))
    .$if(after !== undefined, (query) =>
      query.where(
        sql<boolean>`(registrations.created_at, registrations.id)
          < (select created_at, id from registrations where id = ${after})`,
      ),
    )
    .orderBy('registrations.created_at', 'desc')
    .orderBy('registrations.id', 'desc')
    .limit(limit)
    .execute()
  return rows.map(withAttempt)
}

export async function findListed(
  db: Database,
  id: string,
): Promise<ListedRegistration | undefined> {
  const row = await selectListed(db).where('registrations.id', '=', id).executeTakeFirst()
  return row && withAttempt(row)
}

/** The registration's ceremonies, the latest first. */
export async function listAttempts(db: Database, registrationId: string, limit: number) {
  return await db
    .selectFrom('claim_attempts')
    .select(['id', 'login_hint_kind', 'login_hint', 'pinned_user_id', 'wrong_codes'])
    .select(['requested_at', 'requested_from', 'expires_at'])
    .select(['superseded_at', 'declined_at', 'confirmed_at'])
    .where('registration_id', '=', registrationId)
    .orderBy('requested_at', 'desc')
    .limit(limit)
    .execute()
}

function selectListed(db: Database) {
  return db
    .selectFrom('registrations')
    .leftJoin('users', 'users.id', 'registrations.user_id')
    .leftJoin('claim_attempts as attempt', (join) =>
      join
        .onRef('attempt.registration_id', '=', 'registrations.id')
        .on('attempt.superseded_at', 'is', null),
    )
    .select([...COLUMNS, ...ATTEMPT, dbNow.as('now')])
}

type Row = Awaited<ReturnType<ReturnType<typeof selectListed>['executeTakeFirstOrThrow']>>

function withAttempt(row: Row) {
  const { attempt, rest } = takeAttempt(row)
  const { now, ...registration } = rest
  return { registration, attempt, now }
}

/** The condition under which `registrationStatus` says `state`. */
function inState(state: Status, maxTries: number): RawBuilder<boolean> {
  const unclaimed = sql`revoked_at is null and claimed_at is null`
  const open = sql`${unclaimed} and coalesce(claim_expires_at > now(), true)`
  const live = sql`coalesce(attempt.expires_at > now() and attempt.wrong_codes < ${maxTries}
    and attempt.declined_at is null and attempt.confirmed_at is null, false)`
  const conditions: Record<Status, RawBuilder<unknown>> = {
    revoked: sql`revoked_at is not null`,
    claimed: sql`revoked_at is null and claimed_at is not null`,
    expired: sql`${unclaimed} and claim_expires_at <= now()`,
    pending_claim: sql`${open} and ${live}`,
    unclaimed: sql`${open} and not ${live}`,
  }
  return sql<boolean>`(${conditions[state]})`
}
