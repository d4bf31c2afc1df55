/** `registrar audit`: the trail as it is, in its order, however long, and as it grows. */
import { setTimeout as sleep } from 'node:timers/promises'
import { test, type Test } from 'tap'
import { addAuditCommands } from '../src/cli-audit.js'
import { readConfig } from '../src/config.js'
import { connect } from '../src/database.js'
import {
  eventsBetween,
  eventsOf,
  idsAfter,
  latestEvents,
  settledId,
} from '../src/repositories/audit-trail.js'
import { ISSUER, SECRET } from './fixtures/app.js'
import { commands } from './fixtures/command.js'
import { testDatabase } from './fixtures/database.js'
import { isSentence, start } from './fixtures/process.js'

/** A trail of so many events, one a second, the last one now; and another connection. */
async function trail(t: Test, many: number) {
  const { url: DATABASE_URL, pool } = await testDatabase(t)
  const { pool: own, db } = connect(DATABASE_URL, { max: 1, onLost: () => {} })
  t.teardown(() => own.end())
  await pool.query(
    `insert into audit_events (occurred_at, event, registration_id, user_id, address, details)
     select date_trunc('second', now()) + (n - $1::int) * interval '1 second',
       case when n % 10000 = 1 then 'rare' else 'token.issued' end, 'reg_' || n % 1000, case when n % 1000 = 7 then 'user_7' end,
       '192.0.2.1', '{"scope":"api.read"}'
     from generate_series(1, $1::int) n`,
    [many],
  )
  const env = { DATABASE_URL, ISSUER, SECRET }
  const registrar = commands({ app: { db }, config: readConfig(env) }, addAuditCommands)
  return { pool, db, env, registrar }
}

const idsIn = (stdout: string): number[] =>
  stdout
    .trimEnd()
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => Number(JSON.parse(line).id))

async function all<Row>(batches: AsyncIterable<Row[]>): Promise<Row[]> {
  const rows: Row[] = []
  for await (const batch of batches) rows.push(...batch)
  return rows
}

test('the latest are shown in their order, filtered', async (t) => {
  const { db, pool, registrar } = await trail(t, 45_000)
  const { code, stdout, stderr } = await registrar('audit', 'tail', '--limit', '2')
  t.same({ code, stderr }, { code: 0, stderr: '' })
  const [first, last] = stdout
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line))
  t.match(first, { id: '44999', event: 'token.issued', registration_id: 'reg_999' })
  t.match(last, {
    id: '45000',
    occurred_at: /Z$/,
    address: '192.0.2.1',
    details: { scope: 'api.read' },
  })
  const some = await registrar(
    'audit',
    'tail',
    '--registration',
    'reg_7',
    '--limit',
    '3',
    '--event',
    'token.issued',
  )
  t.same(idsIn(some.stdout), [42_007, 43_007, 44_007])
  await pool.query(`insert into users (id) values ('user_7')`)
  const theirs = await registrar('audit', 'tail', '--user', 'user_7', '--limit', '2')
  t.same(idsIn(theirs.stdout), [43_007, 44_007])
  const ids = async (filter: object, limit: number) =>
    (await latestEvents(db, filter, limit)).map(({ id }) => Number(id))
  t.same(await ids({ event: 'rare' }, 3), [20_001, 30_001, 40_001])
  t.same(await ids({ event: 'rare' }, 9), [1, 10_001, 20_001, 30_001, 40_001])
  t.same(await ids({ event: 'never' }, 9), [])
  t.same(await ids({ user_id: 'user_7' }, 2), [43_007, 44_007])
  t.same(await ids({}, 1), [45_000])
  isSentence(t, await registrar('audit', 'tail', '--limit', '10001'), /use export/)
  t.match(await registrar('audit', 'tail', '--event', 'token.isued'), {
    code: 1,
    stdout: '',
    stderr: /'token\.isued' is invalid\. One of registration\.created, .*token\.issued/,
  })
  isSentence(
    t,
    await registrar('audit', 'tail', '--user', 'alice@example.com'),
    /^There is no such user\.$/m,
  )
})

test('an export is whole and in order, of a time or of all', async (t) => {
  const { db, pool, registrar } = await trail(t, 5_000)
  const { code, stdout, stderr } = await registrar('audit', 'export')
  t.same({ code, stderr }, { code: 0, stderr: '' })
  t.same(
    idsIn(stdout),
    Array.from({ length: 5_000 }, (_, i) => i + 1),
  )

  // Gaps in the ids, and a transaction that began long before its row was written.
  await pool.query('delete from audit_events where id % 7 = 0 or id between 2000 and 2100')
  await pool.query(
    `update audit_events set occurred_at = occurred_at - interval '200 seconds' where id = 3001`,
  )
  const of = async (since: number | undefined, until: number | undefined) => {
    const { rows } = await pool.query(
      'select id, occurred_at from audit_events where id in (2501, 4002)',
    )
    const times = new Map(rows.map((row) => [Number(row.id), row.occurred_at as Date]))
    const range = {
      ...(since === undefined ? {} : { since: times.get(since)! }),
      ...(until === undefined ? {} : { until: times.get(until)! }),
    }
    const expected = await pool.query(
      'select id from audit_events where ($1::timestamptz is null or occurred_at >= $1) and ($2::timestamptz is null or occurred_at < $2) order by id',
      [range.since, range.until],
    )
    const exported = await all(eventsBetween(db, range))
    t.same(
      exported.map(({ id }) => id),
      expected.rows.map(({ id }) => id),
    )
    return exported.length
  }
  t.ok((await of(2501, 4002)) > 1_200)
  t.ok((await of(2501, undefined)) > 2_000)
  t.ok((await of(undefined, 2501)) > 2_000)
  const none = await registrar(
    'audit',
    'export',
    '--since',
    '2020-01-01',
    '--until',
    '2020-02-01T00:00:00+01:00',
  )
  t.same(none, { code: 0, stdout: '', stderr: '' })
  const turned = ['--since', '2020-02-01', '--until', '2020-01-01']
  isSentence(t, await registrar('audit', 'export', ...turned), /^--since is after --until\.$/m)
  await pool.query('truncate audit_events')
  t.same(await all(eventsBetween(db, { since: new Date(0) })), [])
})

test('a reader that has enough is no fault', async (t) => {
  const { env } = await trail(t, 20_000)
  for (const args of [['export'], ['tail', '--follow', '--limit', '10000']]) {
    const { child, ended } = start(t, 'cli', ['audit', ...args], env)
    child.stdout!.once('data', () => child.stdout!.destroy())
    t.match(await ended, { code: 0, stderr: '' })
  }
})

test('a follower gets each event once, also one that was begun before and is committed after', async (t) => {
  const { pool, env } = await trail(t, 40)
  await pool.query(
    `update audit_events set occurred_at = occurred_at - interval '1 hour' where id <= 20`,
  )
  const late = await pool.connect()
  await late.query('begin')
  await late.query(`insert into audit_events (event) values ('late')`)
  await pool.query(`insert into audit_events (event) values ('early')`)
  const { child, said, ended } = start(t, 'cli', ['audit', 'tail', '--follow', '--limit', '2'], env)
  const shown = async (id: number) => {
    while (!idsIn(said.stdout).includes(id)) await sleep(50)
  }
  await shown(42)
  await late.query('commit')
  late.release()
  await shown(41)
  await pool.query(`insert into audit_events (event) select 'many' from generate_series(1, 1500)`)
  await shown(1_542)
  await sleep(1_100)
  child.kill('SIGINT')
  const { code, stdout, stderr } = await ended
  t.same({ code, stderr }, { code: 0, stderr: '' })
  const many = Array.from({ length: 1_500 }, (_, i) => 43 + i)
  t.same(idsIn(stdout), [40, 42, 41, ...many])
})

test('what a follower has seen is forgotten once nothing can come before it', async (t) => {
  const { pool, db } = await trail(t, 100)
  await pool.query(
    `update audit_events set occurred_at = now() - case when id < 70 then interval '1 hour' else '0' end`,
  )
  t.equal(await settledId(db, '0'), '69')
  t.equal(await settledId(db, '80'), '80')
  t.equal((await idsAfter(db, {}, '69')).length, 31)
  t.same(await idsAfter(db, { event: 'rare' }, '0'), ['1'])
  t.equal((await all(eventsOf(db, ['5', '3']))).map(({ id }) => id).join(), '3,5')
})

test('a follower goes on over lost connections, and ends with a sentence when the database is gone', async (t) => {
  const { pool, env } = await trail(t, 1)
  const { said, ended } = start(t, 'cli', ['audit', 'tail', '--follow'], env)
  while (said.stdout === '') await sleep(20)
  const cut = async (where: string) => {
    const { rowCount } = await pool.query(
      `select pg_terminate_backend(pid) from pg_stat_activity
       where application_name = 'agent-registrar' and datname = current_database() and ${where}`,
    )
    return rowCount !== 0
  }
  const goesOn = async (event: string) => {
    await pool.query('insert into audit_events (event) values ($1)', [event])
    while (!said.stdout.includes(event)) await sleep(20)
  }
  while (!(await cut(`state = 'idle'`))) await sleep(5)
  while (!/Lost a database connection/.test(said.stderr)) await sleep(20)
  await goesOn('between_looks')
  const other = await pool.connect()
  await other.query('begin; lock table audit_events')
  while (!(await cut(`wait_event_type = 'Lock'`))) await sleep(5)
  await other.query('commit')
  other.release()
  await goesOn('in_a_look')
  await pool.query('alter table audit_events rename to audit_events_away')
  const { code, stderr, stdout } = await ended
  t.same(idsIn(stdout), [1, 2, 3])
  t.equal(code, 1)
  t.match(stderr, /relation "audit_events" does not exist/)
  t.notMatch(stderr, /^ +at /m)
})
