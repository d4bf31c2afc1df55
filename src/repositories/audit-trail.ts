/** Reads the audit trail in the order of its ids; each statement looks at a bounded piece of it. */
import { sql } from 'kysely'
import type { Database } from './tables.js'

const COLUMNS = [
  'occurred_at',
  'event',
  'registration_id',
  'user_id',
  'address',
  'details',
] as const

/** Rows that one statement returns. */
const BATCH = 1_000
/** Rows that one statement scans for an event that may be rare. */
const PAGE = 20_000
/**
 * Times rise with ids to within this margin: `occurred_at` is when the transaction began, and a clock may be set back.
 * Times have no index of their own, which every request would have to maintain.
 */
const MARGIN_SECONDS = 300
/**
 * Ids are settled after this: they are assigned before the commit, so a later id may become visible before an earlier
 * one. Longer than our transactions last.
 */
const SETTLED_SECONDS = 30

export interface AuditFilter {
  event?: string
  registration_id?: string
  user_id?: string
}

export type ListedEvent = Awaited<ReturnType<typeof latestEvents>>[number]

/** The latest `limit` events that match, the oldest of them first. */
export async function latestEvents(db: Database, filter: AuditFilter, limit: number) {
  const found = []
  // A filter with an index needs no pages.
  const paged = (filter.registration_id ?? filter.user_id) === undefined
  let before: string | undefined
  do {
    const from = paged ? await pageStart(db, before) : undefined
    const rows = await matching(db, filter)
      .select(COLUMNS)
      .$if(from !== undefined, (query) => query.where('id', '>=', from!))
      .$if(before !== undefined, (query) => query.where('id', '<', before!))
      .orderBy('id', 'desc')
      .limit(limit - found.length)
      .execute()
    found.push(...rows)
    before = from
  } while (before !== undefined && found.length < limit)
  return found.toReversed()
}

/** The id at which the page before `before` begins; undefined when no more than one page is left. */
async function pageStart(db: Database, before: string | undefined): Promise<string | undefined> {
  const row = await db
    .selectFrom('audit_events')
    .select('id')
    .$if(before !== undefined, (query) => query.where('id', '<', before!))
    .orderBy('id', 'desc')
    .offset(PAGE)
    .limit(1)
    .executeTakeFirst()
  return row?.id
}

/** The events with `since` <= occurred_at < `until`, in order, a batch at a time. */
export async function* eventsBetween(
  db: Database,
  { since, until }: { since?: Date; until?: Date },
): AsyncGenerator<ListedEvent[], void> {
  const newest = await newestId(db)
  const last = until ? await idBefore(db, newest, shifted(until, MARGIN_SECONDS)) : newest
  let after = since ? await idBefore(db, newest, shifted(since, -MARGIN_SECONDS)) : '0'
  for (;;) {
    const rows = await matching(db, {})
      .select(COLUMNS)
      .where('id', '>', after)
      .where('id', '<=', last)
      .orderBy('id')
      .limit(BATCH)
      .execute()
    if (rows.length === 0) return
    after = rows.at(-1)!.id
    yield rows.filter(({ occurred_at: at }) => (!since || at >= since) && (!until || at < until))
  }
}

async function newestId(db: Database): Promise<string> {
  const { rows } = await sql<{ id: string }>`
    select coalesce(max(id), 0) as id from audit_events`.execute(db)
  return rows[0]!.id
}

/** The last id before `time`, by binary search up to `newest`. */
async function idBefore(db: Database, newest: string, time: Date): Promise<string> {
  let [low, high] = [0n, BigInt(newest)]
  while (low < high) {
    const middle = (low + high + 1n) / 2n
    const { occurred_at } = await db
      .selectFrom('audit_events')
      .select('occurred_at')
      .where('id', '>=', String(middle))
      .orderBy('id')
      .limit(1)
      .executeTakeFirstOrThrow()
    if (occurred_at < time) low = middle
    else high = middle - 1n
  }
  return String(low)
}

function shifted(time: Date, seconds: number): Date {
  return new Date(time.getTime() + seconds * 1000)
}

/** The last id, from `after` on, below which no more rows can appear. */
export async function settledId(db: Database, after: string): Promise<string> {
  const { rows } = await sql<{ id: string }>`
    select coalesce(max(id), ${after}::bigint) as id from audit_events
    where id > ${after} and occurred_at < now() - make_interval(secs => ${SETTLED_SECONDS})`.execute(
    db,
  )
  return rows[0]!.id
}

export async function idsAfter(
  db: Database,
  filter: AuditFilter,
  after: string,
): Promise<string[]> {
  const rows = await matching(db, filter).where('id', '>', after).orderBy('id').execute()
  return rows.map(({ id }) => id)
}

/** The events with these ids, in order, a batch at a time. */
export async function* eventsOf(db: Database, ids: string[]): AsyncGenerator<ListedEvent[], void> {
  for (let at = 0; at < ids.length; at += BATCH)
    yield await matching(db, {})
      .select(COLUMNS)
      .where('id', 'in', ids.slice(at, at + BATCH))
      .orderBy('id')
      .execute()
}

function matching(db: Database, { event, registration_id, user_id }: AuditFilter) {
  return db
    .selectFrom('audit_events')
    .select('id')
    .$if(event !== undefined, (query) => query.where('event', '=', event!))
    .$if(registration_id !== undefined, (query) =>
      query.where('registration_id', '=', registration_id!),
    )
    .$if(user_id !== undefined, (query) => query.where('user_id', '=', user_id!))
}
