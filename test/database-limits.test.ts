/** C32, C34: a database that is there, and is slow, takes no writes, or takes no more connections. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import pg from 'pg'
import { test, type Test } from 'tap'
import * as agents from './fixtures/app.js'
import { DOCUMENTS, gated, isAway, isAwayPage, machineRequests } from './fixtures/away.js'
import { maintenanceUrl, testDatabase } from './fixtures/database.js'

type Requests = [what: string, send: () => Promise<agents.Answer>][]

async function documentsAnswer(t: Test, app: FastifyInstance) {
  for (const url of DOCUMENTS) t.equal((await app.inject(url)).statusCode, 200, url)
}

async function allAnswer(t: Test, requests: Requests) {
  for (const [what, send] of requests) t.equal((await send()).statusCode, 200, what)
}

/** When Postgres has done what it was told, and the pool knows of it. */
async function ready(app: FastifyInstance) {
  while ((await app.inject('/readyz')).statusCode !== 200) await sleep(20)
}

/** A connection to elsewhere, to change what `pool` is connected to. */
async function administrator(t: Test, pool: pg.Pool) {
  const { rows } = await pool.query('select current_database() as name')
  const { name } = rows[0]
  const admin = new pg.Client({ connectionString: maintenanceUrl() })
  await admin.connect()
  t.teardown(() => admin.end())
  return {
    admin,
    alter: (change: string) => admin.query(`alter database ${name} ${change}`),
    replaceConnections: async () => {
      await admin.query(
        `select pg_terminate_backend(pid) from pg_stat_activity
         where datname = $1 and application_name = 'agent-registrar'`,
        [name],
      )
    },
  }
}

test('C32: when each answer takes 5 s, what needs several of them is 503', async (t) => {
  const { app, gate, alice } = await gated(t)
  const { claim, claim_token } = await agents.registerFor(app, alice.email)
  await alice.openClaim(agents.linkToken(claim))
  const requests = Object.entries(await machineRequests(app))
  gate.slow(5_000)
  const form = { claim_attempt_token: agents.linkToken(claim), user_code: claim.user_code }
  const answers = [
    agents.postJson(app, '/agent/identity', { type: 'anonymous' }),
    agents.postJson(app, '/agent/identity/claim', { claim_token }),
    // More than there are connections: none waits for its turn for ever.
    ...Array.from({ length: 20 }, () => agents.registerFor(app, 'bob@example.com')),
  ]
  const page = alice.submit('/agent/identity/claim/complete', form)
  await documentsAnswer(t, app)
  t.equal((await app.inject('/healthz')).statusCode, 200)
  const [anonymous, renewed, ...hinted] = await Promise.all(answers)
  isAway(t, 'an anonymous registration', anonymous)
  isAway(t, 'a renewal', renewed)
  t.same(new Set(hinted.map(({ error }) => error)), new Set(['temporarily_unavailable']))
  isAwayPage(t, await page, 'form')
  isAway(t, '/readyz', await app.inject('/readyz'))

  await gate.open()
  await allAnswer(t, requests)
  const confirmed = await alice.submit('/agent/identity/claim/complete', form)
  t.equal(confirmed.statusCode, 303, 'neither the link nor the code was used up')
})

test('C34: while it is read-only nothing changes; when it is not any more, nobody need restart', async (t) => {
  const { app, pool } = await gated(t)
  const { alter, replaceConnections } = await administrator(t, pool)
  const all = await machineRequests(app)
  const reading = new Set(['an introspection', 'the API'])
  const [reads, writes] = [true, false].map((read) =>
    Object.entries(all).filter(([what]) => reading.has(what) === read),
  ) as [Requests, Requests]
  await alter('set default_transaction_read_only = on')
  await replaceConnections()
  for (const [what, send] of writes) isAway(t, what, await send())
  while ((await all['the API']()).statusCode !== 200) await sleep(20)
  await allAnswer(t, reads)
  await documentsAnswer(t, app)
  isAway(t, '/readyz', await app.inject('/readyz'))

  // As after a failover: the connections that there are would stay with the old primary.
  await alter('reset default_transaction_read_only')
  t.equal((await app.inject('/readyz')).statusCode, 200)
  await allAnswer(t, Object.entries(all))
})

test('C34: a standby, where counts and poll times cannot be had, is away, and its connections are not kept', async (t) => {
  const { app, pool } = await gated(t, { RATE_LIMITS: '{"service_auth_per_ip":0}' })
  const all = await machineRequests(app)
  const { claim_token } = await agents.registerFor(app, 'bob@example.com')
  const connections = async () =>
    (
      await pool.query(`select pid from pg_stat_activity where application_name = 'agent-registrar'
      and datname = current_database() order by pid`)
    ).rows
  // In Postgres's own words, which it says before it says that it is read-only.
  await pool.query(`create function refuse() returns trigger language plpgsql as $$ begin
    raise exception 'cannot access temporary or unlogged relations during recovery' using errcode = '0A000';
  end $$`)
  for (const table of ['rate_limits', 'poll_states'])
    await pool.query(
      `create trigger standby before insert or update on ${table} execute function refuse()`,
    )
  const before = await connections()
  isAway(t, 'a registration with a hint', await all['a registration with a hint']())
  isAway(t, 'a poll', await agents.poll(app, claim_token))
  await allAnswer(t, [['an anonymous registration', all['an anonymous registration']]])

  await pool.query('drop function refuse cascade')
  await allAnswer(t, Object.entries(all))
  const kept = new Set(before.map(({ pid }) => pid))
  t.notOk((await connections()).some(({ pid }) => kept.has(pid)))
})

test('C34: a database that lets nobody in is away', async (t) => {
  const { app, pool } = await gated(t)
  const { alter, replaceConnections } = await administrator(t, pool)
  const requests = Object.entries(await machineRequests(app))
  await alter('allow_connections false')
  await replaceConnections()
  for (const [what, send] of requests) isAway(t, what, await send())
  await documentsAnswer(t, app)
  await alter('allow_connections true')
  await ready(app)
  await allAnswer(t, requests)
})

test('C34: a database that has no connection left is away until it has', async (t) => {
  const { url, pool } = await testDatabase(t)
  const { admin } = await administrator(t, pool)
  const database = new URL(url)
  const role = database.pathname.slice(1)
  await admin.query(`create role ${role} login password 'few' connection limit 2`)
  t.teardown(async () => {
    await pool.query(`drop owned by ${role}`)
    await admin.query(`drop role ${role}`)
  })
  await pool.query(`grant all on all tables in schema public to ${role}`)
  await pool.query(`grant all on all sequences in schema public to ${role}`)
  database.username = role
  database.password = 'few'
  const { app } = await agents.testReplica(t, database.href)
  const requests = Object.entries(await machineRequests(app))
  await admin.query('select pg_terminate_backend(pid) from pg_stat_activity where usename = $1', [
    role,
  ])
  const others = [1, 2].map(() => new pg.Client({ connectionString: database.href }))
  for (const other of others) {
    other.on('error', () => {})
    await other.connect()
  }
  for (const [what, send] of requests) isAway(t, what, await send())
  isAway(t, '/readyz', await app.inject('/readyz'))
  await documentsAnswer(t, app)
  for (const other of others) await other.end()
  await ready(app)
  await allAnswer(t, requests)
})
