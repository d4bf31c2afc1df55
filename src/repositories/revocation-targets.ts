/**
 * What the revocation after an incident covers, in batches: each statement does a bounded piece of work, however many
 * rows there are.
 */
import { sql, type RawBuilder } from 'kysely'
import { subjectOf, type Subject } from './delegations.js'
import type { Batch } from './revocation-batches.js'
import type { Database } from './tables.js'

/** `since`: registered at that time or later; null: all. */
export type Target = { issuer: string } | { user_id: string } | { since: Date | null }

const BATCH = 500
/** Rows that one page of a scan spans. */
const PAGE = 5_000

/**
 * The database's time when the work begins. What is created later is not revoked: with live traffic there would be no
 * end. As text, since a Date has no microseconds.
 */
export async function beginning(db: Database): Promise<string> {
  const { rows } = await sql<{ now: string }>`select now()::text as now`.execute(db)
  return rows[0]!.now
}

/** How many live registrations the target has. */
export async function countTargets(db: Database, target: Target, began: string): Promise<number> {
  let total = 0
  for await (const page of pages(db, target, began)) {
    const { rows } = await sql<{ n: number }>`
      select count(*)::int as n from registrations where ${page} and revoked_at is null`.execute(db)
    total += rows[0]!.n
  }
  return total
}

/** What to end, the delegations first: while they stand, a provider's word could bring an ended registration back. */
export async function* targets(
  db: Database,
  target: Target,
  began: string,
): AsyncGenerator<Batch, void> {
  yield* delegated(db, target, began)
  for await (const page of pages(db, target, began))
    for await (const rows of batches(db, sql`${page} and revoked_at is null`))
      yield { ids: rows.map(({ id }) => id), subjects: subjectsOf(rows), ...personOf(target) }
}

interface Row {
  id: string
  issuer: string | null
  subject: string | null
}

/** The registrations that match `whose`, in the order of their ids, a batch at a time. */
export async function* batches(
  db: Database,
  whose: RawBuilder<unknown>,
): AsyncGenerator<Row[], void> {
  let after = ''
  for (;;) {
    const { rows } = await sql<Row>`
      select id, issuer, subject from registrations
      where ${whose} and id > ${after} order by id limit ${BATCH}`.execute(db)
    if (rows.length === 0) return
    after = rows.at(-1)!.id
    yield rows
  }
}

/** The subjects of the rows, each once. */
export function subjectsOf(rows: Row[]): Subject[] {
  const subjects = rows.flatMap((row) => subjectOf(row) ?? [])
  return [...new Map(subjects.map((of) => [JSON.stringify(of), of])).values()]
}

/** Spares another user, for whom the same subject may stand by now. */
function personOf(target: Target): { user_id?: string } {
  return 'user_id' in target ? { user_id: target.user_id } : {}
}

async function* delegated(db: Database, target: Target, began: string) {
  // With `since` only what has registered since is suspect, and not the delegations from before.
  if ('since' in target && target.since) return
  const whose =
    'issuer' in target
      ? sql`issuer = ${target.issuer}`
      : 'user_id' in target
        ? sql`user_id = ${target.user_id}`
        : sql`true`
  let after: Subject = { issuer: '', subject: '' }
  for (;;) {
    const { rows } = await sql<Subject>`
      select issuer, subject from delegations
      where ${whose} and created_at <= ${began}::timestamptz
        and (issuer, subject) > (${after.issuer}, ${after.subject})
      order by issuer, subject limit ${BATCH}`.execute(db)
    if (rows.length === 0) return
    after = rows.at(-1)!
    yield { ids: [], subjects: rows, ...personOf(target) }
  }
}

/** Conditions on registrations that together select the target, a page each. */
async function* pages(
  db: Database,
  target: Target,
  began: string,
): AsyncGenerator<RawBuilder<unknown>> {
  const old = sql`created_at <= ${began}::timestamptz`
  if ('user_id' in target) yield sql`user_id = ${target.user_id} and ${old}`
  else if ('issuer' in target) yield* pagesOfIssuer(db, target.issuer, old)
  else yield* pagesOfTime(db, target.since, old)
}

async function* pagesOfIssuer(db: Database, issuer: string, old: RawBuilder<unknown>) {
  const live = sql`issuer = ${issuer} and revoked_at is null`
  for (let after: string | undefined = ''; after !== undefined;) {
    const beyond: RawBuilder<unknown> = sql`${live} and subject > ${after}`
    const { rows }: { rows: { subject: string }[] } = await sql<{ subject: string }>`
      select subject from registrations where ${beyond} order by subject
      limit 1 offset ${PAGE}`.execute(db)
    const last = rows[0]?.subject
    yield last === undefined
      ? sql`${beyond} and ${old}`
      : sql`${beyond} and subject <= ${last} and ${old}`
    after = last
  }
}

async function* pagesOfTime(db: Database, since: Date | null, old: RawBuilder<unknown>) {
  let after: { at: string; id: string } | undefined = {
    at: since?.toISOString() ?? '-infinity',
    id: '',
  }
  while (after) {
    const beyond: RawBuilder<unknown> = sql`(created_at, id) > (${after.at}::timestamptz, ${after.id})`
    const { rows }: { rows: { at: string; id: string }[] } = await sql<{ at: string; id: string }>`
      select created_at::text as at, id from registrations where ${beyond} and ${old}
      order by created_at, id limit 1 offset ${PAGE}`.execute(db)
    const last = rows[0]
    yield last
      ? sql`${beyond} and (created_at, id) <= (${last.at}::timestamptz, ${last.id})`
      : sql`${beyond} and ${old}`
    after = last
  }
}
