/** Applies `migrations/*.sql`, reverts them, and says which are missing (DESIGN §4). */
import { readdir } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { runner } from 'node-pg-migrate'
import pg from 'pg'

interface MigrateOptions {
  /** How many; default: all when up, one when down. */
  count?: number
  log?: (line: string) => void
  /** The folder of migrations; default: the package's own. */
  dir?: string
}

interface MigrationStatus {
  name: string
  /** null: not in this database yet. */
  appliedAt: Date | null
  /** false: a newer version brought it. */
  known: boolean
}

type Queryable = Pick<pg.Pool | pg.Client, 'query'>

const TABLE = 'migrations'
/** Any number that nothing else locks on: `echo registrar | cksum`. */
const LOCK = 1_166_780_250
const LOCK_RETRY_MS = 100
/** Requests for a table queue behind a migration that waits for it: for no longer than this. */
const TABLE_WITHIN_MS = 1_000
/** lock_not_available, deadlock_detected */
const TABLE_IN_USE = ['55P03', '40P01']
/** `src/` is compiled to `dist/src/`. */
const DIR = join(import.meta.dirname, '../../migrations')

/**
 * Applies (`up`) or reverts (`down`) migrations, each in its own transaction, and returns the names of
 * those it ran. Any number of processes may call it at once: one works, the others wait and then find
 * nothing to do.
 */
export async function migrate(
  databaseUrl: string,
  direction: 'up' | 'down',
  { count = direction === 'up' ? Infinity : 1, log = () => {}, dir = DIR }: MigrateOptions = {},
): Promise<string[]> {
  const client = new pg.Client({
    connectionString: databaseUrl,
    application_name: 'registrar migrate',
    keepAlive: true,
  })
  // Without a listener a connection lost between two queries would end the process.
  client.on('error', (error) => log(`Lost the database connection: ${error.message}`))
  await client.connect()
  try {
    // node-pg-migrate stores when a migration ran without a time zone.
    await client.query(`set timezone to 'UTC'`)
    await client.query(`set lock_timeout to ${TABLE_WITHIN_MS}`)
    // The role's timeout, if it has one, is for replicas: making an index of a large table takes longer.
    await client.query('set statement_timeout to 0')
    await lock(client, log)
    const names = (await status(client, dir))
      .filter(({ appliedAt }) => (appliedAt === null) === (direction === 'up'))
      .map(({ name }) => name)
    if (direction === 'down') names.reverse()
    const chosen = names.slice(0, count)
    const refused = direction === 'up' && chosen.length > 0 && (await creationRefused(client))
    if (refused) throw new Error(refused)
    for (const name of chosen) await run(client, direction, name, dir, log)
    return chosen
  } finally {
    // Ends the session, and with it the lock.
    await client.end()
  }
}

/** Every migration that this version or the database knows, in order. */
export async function migrationStatus(
  database: string | pg.Pool,
  dir: string = DIR,
): Promise<MigrationStatus[]> {
  if (typeof database !== 'string') return status(database, dir)
  const client = new pg.Client({ connectionString: database })
  await client.connect()
  try {
    return await status(client, dir)
  } finally {
    await client.end()
  }
}

/**
 * Names of migrations that the database lacks: a replica is not ready while there are any. What only the database has
 * came with a newer version, which an older replica can live with (expand, then contract).
 */
export async function pendingMigrations(pool: pg.Pool, dir: string = DIR): Promise<string[]> {
  return (await status(pool, dir))
    .filter(({ appliedAt }) => appliedAt === null)
    .map(({ name }) => name)
}

/**
 * Why this role cannot create tables here, and the cure; undefined when it can. From Postgres 15 on that takes a grant.
 */
export async function creationRefused(db: Queryable): Promise<string | undefined> {
  const { rows } = await db.query<{ role: string; database: string; owner: string }>(
    `select quote_ident(current_user) as role, quote_ident(datname) as database,
       quote_ident(pg_get_userbyid(datdba)) as owner
     from pg_database
     where datname = current_database() and not has_schema_privilege('public', 'create')`,
  )
  return rows.map(
    ({ role, database, owner }) =>
      `The role ${role} may not create tables in the database ${database}, which ${owner} owns. As ${owner}: alter database ${database} owner to ${role}; or, in it, grant create on schema public to ${role}`,
  )[0]
}

/**
 * Polls, because a session that blocks in `pg_advisory_lock` holds a snapshot, and a `create index
 * concurrently` in the migration that it waits for would wait for that snapshot: a deadlock.
 */
async function lock(client: pg.Client, log: (line: string) => void): Promise<void> {
  const locked = async () => {
    const { rows } = await client.query('select pg_try_advisory_lock($1) as locked', [LOCK])
    return rows[0].locked as boolean
  }
  if (await locked()) return
  log('Another process is migrating this database: waiting for it.')
  do await sleep(LOCK_RETRY_MS)
  while (!(await locked()))
}

/**
 * Tries again while replicas or a backup hold a table that it needs; what it did until then is undone, so they go on.
 */
async function run(
  client: pg.Client,
  direction: 'up' | 'down',
  name: string,
  dir: string,
  log: (line: string) => void,
): Promise<void> {
  for (let tries = 1; ; tries += 1) {
    const said: string[] = []
    const note = (line: string) => void said.push(line)
    const failure: pg.DatabaseError | undefined = await runner({
      dbClient: client,
      dir,
      ignorePattern: '(?!\\d+_.*\\.sql$).*',
      migrationsTable: TABLE,
      direction,
      file: name,
      singleTransaction: true,
      noLock: true,
      // Warnings and errors only: with an error comes the statement, marked where it went wrong.
      logger: { info: () => {}, warn: note, error: note },
    }).then(
      () => undefined,
      (error) => error,
    )
    if (!TABLE_IN_USE.includes(failure?.code ?? '')) {
      for (const line of said) log(line)
      if (!failure) return log(`${direction === 'up' ? 'Applied' : 'Reverted'} ${name}`)
      const verb = direction === 'up' ? 'applied' : 'reverted'
      throw new Error(`Migration ${name} could not be ${verb}: ${failure.message}`, {
        cause: failure,
      })
    }
    if (tries === 1)
      log(`${name} needs a table that others have, perhaps a backup: trying until it gets it.`)
    await sleep(TABLE_WITHIN_MS)
  }
}

async function status(db: Queryable, dir: string): Promise<MigrationStatus[]> {
  const applied = await appliedMigrations(db)
  const known = new Set(await migrationFiles(dir))
  return [...new Set([...known, ...applied.keys()])].toSorted().map((name) => ({
    name,
    appliedAt: applied.get(name) ?? null,
    known: known.has(name),
  }))
}

async function migrationFiles(dir: string): Promise<string[]> {
  const files = await readdir(dir)
  return files.filter((file) => /^\d+_.*\.sql$/.test(file)).map((file) => basename(file, '.sql'))
}

async function appliedMigrations(db: Queryable): Promise<Map<string, Date>> {
  const table = await db.query('select to_regclass($1) as oid', [`public.${TABLE}`])
  if (table.rows[0].oid === null) return new Map()
  // Stored in UTC without a zone; read as a number, which no DateStyle changes.
  const { rows } = await db.query<{ name: string; seconds: number }>(
    `select name, extract(epoch from run_on)::float8 as seconds from public.${TABLE}`,
  )
  return new Map(rows.map(({ name, seconds }) => [name, new Date(seconds * 1000)]))
}
