/** Ceremonies: each has a link and a code; a registration has at most one current one. */
import { sql, type RawBuilder } from 'kysely'
import type { Database, DatabaseTransaction } from './tables.js'
import type { Claimant } from '../domain/ceremony.js'
import type { Attempt } from '../domain/registration.js'
import { recordAudit, type AuditEntry } from './audit-events.js'
import { dbNow, secondsFromNow } from './time.js'

/** The columns of `Attempt`, from a table joined as `attempt`. */
export const ATTEMPT = [
  'attempt.id as attempt_id',
  'attempt.expires_at',
  'attempt.wrong_codes',
  'attempt.declined_at',
  'attempt.confirmed_at',
] as const

interface AttemptColumns {
  attempt_id: string | null
  expires_at: Date | null
  wrong_codes: number | null
  declined_at: Date | null
  confirmed_at: Date | null
}

/** Takes the attempt out of a row that it was joined to; undefined when there was none. */
export function takeAttempt<Row extends AttemptColumns>(row: Row) {
  const { attempt_id: id, expires_at, wrong_codes, declined_at, confirmed_at, ...rest } = row
  const attempt = { id, expires_at, wrong_codes, declined_at, confirmed_at } as Attempt
  return { attempt: id === null ? undefined : attempt, rest }
}

/** The columns of `Claimant`: who may confirm the attempt. */
export const CLAIMANT = [
  'attempt.login_hint_kind',
  'attempt.login_hint',
  'attempt.pinned_user_id',
] as const

export interface NewAttempt {
  id: string
  token_hash: Buffer
  user_code_mac: Buffer
  claimant: Claimant
  lifetime_seconds: number
  requested_from: string
}

/**
 * Starts or renews a ceremony: the older link and code die, and polling starts afresh. The registration must be locked.
 */
export async function startAttempt(
  db: DatabaseTransaction,
  registrationId: string,
  attempt: NewAttempt,
): Promise<{ expires_at: Date }> {
  await supersedeAttempt(db, registrationId)
  await db.deleteFrom('poll_states').where('registration_id', '=', registrationId).execute()
  const { rows } = await attemptInsert([{ of: registrationId, attempt }]).execute(db)
  await recordAudit(db, ...attemptEvents(registrationId, attempt))
  return rows[0]!
}

/** Ends the current link and code, if there are any. */
export async function supersedeAttempt(
  db: DatabaseTransaction,
  registrationId: string,
): Promise<void> {
  await db
    .updateTable('claim_attempts')
    .set({ superseded_at: dbNow })
    .where('registration_id', '=', registrationId)
    .where('superseded_at', 'is', null)
    .execute()
}

/** Inserts the attempts. The statement's text is the same for any number, so that it is prepared once. */
export function attemptInsert(
  rows: { of: string; attempt: NewAttempt }[],
): RawBuilder<{ expires_at: Date }> {
  const attempts = rows.map(
    ({ of, attempt: { claimant, token_hash, user_code_mac, ...rest } }) => ({
      ...rest,
      ...claimant,
      registration_id: of,
      token_hash: token_hash.toString('hex'),
      user_code_mac: user_code_mac.toString('hex'),
    }),
  )
  return sql`insert into claim_attempts (id, registration_id, token_hash, user_code_mac, login_hint_kind, login_hint,
      pinned_user_id, requested_from, expires_at)
    select id, registration_id, decode(token_hash, 'hex'), decode(user_code_mac, 'hex'), login_hint_kind, login_hint,
      pinned_user_id, requested_from, now() + make_interval(secs => lifetime_seconds)
    from jsonb_to_recordset(${JSON.stringify(attempts)}) as attempt (id text, registration_id text, token_hash text,
      user_code_mac text, login_hint_kind text, login_hint text, pinned_user_id text, requested_from inet,
      lifetime_seconds float8)
    returning expires_at`
}

export function attemptEvents(
  registration_id: string,
  { id, requested_from }: NewAttempt,
): AuditEntry[] {
  const of = {
    registration_id,
    address: requested_from,
    details: { claim_attempt_id: id },
  }
  return [
    { event: 'claim.requested', ...of },
    { event: 'user_code.minted', ...of },
  ]
}

/**
 * Seconds until the registration's ceremonies of the last day have had fewer than `limit` wrong codes; undefined when
 * they have now. A renewal must not buy endless tries.
 */
export async function secondsUntilNextCeremony(
  db: DatabaseTransaction,
  registrationId: string,
  limit: number,
): Promise<number | undefined> {
  const row = await db
    .selectFrom(
      db
        .selectFrom('claim_attempts')
        .select([
          'requested_at',
          sql<number>`sum(wrong_codes) over (order by requested_at desc)`.as('wrong_codes'),
        ])
        .where('registration_id', '=', registrationId)
        .where('requested_at', '>', secondsFromNow(-86_400))
        .as('since'),
    )
    .select(secondsUntilADayAfter('requested_at').as('seconds'))
    .where('wrong_codes', '>=', limit)
    .orderBy('requested_at', 'desc')
    .limit(1)
    .executeTakeFirst()
  return row?.seconds
}

/**
 * How many more wrong codes the user may type today, over all claims, and, if none, the seconds until one more. Lock
 * the user first, or the answer may change.
 */
export async function codesLeftToday(
  db: Database,
  userId: string,
  limit: number,
): Promise<{ left: number; seconds: number }> {
  const rows = await db
    .selectFrom('audit_events')
    .select(secondsUntilADayAfter('occurred_at').as('seconds'))
    // A literal, as in the condition of the partial index.
    .where('event', '=', sql.lit('user_code.refused'))
    .where('user_id', '=', userId)
    .where('occurred_at', '>', secondsFromNow(-86_400))
    .orderBy('occurred_at', 'desc')
    .limit(limit)
    .execute()
  return { left: limit - rows.length, seconds: rows.at(-1)?.seconds ?? 0 }
}

function secondsUntilADayAfter(column: string): RawBuilder<number> {
  return sql`ceil(extract(epoch from ${sql.ref(column)} - now()) + 86400)::int`
}

/** Returns how many wrong codes the attempt has had, this one included. */
export async function countWrongCode(db: DatabaseTransaction, id: string): Promise<number> {
  const { wrong_codes } = await db
    .updateTable('claim_attempts')
    .set({ wrong_codes: sql`wrong_codes + 1` })
    .where('id', '=', id)
    .returning('wrong_codes')
    .executeTakeFirstOrThrow()
  return wrong_codes
}

export async function markAttempt(
  db: DatabaseTransaction,
  id: string,
  outcome: 'confirmed_at' | 'declined_at',
): Promise<void> {
  await db
    .updateTable('claim_attempts')
    .set({ [outcome]: dbNow })
    .where('id', '=', id)
    .execute()
}
