/** C35: deadlocks and serialization failures, which the database ends at the cost of one side. */
import { setTimeout as sleep } from 'node:timers/promises'
import { test } from 'tap'
import * as agents from './fixtures/app.js'
import { testDatabase } from './fixtures/database.js'
import { Person } from './fixtures/person.js'
import { blocked, count } from './fixtures/replicas.js'

const COMPLETE = '/agent/identity/claim/complete'

test('C35: who loses a deadlock confirms all the same, once', async (t) => {
  const { url, pool } = await testDatabase(t)
  const database = new URL(url).pathname.slice(1)
  // Long enough for the other side to close the circle, and shorter than what ends a wait for a lock.
  await pool.query(`alter database ${database} set deadlock_timeout = '2s'`)
  const { app } = await agents.testReplica(t, url)
  const alice = await Person.signedIn(app, 'alice@example.com')
  const { registration_id, claim, claim_token } = await agents.registerFor(app, alice.email)
  const form = { claim_attempt_token: agents.linkToken(claim), user_code: claim.user_code }
  await alice.openClaim(form.claim_attempt_token)

  const other = await pool.connect()
  await other.query(`set deadlock_timeout = '1min'`)
  await other.query('begin')
  await other.query('select from users where email = $1 for update', [alice.email])
  const confirmed = alice.submit(COMPLETE, form)
  await blocked(pool)
  await other.query('select from registrations where id = $1 for update', [registration_id])
  await other.query('commit')
  other.release()
  t.equal((await confirmed).statusCode, 303)
  t.equal((await agents.poll(app, claim_token)).statusCode, 200)
  const told = (event: string) =>
    count(pool, 'audit_events where registration_id = $1 and event = $2', registration_id, event)
  t.equal(await told('claim.confirmed'), 1)
  // Postgres writes down its figures a moment later.
  const deadlocked = 'pg_stat_database where datname = current_database() and deadlocks = 1'
  while ((await count(pool, deadlocked)) === 0) await sleep(50)
})

test('C35: a serialization failure is tried again, with nothing done twice', async (t) => {
  const { url, pool } = await testDatabase(t)
  const database = new URL(url).pathname.slice(1)
  await pool.query(
    `alter database ${database} set default_transaction_isolation = 'repeatable read'`,
  )
  const { app } = await agents.testReplica(t, url)
  const { registration_id, claim_token } = await agents.registerAnonymous(app)
  const login_hint = 'alice@example.com'
  const start = () => agents.postJson(app, '/agent/identity/claim', { claim_token, login_hint })

  const other = await pool.connect()
  await other.query('begin')
  await other.query('update registrations set generation = generation where id = $1', [
    registration_id,
  ])
  const started = start()
  await blocked(pool)
  await other.query('commit')
  other.release()
  const answer = await started
  t.equal(answer.statusCode, 200)
  const { claim_attempt_id } = answer.json()
  const { rows } = await pool.query('select id from claim_attempts')
  t.same(rows, [{ id: claim_attempt_id }], 'what the caller was told is what holds')
  t.equal(await count(pool, `audit_events where event = 'claim.requested'`), 1)
})

for (const code of ['40001', '40P01'])
  test(`C35: after three retries ${code} is a 503 that left nothing behind`, async (t) => {
    const { url, pool } = await testDatabase(t)
    const { app } = await agents.testReplica(t, url)
    // A sequence counts on when its transaction is rolled back.
    await pool.query(`
      create sequence tries;
      create function collide() returns trigger language plpgsql as $$ begin
        perform nextval('tries');
        raise exception 'collided' using errcode = '${code}';
      end $$;
      create trigger collide before insert on audit_events for each row execute function collide()`)
    const answer = await agents.postJson(app, '/agent/identity', { type: 'anonymous' })
    t.equal(answer.statusCode, 503)
    t.match(answer.headers, { 'retry-after': /^\d+$/ })
    t.match(answer.json(), { error: 'temporarily_unavailable' })
    t.match((await pool.query('select last_value::int from tries')).rows, [{ last_value: 4 }])
    t.equal(await count(pool, 'registrations'), 0)

    await pool.query('alter table audit_events disable trigger collide')
    t.equal((await agents.postJson(app, '/agent/identity', { type: 'anonymous' })).statusCode, 200)
    t.equal(await count(pool, 'registrations'), 1)
  })

test('what is no collision is not tried again', async (t) => {
  const { app } = await agents.testApp(t)
  for (const thrown of [new Error('other'), undefined]) {
    let tries = 0
    await t.rejects(
      app.transaction(async () => {
        tries += 1
        throw thrown
      }),
    )
    t.equal(tries, 1)
  }
})
