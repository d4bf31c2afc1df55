/** What Postgres says of itself and of our connections to it. */
import { sql } from 'kysely'
import type { Database, Tables } from './tables.js'

interface ServerFacts {
  version: string
  version_num: number
  database: string
  role: string
  /** It follows another server, and takes no writes. */
  standby: boolean
  read_only: boolean
  synchronous_commit: string
  encoding: string
}

export async function serverFacts(db: Database): Promise<ServerFacts> {
  const { rows } = await sql<ServerFacts>`
    select current_setting('server_version') as version,
      current_setting('server_version_num')::int as version_num,
      current_database() as database, current_user as role, pg_is_in_recovery() as standby,
      current_setting('default_transaction_read_only')::bool as read_only,
      current_setting('synchronous_commit') as synchronous_commit,
      current_setting('server_encoding') as encoding`.execute(db)
  return rows[0]!
}

interface ConnectionFacts {
  /** By the limit that leaves us the fewest: the server's, the database's or the role's. */
  allowed: number
  left: number
}

/**
 * How many connections we may have and how many are left. Those reserved for superusers are not ours. A limit of -1 is
 * none.
 */
export async function connectionFacts(db: Database): Promise<ConnectionFacts> {
  const { rows } = await sql<ConnectionFacts>`
    with limits (allowed, used) as (
      select current_setting('max_connections')::int
          - current_setting('superuser_reserved_connections')::int
          - coalesce(current_setting('reserved_connections', true), '0')::int,
        (select sum(numbackends)::int from pg_stat_database)
      union all select datconnlimit,
        (select numbackends from pg_stat_database where datname = current_database())
        from pg_database where datname = current_database() and datconnlimit >= 0
      union all select rolconnlimit,
        (select count(*)::int from pg_stat_activity where usename = current_user)
        from pg_roles where rolname = current_user and rolconnlimit >= 0
    )
    select allowed, greatest(allowed - used, 0) as left from limits order by 2 limit 1`.execute(db)
  return rows[0]!
}

/** An object, so that it does not compile when a table is missing here. */
const TABLES: Record<keyof Tables, true> = {
  users: true,
  issuers: true,
  delegations: true,
  spent_assertions: true,
  sign_ins: true,
  sessions: true,
  registrations: true,
  claim_attempts: true,
  poll_states: true,
  rate_limits: true,
  revoked_tokens: true,
  signing_keys: true,
  deployment: true,
  secret_fingerprints: true,
  resource_servers: true,
  audit_events: true,
}

interface LackingPrivileges {
  /** Our role, quoted as SQL needs it. */
  role: string
  table: string
  missing: string
}

/** The privileges that our role lacks on our tables, each of which we read and write. */
export async function lackingPrivileges(db: Database): Promise<LackingPrivileges[]> {
  const tables = Object.keys(TABLES)
  const { rows } = await sql<LackingPrivileges>`
    select quote_ident(current_user) as role, "table", string_agg(privilege, ', ' order by nth) as missing
    from unnest(${tables}::text[]) as "table"
      cross join unnest('{select,insert,update,delete}'::text[]) with ordinality as needed (privilege, nth)
    where not has_table_privilege(to_regclass("table"), privilege)
    group by "table" order by "table"`.execute(db)
  return rows
}
