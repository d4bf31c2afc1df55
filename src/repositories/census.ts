/** Figures for the operator. Each query reads a bounded amount, whatever the tables hold. */
import { sql } from 'kysely'
import type { Database } from './tables.js'

export interface Census {
  registrations: { kind: string; state: string; count: number }[]
  /** Seconds since the newest signing key was made. */
  key_age: number
}

/** About 30,000 rows: up to that the count is exact, beyond it is estimated from a sample of that size. */
const MOST_BYTES = 8_192_000
const share = sql`least(1, ${sql.lit(MOST_BYTES)} / greatest(pg_relation_size('registrations'), 1)::float)`

export async function takeCensus(db: Database): Promise<Census> {
  const { rows } = await sql<Census['registrations'][number]>`
    select registration_type as kind, state, round(count(*) / ${share})::float as count
    from (
      select registration_type,
        case when revoked_at is not null then 'revoked'
          when claimed_at is not null then 'claimed'
          when claim_expires_at <= now() then 'expired'
          else 'unclaimed' end as state
      from registrations tablesample system (100 * ${share})
    ) as sample
    group by registration_type, state`.execute(db)
  const { key_age } = await db
    .selectFrom('signing_keys')
    .select(sql<number>`extract(epoch from now() - max(created_at))::float`.as('key_age'))
    .executeTakeFirstOrThrow()
  return { registrations: rows, key_age }
}
