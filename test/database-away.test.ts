/** C31-C33: the database goes away, or falls silent, or is lost at the worst moment, and comes back. */
import { setTimeout as sleep } from 'node:timers/promises'
import { sql } from 'kysely'
import type pg from 'pg'
import { test } from 'tap'
import { connect } from '../src/database.js'
import * as agents from './fixtures/app.js'
import { DOCUMENTS, gated, isAway, isAwayPage, machineRequests } from './fixtures/away.js'
import { testDatabase } from './fixtures/database.js'
import { testGate } from './fixtures/wire.js'

const COMPLETE = '/agent/identity/claim/complete'

/** The id of a backend of the registrar's that waits for a lock, once there is one. */
async function waitingForLock(pool: pg.Pool): Promise<number> {
  for (;;) {
    const { rows } = await pool.query(
      `select pid from pg_stat_activity where datname = current_database()
         and application_name = 'agent-registrar' and wait_event_type = 'Lock'`,
    )
    if (rows.length > 0) return rows[0].pid
    await sleep(5)
  }
}

test('C31, 7009-06, 7662-07, 8935-09: without its database it says so, and recovers without a restart', async (t) => {
  const { app, gate, alice } = await gated(t)
  const requests = Object.entries(await machineRequests(app))
  const { claim, claim_token } = await agents.registerFor(app, alice.email)
  const link = agents.linkToken(claim)
  await alice.openClaim(link)

  await gate.shut()
  for (const [what, send] of requests) isAway(t, what, await send())
  isAway(t, 'a poll', await agents.poll(app, claim_token))
  isAway(t, '/readyz', await app.inject('/readyz'))
  t.equal((await app.inject('/healthz')).statusCode, 200)
  for (const url of DOCUMENTS) t.equal((await app.inject(url)).statusCode, 200, url)
  isAwayPage(t, await alice.openClaim(link), 'page')
  const form = { claim_attempt_token: link, user_code: claim.user_code }
  isAwayPage(t, await alice.submit(COMPLETE, form), 'form')
  isAwayPage(t, await alice.submit('/login', { email: alice.email }), 'form')

  await gate.open()
  t.equal((await app.inject('/readyz')).statusCode, 200)
  const confirmed = await alice.submit(COMPLETE, form)
  t.equal(confirmed.statusCode, 303, 'the code was not used up')
  t.equal((await agents.poll(app, claim_token)).statusCode, 200)
  for (const [what, send] of requests) t.equal((await send()).statusCode, 200, what)
})

test('C30: the schema of a newer version, which only adds to this one, is served', async (t) => {
  const { url, pool } = await testDatabase(t)
  const { app } = await agents.testReplica(t, url)
  await pool.query(`insert into migrations (name, run_on) values ('9999_newer', now())`)
  await pool.query('alter table registrations add column newer text')
  await pool.query('create table newer (registration_id text references registrations)')
  const { app: started } = await agents.testReplica(t, url)
  for (const replica of [app, started]) {
    t.equal((await replica.inject('/readyz')).statusCode, 200)
    const { identity_assertion } = await agents.registerAnonymous(replica)
    t.equal((await agents.exchange(replica, identity_assertion)).statusCode, 200)
  }
})

test('C31: migrations that go missing under it make it unready, with a word for the operator only', async (t) => {
  const { url, pool } = await testDatabase(t)
  const { app } = await agents.testReplica(t, url)
  t.equal((await app.inject('/readyz')).statusCode, 200)
  await pool.query('delete from migrations')
  isAway(t, 'unready', await app.inject('/readyz'))
  t.equal((await app.inject('/healthz')).statusCode, 200)
  await t.rejects(agents.testReplica(t, url), { message: /lacks migrations .*migrate up/ })
})

test('a connection that is lost is told of, but not one that ends with all of them', async (t) => {
  const { url } = await testDatabase(t)
  const told: string[] = []
  const { pool } = connect(url, { max: 1, onLost: (message) => told.push(message) })
  const client = await pool.connect()
  client.emit('error', new Error('cut'))
  client.release()
  const ended = pool.end()
  client.emit('error', new Error('Postgres stops as well'))
  await ended
  t.same(told, ['Lost a database connection: cut'])
})

test('a connection that ends between two statements of a transaction costs that request only', async (t) => {
  const { app, pool, gate, alice } = await gated(t)
  const { registration_id, claim_token } = await agents.registerFor(app, alice.email)
  const renew = () => agents.postJson(app, '/agent/identity/claim', { claim_token })
  for (const lose of [
    async (pid: number) => void (await pool.query('select pg_terminate_backend($1)', [pid])),
    async () => {
      await gate.shut()
      await gate.open()
    },
  ]) {
    const holder = await pool.connect()
    await holder.query('begin')
    await holder.query('select from registrations where id = $1 for update', [registration_id])
    const waiting = renew()
    await lose(await waitingForLock(pool))
    isAway(t, 'cut while it waited', await waiting)
    await holder.query('rollback')
    holder.release()
    t.equal((await renew()).statusCode, 200)
  }

  // Nothing is being asked when it ends: the client has no query to fail, only an error to emit.
  await t.rejects(
    app.db.transaction().execute(async (tx) => {
      await sql`select 1`.execute(tx)
      await gate.shut()
      await sleep(50)
      await gate.open()
      await sql`select 1`.execute(tx)
    }),
  )
  t.equal((await renew()).statusCode, 200)
})

test('C33, C46: whether or not a lost commit took, trying again is safe', async (t) => {
  const { app, gate, alice, pool } = await gated(t)
  for (const moment of ['before', 'after'] as const) {
    const { registration_id, claim, claim_token } = await agents.registerFor(app, alice.email)
    const link = agents.linkToken(claim)
    await alice.openClaim(link)
    const form = { claim_attempt_token: link, user_code: claim.user_code }

    void gate.breakAt('commit', moment)
    isAwayPage(t, await alice.submit(COMPLETE, form), 'form')
    const again = await alice.submit(COMPLETE, form)
    t.equal(again.statusCode, moment === 'before' ? 303 : 200, 'now, or already')

    void gate.breakAt('commit', moment)
    isAway(t, 'a poll', await agents.poll(app, claim_token))
    const polled = await agents.poll(app, claim_token)
    t.equal(polled.statusCode, 200)
    const { access_token: token } = polled.json()

    // One statement, whose text goes over the wire once for each connection; its values do each time.
    void gate.breakAt(`"registration_id":"${registration_id}"`, moment)
    isAway(t, 'a revocation', await agents.postForm(app, '/oauth2/revoke', { token }))
    t.equal((await agents.postForm(app, '/oauth2/revoke', { token })).statusCode, 200)
    t.equal((await agents.callApi(app, token)).statusCode, 401)
    const { rows } = await pool.query(
      `select event, count(*)::int as n from audit_events where registration_id = $1
         and event in ('claim.confirmed', 'token.revoked') group by event order by event`,
      [registration_id],
    )
    t.same(rows, [
      { event: 'claim.confirmed', n: 1 },
      { event: 'token.revoked', n: 1 },
    ])
  }
})

test('C32: more waiting than there are connections ends in 503 within seconds, and no pile is left', async (t) => {
  const { app, pool } = await gated(t)
  const { registration_id, claim_token } = await agents.registerAnonymous(app)
  const login_hint = 'alice@example.com'
  const start = () => agents.postJson(app, '/agent/identity/claim', { claim_token, login_hint })
  const holder = await pool.connect()
  await holder.query('begin')
  await holder.query('select from registrations where id = $1 for update', [registration_id])
  const began = Date.now()
  const answers = await Promise.all(Array.from({ length: 25 }, start))
  t.ok(Date.now() - began < 10_000)
  for (const answer of answers) isAway(t, 'waited too long', answer)
  await holder.query('rollback')
  holder.release()
  t.equal((await start()).statusCode, 200)
})

test('C32: a database that falls silent ends in 503 within seconds', async (t) => {
  const { app, gate, alice } = await gated(t)
  const requests = Object.entries(await machineRequests(app))
  gate.hush()
  const began = Date.now()
  const answers = requests.map(async ([what, send]) => isAway(t, what, await send()))
  await Promise.all([...answers, alice.get('/').then((answer) => isAwayPage(t, answer, 'page'))])
  t.ok(Date.now() - began < 10_000, 'none waits for TCP to give up')
  await gate.open()
  for (const [what, send] of requests) t.equal((await send()).statusCode, 200, what)
})

test('the look for expired registrations outlives a database that is away', async (t) => {
  const { url } = await testDatabase(t)
  const gate = await testGate(t, url)
  const { app } = await agents.testReplica(t, gate.url)
  await gate.shut()
  await app.ready()
  await sleep(50)
  await gate.open()
  t.equal((await app.inject('/readyz')).statusCode, 200)
})
