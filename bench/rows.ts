/** Fills every table and index of a database as if so many agents had registered, and analyzes it. */
import pg from 'pg'
import { PEOPLE_EVERY, SQL } from './derived.js'

/** Every tenth is a provider's, bound to a person; odd ones have a link and a code; the others are anonymous. */
const person = `i % ${PEOPLE_EVERY} = 0`
const hinted = `i % 2 = 1`

const TABLES = {
  users: `(id, email) select ${SQL.userId}, 'person-' || i || '@example.com' from numbers where ${person}`,
  delegations: `(issuer, subject, user_id)
    select $1, ${SQL.subject}, ${SQL.userId} from numbers where ${person}`,
  registrations: `(id, registration_type, claim_token_hash, claim_expires_at, created_at, created_from,
      user_id, claimed_at, issuer, subject, audience)
    select ${SQL.registrationId},
      case when ${person} then 'identity_assertion' when ${hinted} then 'service_auth' else 'anonymous' end,
      case when not ${person} then ${SQL.claimTokenHash} end,
      case when not ${person} then now() + interval '23 hours' end,
      now() - interval '30 days' * random(), '127.0.0.1',
      case when ${person} then ${SQL.userId} end,
      case when ${person} then now() end,
      case when ${person} then $1 end,
      case when ${person} then ${SQL.subject} end,
      case when ${person} then $2 end
    from numbers`,
  claim_attempts: `(id, registration_id, token_hash, user_code_mac, login_hint_kind, login_hint, requested_from, expires_at)
    select ${SQL.attemptId}, ${SQL.registrationId}, sha256(convert_to('link ' || i, 'UTF8')),
      sha256(convert_to('code ' || i, 'UTF8')), 'email', 'person-' || i || '@example.com', '127.0.0.1',
      now() + interval '23 hours'
    from numbers where ${hinted} and not ${person}`,
  poll_states: `(registration_id, polled_at, interval_seconds, slow_down)
    select ${SQL.registrationId}, now() - interval '1 minute', 5, false from numbers where not ${person}`,
  audit_events: `(occurred_at, event, registration_id, address, details)
    select now() - interval '1 hour', 'registration.created', ${SQL.registrationId}, '127.0.0.1',
      jsonb_build_object('registration_type', 'anonymous')
    from numbers`,
}

interface Registered {
  /** How many registrations, numbered from 1. */
  count: number
  issuer: string
  audience: string
}

/** Returns how many seconds it took. */
export async function fill(url: string, { count, issuer, audience }: Registered): Promise<number> {
  const from = performance.now()
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    await client.query('set synchronous_commit = off')
    await client.query(`set maintenance_work_mem = '256MB'`)
    const remake = await dropChecks(client)
    for (const [table, rows] of Object.entries(TABLES)) {
      const values = [issuer, audience].slice(
        0,
        rows.includes('$2') ? 2 : rows.includes('$1') ? 1 : 0,
      )
      await client.query(
        `insert into ${table} ${rows}`.replace('numbers', `generate_series(1, ${count}) as i`),
        values,
      )
    }
    for (const definition of remake) await client.query(definition)
    await client.query('vacuum (analyze)')
    await client.query('checkpoint').catch(() => {})
    await warm(client)
  } finally {
    await client.end()
  }
  return (performance.now() - from) / 1000
}

/** Loads as much as fits into Postgres's memory, where it would be after a while. */
async function warm(client: pg.Client): Promise<void> {
  try {
    await client.query('create extension if not exists pg_prewarm')
  } catch (error) {
    console.error(`  Postgres's memory starts cold: ${(error as Error).message}`)
    return
  }
  await client.query(
    `select pg_prewarm(oid) from pg_class where relnamespace = 'public'::regnamespace
     and relkind in ('r', 'i') order by pg_relation_size(oid) desc`,
  )
}

/**
 * Drops indexes and foreign keys, which are faster to make than to keep up. Returns how to make them again, in order.
 */
async function dropChecks(client: pg.Client): Promise<string[]> {
  const tables = [Object.keys(TABLES)]
  const { rows: constraints } = await client.query<Record<'name' | 'at' | 'definition', string>>(
    `select conname as name, conrelid::regclass::text as at, pg_get_constraintdef(oid) as definition
     from pg_constraint
     where contype = 'f' and (conrelid::regclass::text = any ($1) or confrelid::regclass::text = any ($1))
       or contype in ('p', 'u') and conrelid::regclass::text = any ($1)
     order by contype = 'f' desc`,
    tables,
  )
  for (const { name, at } of constraints)
    await client.query(`alter table ${at} drop constraint ${name}`)
  const { rows: indexes } = await client.query<Record<'name' | 'definition', string>>(
    `select indexrelid::regclass::text as name, pg_get_indexdef(indexrelid) as definition
     from pg_index where indrelid::regclass::text = any ($1)`,
    tables,
  )
  for (const { name } of indexes) await client.query(`drop index ${name}`)
  return [
    ...indexes.map(({ definition }) => definition),
    ...constraints
      .toReversed()
      .map(({ name, at, definition }) => `alter table ${at} add constraint ${name} ${definition}`),
  ]
}
