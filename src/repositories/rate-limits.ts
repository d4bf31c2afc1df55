/**
 * The counts of the rate limits. Each count's hour begins with its first request. Only the database's clock counts: a
 * replica whose clock is ahead would end everybody's hour.
 */
import { sql } from 'kysely'
import type { LimitName, Standing } from '../domain/limits.js'
import type { Database } from './tables.js'

/**
 * A count from the future was made before the clock was set back; a minute is tolerated, by which one transaction may
 * have begun before another.
 */
const inForce = sql<boolean>`(counted.started_at > now() - interval '1 hour'
  and counted.started_at < now() + interval '1 minute')`
const seconds = sql<number>`least(ceil(extract(epoch from started_at - now()) + 3600), 3600)::int`

interface Counted {
  name: LimitName
  key: string
  /** At least 1. */
  quota: number
}

/**
 * Counts one more unless the quota is used up. One statement, so that of simultaneous callers, on whatever replicas, no
 * more than the quota pass. A refusal writes nothing, so that a flood leaves nothing to clean up.
 */
export async function takeFromLimit(
  db: Database,
  { name, key, quota }: Counted,
): Promise<Standing> {
  // A count that refuses but is not visible here began at this very moment: then a full hour is left.
  const { rows } = await sql<Standing>`
    with taken as (
      insert into rate_limits as counted (name, key, count, started_at) values (${name}, ${key}, 1, now())
      on conflict (name, key) do update set
        count = case when ${inForce} then counted.count + 1 else 1 end,
        started_at = case when ${inForce} then counted.started_at else now() end
      where not ${inForce} or counted.count < ${quota}
      returning count, started_at
    )
    select exists (select from taken) as ok,
      coalesce((select ${quota} - count from taken), 0) as remaining,
      coalesce((select ${seconds} from taken), (
        select ${seconds} from rate_limits as counted where name = ${name} and key = ${key} and ${inForce}
      ), 3600) as seconds`.execute(db)
  return rows[0]!
}

/** What `takeFromLimit` would find, without counting: `ok` while anything is left. */
export async function lookAtLimit(db: Database, { name, key, quota }: Counted): Promise<Standing> {
  const { rows } = await sql<Standing>`
    with counted as (
      select greatest(${quota} - count, 0) as remaining, ${seconds} as seconds
      from rate_limits as counted where name = ${name} and key = ${key} and ${inForce}
    )
    select remaining > 0 as ok, remaining, seconds
    from (
      select coalesce((select remaining from counted), ${quota}) as remaining,
        coalesce((select seconds from counted), 3600) as seconds
    ) as standing`.execute(db)
  return rows[0]!
}
