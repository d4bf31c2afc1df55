/**
 * Erases, in batches, what else identifies a forgotten person. Rows, events, times and opaque ids stay, so that the
 * audit trail keeps its shape.
 */
import { sql, type RawBuilder } from 'kysely'
import type { Batch } from './revocation-batches.js'
import { batches, subjectsOf } from './revocation-targets.js'
import type { Database } from './tables.js'

export interface Erased {
  user_id: string
  /** The addresses that were theirs. */
  emails: string[]
}

const BATCH = 500
const AUDIT_BATCH = 1_000
/** Replaces a hinted address where there must be one; not in canonical form, so that it is nobody's. */
const NO_HINT = 'FORGOTTEN@forgotten.invalid'
const NO_SUBJECT = 'forgotten'
/** Members of an audit row's details that identify nobody; all others are removed. */
const IMPERSONAL = [
  'registration_type',
  'issuer',
  'scope',
  'jti',
  'kind',
  'claim_attempt_id',
  'tries_left',
  'reason',
  'sessions',
]

/** The live registrations whose current ceremony asks for the person. */
export async function* askingFor(db: Database, person: Erased): AsyncGenerator<Batch, void> {
  for await (const rows of batches(db, sql`${asks(person)} and revoked_at is null`))
    yield { ids: rows.map(({ id }) => id), subjects: subjectsOf(rows), user_id: person.user_id }
}

/** Their registrations, and those that ask for them, must have been ended before. */
export async function erasePerson(db: Database, person: Erased): Promise<void> {
  const { user_id } = person
  for (const theirs of [sql`user_id = ${user_id}`, asks(person)])
    for await (const rows of batches(db, sql`${theirs} and revoked_at is not null`)) {
      const ids = rows.map(({ id }) => id)
      const own = sql`(user_id is null or user_id = ${user_id})`
      await eraseEvents(db, sql`registration_id = any (${ids}) and ${own}`)
      await sql`update registrations set created_from = null,
          subject = case when subject is not null then ${NO_SUBJECT} end
        where id = any (${ids}) and revoked_at is not null`.execute(db)
      // Last: if this is interrupted, the next run finds them again by the hint.
      await eraseAttempts(db, sql`registration_id = any (${ids})`)
    }
  await eraseAttempts(db, names(person))
  await eraseEvents(db, sql`user_id = ${user_id}`)
}

const names = ({ user_id, emails }: Erased) =>
  sql`(login_hint = any (${emails}) or pinned_user_id = ${user_id})`

/** Not `exists`: there may be millions of registrations, but few attempts that name this person. */
const asks = (person: Erased) => sql`claimed_at is null and id in (
  select registration_id from claim_attempts where superseded_at is null and ${names(person)})`

async function eraseAttempts(db: Database, whose: RawBuilder<unknown>): Promise<void> {
  for (;;) {
    const { numAffectedRows } = await sql`
      update claim_attempts set requested_from = null,
        login_hint = case when login_hint is not null then ${NO_HINT} end
      where id = any (array(
        select id from claim_attempts
        where ${whose} and (requested_from is not null or login_hint <> ${NO_HINT})
        limit ${BATCH}))`.execute(db)
    if (numAffectedRows === 0n) return
  }
}

async function eraseEvents(db: Database, whose: RawBuilder<unknown>): Promise<void> {
  const personal = sql`(address is not null or exists (
    select from jsonb_object_keys(details) as member where member <> all (${IMPERSONAL})))`
  for (let after: string | null = '0'; after !== null;) {
    const { rows }: { rows: { last: string | null }[] } = await sql<{ last: string | null }>`
      with page as (
        select id from audit_events where ${whose} and id > ${after} order by id limit ${AUDIT_BATCH}),
      erased as (
        update audit_events set address = null, details = (
          select jsonb_object_agg(key, value) from jsonb_each(details) where key = any (${IMPERSONAL}))
        where id in (select id from page) and ${personal})
      select max(id) as last from page`.execute(db)
    after = rows[0]!.last
  }
}
