/** `registrar prune`: much at once, by several at once, and never what still counts. */
import type pg from 'pg'
import { test } from 'tap'
import { addPruneCommand, prune } from '../src/cli-prune.js'
import { ISSUER, poll, registerAnonymous, SECRET, testApp } from './fixtures/app.js'
import { renew } from './fixtures/assertions.js'
import { commands } from './fixtures/command.js'
import { testDatabase } from './fixtures/database.js'
import { isSentence, operator } from './fixtures/process.js'
import { count } from './fixtures/replicas.js'
import { connect } from '../src/database.js'

/** Registrations whose window passed so long ago. */
async function expired(pool: pg.Pool, many: number, ago: string, prefix = 'reg_'): Promise<void> {
  await pool.query(
    `insert into registrations (id, registration_type, claim_token_hash, claim_expires_at)
     select $3 || n, 'anonymous', sha256(($3 || n)::bytea), now() - $2::interval from generate_series(1, $1::int) n`,
    [many, ago, prefix],
  )
}

test('C49, C54: thousands of expired rows go in batches, by two processes at once, each told once', async (t) => {
  const { url: DATABASE_URL, pool } = await testDatabase(t)
  await expired(pool, 5_000, '2 days')
  await pool.query(
    `insert into spent_assertions select 'https://idp.example', 'id-jag', n::text, now() - interval '1 second' from generate_series(1, 1200) n`,
  )
  await pool.query(
    `insert into spent_assertions values ('x', 'id-jag', 'lives', now() + interval '1 minute')`,
  )
  await pool.query(
    `insert into revoked_tokens values ('over', now() - interval '2 hours'), ('lives', now())`,
  )
  await pool.query(
    `insert into rate_limits (name, key, started_at, count) values ('x', 'over', now() - interval '2 hours', 1), ('x', 'lives', now(), 1)`,
  )
  await pool.query(`insert into users (id) values ('user_1')`)
  await pool.query(
    `insert into sessions (id_hash, user_id, created_at) values ('a', 'user_1', now() - interval '2 days'), ('b', 'user_1', now())`,
  )
  const registrar = operator(t, { DATABASE_URL, ISSUER, SECRET })
  const both = await Promise.all([registrar('prune'), registrar('prune')])
  const sum = (name: string) => {
    const [one, two] = both.map(({ stdout }) => JSON.parse(stdout)[name] as number)
    return one! + two!
  }
  t.same(
    both.map(({ code, stderr }) => [code, stderr]),
    [
      [0, ''],
      [0, ''],
    ],
  )
  t.equal(sum('expired'), 5_000)
  t.equal(sum('spent_assertions'), 1_200)
  t.equal(sum('revoked_tokens'), 1)
  t.equal(sum('rate_limits'), 1)
  t.equal(sum('sessions'), 1)
  t.equal(sum('registrations'), 0, 'not asked for')
  t.equal(await count(pool, 'registrations'), 5_000)
  const told = await pool.query(
    'select event, count(*)::int as n, count(distinct registration_id)::int as of from audit_events group by event',
  )
  t.same(told.rows, [{ event: 'registration.expired', n: 5_000, of: 5_000 }])
  for (const table of ['spent_assertions', 'revoked_tokens', 'sessions'])
    t.equal(await count(pool, table), 1, `${table}: what lives stays`)
})

test('old registrations go only when asked, only unclaimed ones, and only after they were told of', async (t) => {
  const own = await testApp(t)
  const { app, pool } = own
  const registrar = commands(own, addPruneCommand)
  const pruned = async (...args: string[]) => JSON.parse((await registrar('prune', ...args)).stdout)
  const fresh = await registerAnonymous(app)
  const old = await registerAnonymous(app)
  await renew(app, old.claim_token, { login_hint: 'alice@example.com' })
  await poll(app, old.claim_token)
  await expired(pool, 1_100, '40 days')
  await expired(pool, 3, '20 days', 'young_')
  await expired(pool, 2, '40 days', 'kept_')
  await pool.query(
    `update registrations set claim_expires_at = now() - interval '40 days' where id = $1`,
    [old.registration_id],
  )
  await pool.query(`insert into users (id) values ('user_1')`)
  await pool.query(
    `update registrations set claimed_at = now(), user_id = 'user_1' where id = 'kept_1'`,
  )
  await pool.query(`update registrations set revoked_at = now() where id = 'kept_2'`)
  t.match(await pruned(), { registrations: 0 })
  const at = await pool.query('select max(id) as last from audit_events')
  t.match(await pruned('--registrations-older-than', '30'), { registrations: 1_101 })
  t.match(await pruned('--registrations-older-than', '30'), { registrations: 0 })
  t.same(
    (await pool.query('select id from registrations order by id')).rows
      .map(({ id }) => id)
      .toSorted(),
    [fresh.registration_id, 'kept_1', 'kept_2', 'young_1', 'young_2', 'young_3'].toSorted(),
  )
  t.equal(await count(pool, 'claim_attempts'), 0)
  t.equal(await count(pool, 'poll_states'), 0)
  t.equal(
    (await count(pool, `audit_events where registration_id = $1`, old.registration_id)) > 3,
    true,
  )
  t.same((await pool.query('select max(id) as last from audit_events')).rows, at.rows)
  t.equal((await poll(app, old.claim_token)).json().error, 'expired_token', 'as before')
  t.equal((await renew(app, old.claim_token)).statusCode, 401)
  isSentence(
    t,
    {
      code: 1,
      stderr: (await registrar('prune', '--registrations-older-than', '0')).stderr.split('\n')[0]!,
    },
    /A whole number/,
  )
})

test('C49: a row that somebody works on is left alone, and nobody waits', async (t) => {
  const { url, pool } = await testDatabase(t)
  const { pool: own, db } = connect(url, { max: 1, onLost: () => {} })
  t.teardown(() => own.end())
  await expired(pool, 3, '40 days')
  await pool.query('update registrations set expiry_recorded_at = now()')
  const holder = await pool.connect()
  await holder.query('begin')
  // As a step-up does that is presented again.
  await holder.query(
    `update registrations set claim_expires_at = now() + interval '1 day', expiry_recorded_at = null where id = 'reg_2'`,
  )
  t.match(await prune(db, 30), { registrations: 2 })
  await holder.query('commit')
  holder.release()
  t.match(await prune(db, 30), { expired: 0, registrations: 0 })
  t.equal(await count(pool, 'registrations'), 1)
})
