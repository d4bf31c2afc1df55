/** The doctor's look at the database: it changes nothing there. */
import type pg from 'pg'
import { attempt, fault, notChecked, ok, warning, type Check } from './cli-doctor-check.js'
import type { Config } from './config.js'
import { clockDistance, CONNECTIONS, isSameTime, isTlsFault, requireWritable } from './database.js'
import { otherDeployment } from './domain/deployment.js'
import { creationRefused, migrationStatus } from './migrations.js'
import { findIssuerOfDatabase } from './repositories/deployment.js'
import { connectionFacts, lackingPrivileges, serverFacts } from './repositories/server-facts.js'
import type { Database } from './repositories/tables.js'

export interface Connected {
  pool: pg.Pool
  db: Database
  embedded: boolean
}

const OLDEST = 150_000
/** Encodings that hold every character; SQL_ASCII stores bytes as they come. */
const HOLD_ALL = ['UTF8', 'SQL_ASCII']

const REACH =
  'start Postgres, and correct DATABASE_URL: host, port, database, user, password; this machine must be let in (pg_hba.conf, firewall)'
const TRUST =
  'make the certificate of Postgres name the host in DATABASE_URL, and trust its authority (sslrootcert=FILE in DATABASE_URL, or NODE_EXTRA_CA_CERTS); sslmode=disable when Postgres has no TLS'

export async function reachable({ db }: Connected): Promise<{ check: Check; reached: boolean }> {
  const name = 'database'
  let reached = false
  const check = await attempt(name, reachFix, async () => {
    const facts = await serverFacts(db)
    reached = true
    const found = `Postgres ${facts.version}, database ${facts.database} as ${facts.role}`
    if (facts.version_num < OLDEST)
      return fault(name, found, 'upgrade Postgres: 15 is the oldest that this version works on')
    if (facts.standby)
      return fault(name, `${found}: a standby`, 'point DATABASE_URL at the primary, or promote it')
    if (facts.read_only)
      return fault(
        name,
        `${found}: read-only`,
        'set default_transaction_read_only off for the server, the database and the role',
      )
    if (!HOLD_ALL.includes(facts.encoding))
      return warning(
        name,
        `${found}: in ${facts.encoding}, which cannot store every address and name: requests with others fail with server_error`,
        `dump it, and restore it into a database that was created with template template0 encoding 'UTF8'`,
      )
    if (facts.synchronous_commit === 'off')
      return warning(
        name,
        `${found}: synchronous_commit is off, so a crash loses what was acknowledged, revocations too`,
        'set synchronous_commit on for the server, the database and the role',
      )
    return ok(name, found)
  })
  return { check, reached }
}

export function reachFix(error: unknown): string {
  return isTlsFault(error) ? TRUST : REACH
}

export async function migrated(of: Connected): Promise<{ check: Check; complete: boolean }> {
  const { pool, embedded } = of
  const name = 'migrations'
  let complete = false
  const check = await attempt(name, 'see what the database says', async () => {
    const all = await migrationStatus(pool)
    const missing = all.filter(({ appliedAt }) => appliedAt === null).map((one) => one.name)
    const unknown = all.filter(({ known }) => !known).map((one) => one.name)
    complete = missing.length === 0
    const pending = `the database lacks ${missing.join(', ')}`
    if (missing.length > 0 && embedded)
      return warning(name, pending, 'start the server: it migrates the database it brought')
    if (missing.length > 0) {
      const refused = await creationRefused(pool)
      return fault(name, pending, `${refused ? `${refused}; then ` : ''}run registrar migrate up`)
    }
    if (unknown.length > 0)
      return warning(
        name,
        `the database has ${unknown.join(', ')}, which this version does not know`,
        'nothing while an upgrade or its rollback is under way; else run the version that brought them',
      )
    return ok(name, `all ${all.length} applied`)
  })
  return { check, complete }
}

/** Checks the privileges on every table too, which a replica does not before it says that it is ready. */
export function writable({ pool, db }: Connected): Promise<Check> {
  const name = 'privileges'
  return attempt(name, 'see what the database says', async () => {
    const lacking = await lackingPrivileges(db)
    if (lacking.length === 0) {
      await requireWritable(pool)
      return ok(name, 'the role may read and write every table')
    }
    const { role } = lacking[0]!
    const which = lacking.map(({ table, missing }) => `${table} (${missing})`).join(', ')
    const tables = lacking.map(({ table }) => table).join(', ')
    return fault(
      name,
      `${role} lacks privileges on ${which}`,
      `as the owner: grant select, insert, update, delete on ${tables} to ${role}; or make ${role} the owner`,
    )
  })
}

export function connections({ db }: Connected): Promise<Check> {
  const name = 'connections'
  return attempt(name, 'see what the database says', async () => {
    const { allowed, left } = await connectionFacts(db)
    const found = `${left} of ${allowed} left`
    return left >= CONNECTIONS
      ? ok(name, found)
      : warning(
          name,
          `${found}; a replica opens up to ${CONNECTIONS}`,
          `raise max_connections, or the limit of the database or the role, to ${CONNECTIONS} for each replica and some more; or end sessions that hold them (pg_stat_activity)`,
        )
  })
}

export function clock({ pool }: Connected, allowedSeconds: number | undefined): Promise<Check> {
  const name = 'clock'
  return attempt(name, 'see what the database says', async () => {
    if (allowedSeconds === undefined) return notChecked(name, 'CLOCK_SKEW_SECONDS')
    const seconds = await clockDistance(pool)
    const found = `this clock and the database's are ${seconds.toFixed(1)} s apart`
    return isSameTime(seconds, allowedSeconds)
      ? ok(name, found)
      : fault(
          name,
          `${found}, and CLOCK_SKEW_SECONDS is ${allowedSeconds}`,
          'let NTP set the clock of the machine that is wrong; CLOCK_SKEW_SECONDS is for seconds, not for a wrong clock',
        )
  })
}

export async function deployment({ db }: Connected, config: Config): Promise<Check> {
  const name = 'deployment'
  return await attempt(name, 'see what the database says', async () => {
    const issuer = await findIssuerOfDatabase(db)
    if (issuer === undefined) return ok(name, 'no replica has started here off localhost yet')
    if (config.local) return ok(name, `the database belongs to ${issuer}; this one is local`)
    return issuer === config.ISSUER
      ? ok(name, `the database belongs to ${issuer}`)
      : fault(
          name,
          otherDeployment(issuer),
          'set ISSUER or DATABASE_URL as the other replicas have it',
        )
  })
}
