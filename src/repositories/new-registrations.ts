/** Creates registrations without a provider: each waits for a person, with its first ceremony or with an assertion. */
import { sql } from 'kysely'
import { announceAudit, auditInsert, type AuditEntry } from './audit-events.js'
import { attemptEvents, attemptInsert, type NewAttempt } from './claim-attempts.js'
import { inOrder } from './in-order.js'
import type { Database } from './tables.js'

export interface NewRegistration {
  id: string
  registration_type: 'anonymous' | 'service_auth'
  claim_token_hash: Buffer
  claim_window_seconds: number
  created_from: string
  /** Either the first ceremony, or the assertion that the agent gets at once. */
  first: { attempt: NewAttempt } | { assertion_hash: Buffer }
}

/**
 * Creates what several agents ask for at the same moment in one statement, and so in one transaction; its text is the
 * same for any number. Answers in the order of `rows`.
 */
export async function insertRegistrations(
  db: Database,
  rows: NewRegistration[],
): Promise<{ claim_expires_at: Date }[]> {
  const registrations = rows.map((row) => ({
    id: row.id,
    registration_type: row.registration_type,
    claim_token_hash: row.claim_token_hash.toString('hex'),
    claim_window_seconds: row.claim_window_seconds,
    created_from: row.created_from,
    ...('attempt' in row.first ? {} : { assertion_hash: row.first.assertion_hash.toString('hex') }),
  }))
  const attempts = rows.flatMap(({ id, first }) =>
    'attempt' in first ? [{ of: id, attempt: first.attempt }] : [],
  )
  const events = rows.flatMap(eventsOf)
  const { rows: made } = await sql<{ id: string; claim_expires_at: Date }>`
    with made as (
      insert into registrations (id, registration_type, claim_token_hash, claim_expires_at, created_from,
        assertion_hash)
      select id, registration_type, decode(claim_token_hash, 'hex'),
        now() + make_interval(secs => claim_window_seconds), created_from,
        decode(assertion_hash, 'hex')
      from jsonb_to_recordset(${JSON.stringify(registrations)}) as made (id text, registration_type text,
        claim_token_hash text, claim_window_seconds float8, created_from inet, assertion_hash text)
      returning id, claim_expires_at
    ), started as (${attemptInsert(attempts)}), told as (${auditInsert(events)})
    select * from made`.execute(db)
  announceAudit(db, events)
  const ids = rows.map(({ id }) => id)
  return inOrder(made, 'id', ids).map((row) => row!)
}

function eventsOf({ id, registration_type, created_from, first }: NewRegistration): AuditEntry[] {
  const of = { registration_id: id, address: created_from }
  return [
    { event: 'registration.created', ...of, details: { registration_type } },
    ...('attempt' in first
      ? attemptEvents(id, first.attempt)
      : [{ event: 'assertion.issued' as const, ...of }]),
  ]
}
