/** How Postgres goes about each query when the tables are full. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Kysely, PostgresDialect, type KyselyPlugin } from 'kysely'
import type pg from 'pg'
import { test } from 'tap'
import type { Tables } from '../src/repositories/tables.js'
import { testDatabase } from './fixtures/database.js'
import { fillTables } from './fixtures/full-tables.js'
import { readSchema, wholeReads, wholeReadsOfKept, type Statement } from './fixtures/plans.js'
import { CALLS, PARTS, type Call } from './fixtures/repository-calls.js'

const REPOSITORIES = join(import.meta.dirname, '../src/repositories')
const WANTED = [
  // Of a sample, whose size is bounded.
  /^census\.takeCensus: Sample Scan on registrations$/,
  // The operator's pages, newest first, end when they are full. Not every filter has an index.
  /^registration-list\.listRegistrations: Index Scan of all of registrations_\w+ on registrations$/,
]
const FILES = readdirSync(REPOSITORIES).filter((file) => file.endsWith('.js'))

/** What the calls executed, by the function they call, and where in the compiled repositories that was. */
interface Executed {
  statements: Map<string, Statement[]>
  places: Set<string>
}

test('no query reads a table that grows from end to end', async (t) => {
  const { pool } = await testDatabase(t)
  const schema = await readSchema(pool, await fillTables(pool))
  const { statements, places } = await executeAll(pool)

  await t.test('every function that touches the database is called', async (t) => {
    const exported: string[] = []
    for (const file of FILES)
      for (const [name, value] of Object.entries(await import(join(REPOSITORIES, file))))
        if (typeof value === 'function') exported.push(`${file.replace('.js', '')}.${name}`)
    const known = [...Object.keys(CALLS), ...PARTS]
    const missing = exported.filter((name) => !known.includes(name))
    t.same(missing, [], 'add a call to fixtures/repository-calls.ts')
    t.same(
      known.filter((name) => !exported.includes(name)),
      [],
      'these are gone',
    )
    const silent = Object.keys(CALLS).filter((name) => statements.get(name)?.length === 0)
    t.same(silent, [], 'a call that executes nothing proves nothing')
  })

  await t.test('every statement inside them is executed', async (t) => {
    const written = FILES.flatMap((file) =>
      readFileSync(join(REPOSITORIES, file), 'utf8')
        .split('\n')
        .flatMap((line, i) => (/\.execute\w*\(/.test(line) ? [`${file}:${i + 1}`] : [])),
    )
    t.ok(written.length > 100, 'they are found')
    t.same(
      written.filter((place) => !places.has(place)),
      [],
      'call the function so that it gets there',
    )
  })

  await t.test('not with the parameters at hand', async (t) => {
    const found = new Set<string>()
    for (const [name, of] of statements)
      for (const statement of of)
        for (const read of await wholeReads(pool, schema, statement))
          if (!wanted(name, read)) found.add(`${name}: ${read}: ${statement.sql}`)
    t.same([...found], [])
  })

  await t.test('nor with a plan that is kept for any parameters', async (t) => {
    const found: string[] = []
    const texts = new Set<string>()
    for (const [name, of] of statements)
      for (const statement of of) {
        if (texts.has(statement.sql)) continue
        texts.add(statement.sql)
        for (const read of await wholeReadsOfKept(pool, schema, statement))
          if (!wanted(name, read)) found.push(`${name}: ${read}: ${statement.sql}`)
      }
    t.same(found, [])
  })

  await t.test('the check sees one that does', async (t) => {
    const byAddress = {
      sql: 'select id from registrations where created_from = $1',
      parameters: ['127.0.0.2'],
    }
    t.same(await wholeReads(pool, schema, byAddress), ['Seq Scan on registrations'])
    t.same(await wholeReadsOfKept(pool, schema, byAddress), ['Seq Scan on registrations'])
    const hashed = `select id from users where id not in (select user_id from sign_ins)`
    t.match(await wholeReads(pool, schema, unbound(hashed)), [/users/, /sign_ins/])

    const client = await pool.connect()
    t.teardown(() => client.release(true))
    await client.query('set enable_seqscan = off; set enable_bitmapscan = off')
    const read = (sql: string) => wholeReads(client, schema, unbound(sql))
    t.match(await read('select count(*) from registrations'), [/^Index Only Scan of all of/])
    t.match(
      await read(`select issuer from delegations where subject = 'a'`),
      [/^Index.* Scan of all of delegations/],
      'the first column of an index has to be given',
    )
    t.same(await read('select id from audit_events order by id desc limit 10'), [])
    t.match(
      await read(`select id from audit_events where address = '127.0.0.2' order by id limit 10`),
      [/^Index Scan of all of audit_events_pkey/],
      'a limit that is hard to reach saves no reading',
    )
    t.match(
      await read('select event, id from audit_events order by event, id limit 10'),
      [/on audit_events$/],
      'nor does one above a sort',
    )
    await client.query('set enable_bitmapscan = on; set enable_indexscan = off')
    t.match(
      await read('select scopes from registrations where claimed_at is not null limit 10'),
      [/^Bitmap Index Scan of all of registrations_/],
      'nor is anything read before a bitmap is complete',
    )
  })

  await t.test('who deletes a row finds those that refer to it by an index', async (t) => {
    const { rows } = await pool.query(
      `select conname from pg_constraint where contype = 'f' and not exists (
        select from pg_index where indrelid = conrelid and indkey[0] = conkey[1])`,
    )
    t.same(rows, [])
  })
})

function wanted(name: string, read: string): boolean {
  return WANTED.some((pattern) => pattern.test(`${name}: ${read}`))
}

function unbound(sql: string): Statement {
  return { sql, parameters: [] }
}

async function executeAll(pool: pg.Pool): Promise<Executed> {
  const places = new Set<string>()
  let executed: Statement[] = []
  const db = new Kysely<Tables>({
    dialect: new PostgresDialect({ pool }),
    plugins: [placesIn(places)],
    log: ({ query: { sql, parameters } }) => {
      if (!['begin', 'rollback'].includes(sql)) executed.push({ sql, parameters })
    },
  })
  const statements = new Map<string, Statement[]>()
  for (const [name, calls] of Object.entries(CALLS)) {
    executed = []
    for (const call of calls) await undone(db, call)
    statements.set(name, executed)
  }
  return { statements, places }
}

async function undone(db: Kysely<Tables>, call: Call): Promise<void> {
  const done = new Error('to be rolled back')
  const work = db.transaction().execute(async (tx) => {
    await call(tx)
    throw done
  })
  await work.catch((error: unknown) => {
    if (error !== done) throw error
  })
}

/** Kysely asks a plugin while `execute` is still on the stack. */
function placesIn(places: Set<string>): KyselyPlugin {
  return {
    transformQuery({ node }) {
      const frames = stack().map((at) => `${at.getFileName()}:${at.getLineNumber()}`)
      const frame = frames.find((at) => at.includes('/src/repositories/'))
      places.add(frame!.split('/').at(-1)!)
      return node
    },
    transformResult: async ({ result }) => result,
  }
}

/** As it runs, without source maps. */
function stack(): NodeJS.CallSite[] {
  const { prepareStackTrace, stackTraceLimit } = Error
  try {
    Error.stackTraceLimit = 50
    Error.prepareStackTrace = (_, sites) => sites
    return new Error().stack as unknown as NodeJS.CallSite[]
  } finally {
    Object.assign(Error, { prepareStackTrace, stackTraceLimit })
  }
}
