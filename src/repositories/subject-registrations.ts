/**
 * Registrations made by a provider's assertion: at most one for each issuer, subject and audience that is not revoked.
 */
import { sql } from 'kysely'
import type { Registration } from '../domain/registration.js'
import { announceAudit, recordAudit, type AuditEntry } from './audit-events.js'
import { supersedeAttempt } from './claim-attempts.js'
import { subjectKey, type Subject } from './delegations.js'
import { inOrder } from './in-order.js'
import { keptUntil } from './spent-assertions.js'
import type { Database, DatabaseTransaction } from './tables.js'
import { dbNow, secondsFromNow } from './time.js'

interface NewRow extends Subject {
  id: string
  audience: string
  scopes: string[] | null
  created_from: string
}

/** What the answer to the agent is made of. */
export type Bound = Pick<Registration, 'id' | 'generation' | 'claimed_at' | 'scopes' | 'email'>

/** The id of the current registration, pending or bound. */
export async function findSubjectRegistration(
  db: DatabaseTransaction,
  { issuer, subject, audience }: Subject & { audience: string },
): Promise<string | undefined> {
  const row = await db
    .selectFrom('registrations')
    .where('issuer', '=', issuer)
    .where('subject', '=', subject)
    .where('audience', '=', audience)
    .where('revoked_at', 'is', null)
    .select('id')
    .executeTakeFirst()
  return row?.id
}

export interface Presented extends Subject {
  audience: string
  scopes: string[] | null
  jti: string
  /** In seconds since the epoch. */
  exp: number
  /** The network address of the agent. */
  address: string
}

/**
 * Accepts, in one statement, assertions that find everything as they would make it: the subject stands for a user, and
 * its registration is that user's, with the same scopes. Spends them, notes that the subjects were seen, and audits the
 * assertions that are issued for them. Undefined for any other, and for one whose subject is locked: it leaves no
 * trace, and has to be spent and resolved in a transaction. Answers in the order of `presented`.
 */
export async function acceptSettled(
  db: Database,
  presented: Presented[],
): Promise<(Bound | undefined)[]> {
  const asked = presented.map((assertion, place) => ({ ...assertion, place }))
  const { rows } = await sql<Bound & { place: number; user_id: string; address: string }>`
    with asked as materialized (
      select *, pg_try_advisory_xact_lock(${subjectKey(sql.ref('issuer'), sql.ref('subject'))}) as locked
      from jsonb_to_recordset(${JSON.stringify(asked)}) as presented (place int, issuer text, subject text,
        audience text, scopes text[], jti text, exp float8, address inet)
    ), settled as materialized (
      select distinct on (asked.issuer, asked.jti) asked.*, users.email, users.id as user_id,
        registrations.id, registrations.generation, registrations.claimed_at
      from asked
        join delegations using (issuer, subject)
        join registrations using (issuer, subject, audience, user_id)
        join users on users.id = user_id
      where asked.locked and delegations.set_aside_at is null and registrations.set_aside_at is null
        and registrations.revoked_at is null and registrations.claimed_at is not null
        and registrations.scopes is not distinct from asked.scopes
      order by asked.issuer, asked.jti, asked.place
    ), spent as (
      insert into spent_assertions (issuer, kind, jti, expires_at)
      select issuer, 'id-jag', jti, ${keptUntil(sql.ref('exp'))} from settled
      on conflict (issuer, kind, jti) do nothing returning issuer, jti
    ), accepted as materialized (
      select settled.* from settled join spent using (issuer, jti)
    ), seen as (
      update delegations set last_seen_at = now() from accepted
      where delegations.issuer = accepted.issuer and delegations.subject = accepted.subject
    ), told as (
      insert into audit_events (event, registration_id, user_id, address)
      select 'assertion.issued', id, user_id, address from accepted order by place
    )
    select place, id, generation, claimed_at, scopes, email, user_id, address from accepted`.execute(
    db,
  )
  announceAudit(db, rows.map(issued))
  return inOrder(
    rows,
    'place',
    asked.map(({ place }) => place),
  )
}

const issued = (of: { id: string; user_id: string; address: string }): AuditEntry => ({
  event: 'assertion.issued',
  registration_id: of.id,
  user_id: of.user_id,
  address: of.address,
})

/**
 * A clean match: binds the registration to the user at once, and makes it if there is none. One that waited for a
 * step-up, or was another user's, is bound anew: nothing minted before counts, nor does the claim token of a step-up
 * that nobody confirmed. Also audits the assertion that is issued for it. Returns the registration as it is now.
 */
export async function bindSubject(
  db: DatabaseTransaction,
  row: NewRow & { user_id: string },
): Promise<Bound> {
  const { created, bound, ...registration } = await putBound(db, row)
  const { id } = registration
  if (bound && !created) await supersedeAttempt(db, id)
  const { user_id, created_from: address } = row
  const events = created ? [{ ...creation(id, row), user_id }] : []
  await recordAudit(db, ...events, issued({ id, user_id, address }))
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
      'id',
      'generation',
      'claimed_at',
      'scopes',
      sql<string | null>`(select email from users where users.id = registrations.user_id)`.as(
        'email',
      ),
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
