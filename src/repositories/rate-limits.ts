/**
 * The counts of the rate limits. Each count's hour begins with its first request. Only the database's clock counts: a
 * replica whose clock is ahead would end everybody's hour.
 */
import { sql } from 'kysely'
import type { LimitName, Standing } from '../domain/limits.js'
import { inOrder } from './in-order.js'
import type { Database } from './tables.js'

/**
 * A count from the future was made before the clock was set back; a minute is tolerated, by which one transaction may
 * have begun before another.
 */
const inForce = sql<boolean>`(counted.started_at > now() - interval '1 hour'
  and counted.started_at < now() + interval '1 minute')`
const secondsLeft = sql<number>`least(ceil(extract(epoch from started_at - now()) + 3600), 3600)::int`

interface Limit {
  name: LimitName
  /** At least 1. */
  quota: number
}

/**
 * Counts one more for each key, as often as it is given, unless its quota is used up. One statement, so that of
 * simultaneous callers, on whatever replicas, no more than the quota pass. Once it is used up nothing is written, so
 * that a flood leaves nothing to clean up; the count may stand above the quota by those that were refused in the
 * statement that used it up. Answers in the order of `keys`.
 */
export async function takeFromLimit(
  db: Database,
  { name, quota }: Limit,
  keys: string[],
): Promise<Standing[]> {
  // A count that refuses but is not visible here began at this very moment: then a full hour is left.
  const { rows } = await sql<{ key: string; left: number; seconds: number }>`
    with asked as (
      select key, count(*)::int as wanted from unnest(${keys}::text[]) as asked (key) group by key
    ), taken as (
      insert into rate_limits as counted (name, key, count, started_at)
      select ${name}, key, wanted, now() from asked order by key
      on conflict (name, key) do update set
        count = case when ${inForce} then counted.count else 0 end + excluded.count,
        started_at = case when ${inForce} then counted.started_at else excluded.started_at end
      where not ${inForce} or counted.count < ${quota}
      returning key, count, started_at
    )
    select asked.key, coalesce(${quota} - taken.count + asked.wanted, 0) as left,
      case when taken.key is not null then ${secondsLeft} else coalesce((
        select ${secondsLeft} from rate_limits as counted where name = ${name} and counted.key = asked.key and ${inForce}
      ), 3600) end as seconds
    from asked left join taken using (key)`.execute(db)
  const found = new Map(rows.map((row) => [row.key, row]))
  return keys.map((key) => {
    const counted = found.get(key)!
    counted.left -= 1
    const { left, seconds } = counted
    return { ok: left >= 0, remaining: Math.max(left, 0), seconds }
  })
}

/** What `takeFromLimit` would find for one of each key, without counting: `ok` while anything is left. */
export async function lookAtLimit(
  db: Database,
  { name, quota }: Limit,
  keys: string[],
): Promise<Standing[]> {
  const { rows } = await sql<Standing & { key: string }>`
    select asked.key, coalesce(count < ${quota}, true) as ok,
      greatest(${quota} - coalesce(count, 0), 0) as remaining, coalesce(${secondsLeft}, 3600) as seconds
    from unnest(${keys}::text[]) as asked (key)
      left join rate_limits as counted on name = ${name} and counted.key = asked.key and ${inForce}`.execute(
    db,
  )
  return inOrder(rows, 'key', keys).map((row) => row!)
}
