/** Migrations: up, down, at once, interrupted, and on tables that are full. */
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { test, type Test } from 'tap'
import { migrate, migrationStatus, pendingMigrations } from '../src/migrations.js'
import { testReplica } from './fixtures/app.js'
import { MIGRATIONS, testDatabase } from './fixtures/database.js'

const GOOD = `-- Up Migration
create table things (id int primary key);
-- Down Migration
drop table things;
`

test('up, down and up again leaves the same schema', async (t) => {
  const { url, pool } = await testDatabase(t, { empty: true })
  const names = await migrate(url, 'up')
  t.same(names, await migrationNames())
  const first = await schema(pool)
  t.ok(first.length > 0)
  t.same(await migrate(url, 'down', { count: names.length }), names.toReversed())
  t.same(await schema(pool), [], 'down leaves nothing')
  await migrate(url, 'up')
  t.same(await schema(pool), first)
})

test('every migration but the first goes down and up on a database that holds rows', async (t) => {
  const { url, pool } = await testDatabase(t, { empty: true })
  const [first, ...later] = await migrationNames()
  await migrate(url, 'up', { count: 1 })
  await populate(pool)
  const before = await contents(pool)
  t.ok(Object.keys(before).length > 0)
  t.same(await migrate(url, 'up'), later, `${first} alone was there`)
  t.same(await migrate(url, 'down', { count: later.length }), later.toReversed())
  t.same(await contents(pool), before, 'no row is lost on the way')
})

test('the schema goes away whole even when every table holds rows', async (t) => {
  const { url, pool } = await testDatabase(t)
  await populate(pool)
  const names = await migrationNames()
  t.same(await migrate(url, 'down', { count: names.length }), names.toReversed())
  t.same(await schema(pool), [])
})

test('down reverts one migration unless told how many', async (t) => {
  const { url } = await testDatabase(t)
  t.same(await migrate(url, 'down', { count: 0 }), [])
  t.same(await migrate(url, 'down'), (await migrationNames()).slice(-1))
})

test('C28: of four processes that migrate at once each migration is run by one', async (t) => {
  const { url, pool } = await testDatabase(t, { empty: true })
  const runs = await Promise.all(Array.from({ length: 4 }, () => migrate(url, 'up')))
  t.same(runs.flat().toSorted(), await migrationNames())
  t.same(await pendingMigrations(pool), [])
})

test('C29: a failing migration leaves nothing and names itself, and those before it stay', async (t) => {
  const { url, pool } = await testDatabase(t, { empty: true })
  const dir = await folder(t, {
    '0001_good.sql': GOOD,
    '0002_bad.sql':
      'create table half_done (id int); insert into half_done values (1); select nope;',
  })
  const lines: string[] = []
  await t.rejects(migrate(url, 'up', { dir, log: (line) => lines.push(line) }), {
    message: 'Migration 0002_bad could not be applied: column "nope" does not exist',
    cause: { code: '42703' },
  })
  t.match(lines.join('\n'), /Applied 0001_good\n.*\^\^\^\^/s, 'the log shows where')
  const { rows } = await pool.query(
    `select to_regclass('half_done') as half, to_regclass('things') as good`,
  )
  t.match(rows[0], { half: null, good: 'things' })
  t.same(await pendingMigrations(pool, dir), ['0002_bad'])
})

test('C29: a migration that others keep from a table lets them go on, and is tried until it can', async (t) => {
  const { url, pool } = await testDatabase(t, { empty: true })
  const dir = await folder(t, {
    '0001_good.sql': GOOD,
    '0002_change.sql': 'create table more (id int); alter table things add column name text;',
  })
  await migrate(url, 'up', { dir, count: 1 })
  const backup = await pool.connect()
  await backup.query('begin')
  await backup.query('lock table things in access share mode')
  const lines: string[] = []
  const changed = migrate(url, 'up', { dir, log: (line) => lines.push(line) })
  await backend(pool, `wait_event_type = 'Lock' and query like '%alter table things%'`)
  await pool.query('select * from things')
  while (lines.length === 0) await sleep(10)
  t.match(lines, [/^0002_change needs a table that others have/])
  await backup.query('commit')
  backup.release()
  t.same(await changed, ['0002_change'])
  t.same(lines.slice(1), ['Applied 0002_change'])
})

test('a migration without a way back says so', async (t) => {
  const { url } = await testDatabase(t, { empty: true })
  const dir = await folder(t, { '0001_one_way.sql': 'create table things (id int)' })
  await migrate(url, 'up', { dir })
  await t.rejects(migrate(url, 'down', { dir }), {
    message: /^Migration 0001_one_way could not be reverted: /,
  })
})

test('status lists what is applied, what is pending and what a newer version applied', async (t) => {
  const { url, pool } = await testDatabase(t, { empty: true })
  const dir = await folder(t, { '0001_good.sql': GOOD, 'README.md': 'not a migration' })
  t.same(await migrationStatus(url, dir), [{ name: '0001_good', appliedAt: null, known: true }])
  await migrate(url, 'up', { dir })
  const [applied] = await migrationStatus(pool, dir)
  t.ok(Math.abs(Date.now() - Number(applied?.appliedAt)) < 60_000, 'at about now')

  const older = await folder(t, {})
  t.same(await migrationStatus(url, older), [{ ...applied, known: false }])
  t.same(await pendingMigrations(pool, older), [], 'which an older version outlives')
  t.same(await migrate(url, 'up', { dir: older }), [])
})

test('a migration takes its time, whatever a statement of the role or the database may take', async (t) => {
  const { url, pool } = await testDatabase(t, { empty: true })
  const [{ name }] = (await pool.query('select current_database() as name')).rows
  await pool.query(`alter database ${name} set statement_timeout = '500ms'`)
  const dir = await folder(t, { '0001_slow.sql': 'select pg_sleep(1)' })
  t.same(await migrate(url, 'up', { dir }), ['0001_slow'])
})

test('times are read in whatever style the database has them', async (t) => {
  const { url, pool } = await testDatabase(t, { empty: true })
  const [{ name }] = (await pool.query('select current_database() as name')).rows
  await pool.query(`alter database ${name} set datestyle = 'SQL, DMY'`)
  await migrate(url, 'up')
  for (const { appliedAt } of await migrationStatus(url))
    t.ok(Math.abs(appliedAt!.getTime() - Date.now()) < 60_000)
  const { app } = await testReplica(t, url)
  t.equal((await app.inject('/readyz')).statusCode, 200)
})

test('one that waits for another says so, and fails when its connection is lost', async (t) => {
  const { url, pool } = await testDatabase(t, { empty: true })
  const dir = await folder(t, { '0001_slow.sql': 'select pg_sleep(30)' })
  const slow = t.rejects(migrate(url, 'up', { dir }), /0001_slow could not be applied/)
  const sleeper = await backend(pool, `query like '%pg_sleep%'`)
  const lines: string[] = []
  const waiting = t.rejects(migrate(url, 'up', { dir, log: (line) => lines.push(line) }))
  const waiter = await backend(pool, `state = 'idle' and query like '%pg_try_advisory_lock%'`)
  await pool.query('select pg_terminate_backend($1)', [waiter])
  await waiting
  await pool.query('select pg_terminate_backend($1)', [sleeper])
  await slow
  t.match(lines, [/waiting for it/, /^Lost the database connection/])
})

test('the changelog names the last migration', async (t) => {
  const last = (await migrationNames()).at(-1)!.slice(0, 4)
  const [unreleased] = (await readFile('CHANGELOG.md', 'utf8')).split(/^## \[\d/m)
  t.match(unreleased, `migrations 0001 to ${last}`)
})

async function migrationNames(): Promise<string[]> {
  return (await readdir(MIGRATIONS)).map((file) => file.replace(/\.sql$/, '')).toSorted()
}

async function folder(t: Test, files: Record<string, string>): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'registrar-migrations-'))
  t.teardown(() => rm(dir, { recursive: true }))
  for (const [name, text] of Object.entries(files)) await writeFile(join(dir, name), text)
  return dir
}

/** The id of the migrating backend that matches, as soon as there is one. */
async function backend(pool: pg.Pool, condition: string): Promise<number> {
  for (;;) {
    const { rows } = await pool.query(
      `select pid from pg_stat_activity where datname = current_database()
         and application_name = 'registrar migrate' and ${condition}`,
    )
    if (rows.length > 0) return rows[0].pid
    await sleep(10)
  }
}

/** Everything in `public` but the list of migrations, one line each, in a stable order. */
async function schema(pool: pg.Pool): Promise<string[]> {
  const { rows } = await pool.query(`
    with tables as (
      select c.oid, c.relname as name, c.relkind as kind, c.relpersistence as persistence
      from pg_class c
      where c.relnamespace = 'public'::regnamespace and c.relname !~ '^migrations'
        and c.relkind not in ('i', 'I')
    )
    select format('relation %s %s %s', name, kind, persistence) as line from tables
    union all
    select format('column %s.%s %s %s %s', name, attname, format_type(atttypid, atttypmod), attnotnull,
                  pg_get_expr(adbin, adrelid))
    from tables join pg_attribute a on attrelid = tables.oid and attnum > 0 and not attisdropped
    left join pg_attrdef d on adrelid = attrelid and adnum = attnum
    union all
    select format('constraint %s.%s %s', name, conname, pg_get_constraintdef(c.oid))
    from tables join pg_constraint c on conrelid = tables.oid
    union all
    select pg_get_indexdef(indexrelid) from tables join pg_index on indrelid = tables.oid
    union all
    select pg_get_triggerdef(g.oid) from tables join pg_trigger g on tgrelid = tables.oid
    where not tgisinternal
    union all
    select pg_get_functiondef(oid) from pg_proc where pronamespace = 'public'::regnamespace
    union all
    select format('type %s %s', typname, typtype) from pg_type
    where typnamespace = 'public'::regnamespace and typtype in ('e', 'd')
    order by line`)
  return rows.map(({ line }) => line)
}

/** Each table's rows but the list of migrations', as text that no added column with a default changes. */
async function contents(pool: pg.Pool): Promise<Record<string, string[]>> {
  const { rows: tables } = await pool.query(
    `select relname as name from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r'
       and relname <> 'migrations' order by 1`,
  )
  const all: Record<string, string[]> = {}
  for (const { name } of tables) {
    const { rows } = await pool.query(
      `select t::text as line from ${pg.escapeIdentifier(name)} t order by 1`,
    )
    all[name] = rows.map(({ line }) => line)
  }
  return all
}

const SAMPLES: Record<string, string> = {
  bigint: '1',
  boolean: 'true',
  bytea: `'\\x01'`,
  inet: `'127.0.0.1'`,
  integer: '1',
  jsonb: `'{}'`,
  text: `'x'`,
  'text[]': `'{x}'`,
  'timestamp with time zone': 'now()',
}

/** Columns that a constraint keeps empty beside others. */
const EXCLUSIVE = new Set(['claim_attempts.pinned_user_id'])

/** One row in each table with a value in every column: the same for all texts, so that keys match. */
async function populate(pool: pg.Pool): Promise<void> {
  const { rows } = await pool.query(`
    select attrelid::regclass as relation, array_agg(quote_ident(attname) order by attnum) as columns,
      array_agg(format_type(atttypid, null) order by attnum) as types,
      -- A column that may hold only certain texts gets the first of them.
      array_agg((
        select substring(pg_get_constraintdef(k.oid) from $$'([^']*)'::text$$) from pg_constraint k
        where conrelid = attrelid and contype = 'c' and conkey = array[attnum] limit 1
      ) order by attnum) as texts
    from pg_attribute join pg_class c on c.oid = attrelid
    where relnamespace = 'public'::regnamespace and relkind = 'r' and relname <> 'migrations'
      and attnum > 0 and not attisdropped and attidentity = '' and attgenerated = ''
    group by attrelid order by attrelid`)
  for (const { relation, columns, types, texts } of rows) {
    const values = types.map((type: string, i: number) => {
      if (EXCLUSIVE.has(`${relation}.${columns[i]}`)) return 'null'
      return texts[i] === null ? SAMPLES[type] : pg.escapeLiteral(texts[i])
    })
    await pool.query(`insert into ${relation} (${columns}) values (${values})`)
  }
}
