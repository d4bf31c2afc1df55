/** `registrar registrations`: what operators see of agents, and how they end one while replicas serve. */
import { setTimeout as sleep } from 'node:timers/promises'
import { test } from 'tap'
import type pg from 'pg'
import { addRegistrationCommands } from '../src/cli-registrations.js'
import {
  callApi,
  exchange,
  ISSUER,
  linkToken,
  poll,
  registerAnonymous,
  registerFor,
  RESOURCE,
  SECRET,
  testApp,
  testReplica,
} from './fixtures/app.js'
import { claimWith, confirm, introspector, present, someone } from './fixtures/assertions.js'
import { commands } from './fixtures/command.js'
import { Person } from './fixtures/person.js'
import { isSentence, operator } from './fixtures/process.js'
import { testProvider } from './fixtures/provider.js'
import { blocked } from './fixtures/replicas.js'

const ids = (stdout: string) => JSON.parse(stdout).map(({ id }: { id: string }) => id)

/** One registration in each state, the later in the alphabet the newer; all but reg_a of one moment. */
async function oneOfEach(pool: pg.Pool) {
  await pool.query(`insert into users (id, email) values ('user_1', 'alice@example.com')`)
  const rows = [
    ['reg_a', 'anonymous', null, '-1 hour', false, false, '3 days'],
    ['reg_b', 'service_auth', null, '1 hour', false, false, '1 day'],
    ['reg_c', 'service_auth', null, '1 hour', false, false, '1 day'],
    ['reg_d', 'identity_assertion', 'user_1', null, true, false, '1 day'],
    ['reg_e', 'service_auth', 'user_1', '-1 hour', true, true, '1 day'],
  ]
  for (const [id, type, user, window, claimed, revoked, age] of rows)
    await pool.query(
      `insert into registrations (id, registration_type, user_id, claim_token_hash, claim_expires_at, claimed_at, revoked_at,
         created_at, created_from, issuer, subject)
       values ($1, $2, $3, case when $4::text is not null then sha256($1::text::bytea) end, now() + $4::interval,
         case when $5 then now() end, case when $6 then now() end, date_trunc('day', now()) - $7::interval, '192.0.2.1',
         case $2 when 'identity_assertion' then 'https://idp.example' end, case $2 when 'identity_assertion' then 'sub' end)`,
      [id, type, user, window, claimed, revoked, age],
    )
  for (const [id, expires, wrong] of [
    ['reg_b', '1 hour', 5],
    ['reg_c', '1 hour', 4],
  ])
    await pool.query(
      `insert into claim_attempts (id, registration_id, token_hash, user_code_mac, login_hint_kind, login_hint, wrong_codes, expires_at)
       values ('cla_' || $1, $1, sha256($1::text::bytea), 'mac', 'email', 'bob@example.com', $3, now() + $2::interval)`,
      [id, expires, wrong],
    )
}

test('registrations are listed newest first, filtered, page by page', async (t) => {
  const replica = await testApp(t)
  const { pool } = replica
  await oneOfEach(pool)
  const registrar = commands(replica, addRegistrationCommands)
  const listed = async (...args: string[]) => {
    const { code, stdout, stderr } = await registrar('registrations', 'list', ...args)
    t.equal(code, 0, stderr)
    return stdout
  }
  const all = await listed()
  t.same(ids(all), ['reg_e', 'reg_d', 'reg_c', 'reg_b', 'reg_a'])
  const states = JSON.parse(all).map(({ state }: { state: string }) => state)
  t.same(states, ['revoked', 'claimed', 'pending_claim', 'unclaimed', 'expired'])
  t.match(JSON.parse(all)[1], {
    email: 'alice@example.com',
    registration_type: 'identity_assertion',
    issuer: 'https://idp.example',
    subject: 'sub',
    created_from: '192.0.2.1',
    generation: 1,
  })
  t.notMatch(all, /hash|mac|attempt/)
  const day = (await pool.query(`select now() - interval '2 days' as at`)).rows[0].at.toISOString()
  const filtered: [string[], string[]][] = [
    ...JSON.parse(all).map(({ id, state }: { id: string; state: string }) => [
      ['--state', state],
      [id],
    ]),
    [
      ['--kind', 'service_auth'],
      ['reg_e', 'reg_c', 'reg_b'],
    ],
    [
      ['--user', ' Alice@EXAMPLE.com'],
      ['reg_e', 'reg_d'],
    ],
    [['--user', 'user_1', '--state', 'claimed'], ['reg_d']],
    [['--issuer', 'https://idp.example'], ['reg_d']],
    [['--since', day, '--kind', 'anonymous'], []],
    [
      ['--since', '2026-01-01'],
      ['reg_e', 'reg_d', 'reg_c', 'reg_b', 'reg_a'],
    ],
    [
      ['--limit', '2'],
      ['reg_e', 'reg_d'],
    ],
    [
      ['--limit', '2', '--after', 'reg_d'],
      ['reg_c', 'reg_b'],
    ],
    [['--limit', '2', '--after', 'reg_b'], ['reg_a']],
    [['--after', 'reg_a'], []],
  ]
  for (const [args, expected] of filtered)
    t.same(ids(await listed(...args)), expected, args.join(' '))
})

test('what cannot be listed is said, and no address is repeated', async (t) => {
  const registrar = commands(await testApp(t), addRegistrationCommands)
  const refused: [string[], RegExp][] = [
    [['list', '--state', 'dead'], /One of unclaimed, pending_claim/],
    [['list', '--kind', 'x'], /One of anonymous/],
    [['list', '--since', 'yesterday'], /A time with its zone/],
    [['list', '--since', '2026-02-30'], /A time with its zone/],
    [['list', '--since', '2026-02-28T09:00'], /A time with its zone/],
    [['list', '--since', '2026-02-28T09:61Z'], /A time with its zone/],
    [['list', '--limit', '0'], /A whole number/],
  ]
  for (const [args, text] of refused)
    t.match(await registrar('registrations', ...args), { code: 1, stdout: '', stderr: text })
  const sentences: [string[], RegExp][] = [
    [['list', '--limit', '1001'], /1000 at most/],
    [['list', '--after', 'reg_x'], /no registration reg_x/],
    [['list', '--user', 'someone@example.com'], /^There is no such user\.$/m],
    [['list', '--user', 'user_x'], /no such user/],
    [['show', 'reg_x'], /no registration reg_x/],
    [['revoke', 'reg_x'], /no registration reg_x/],
  ]
  for (const [args, text] of sentences)
    isSentence(t, await registrar('registrations', ...args), text)
})

test('one is shown with its ceremonies and its history, without a secret', async (t) => {
  const { app, pool, config } = await testApp(t)
  const registrar = operator(t, { DATABASE_URL: config.DATABASE_URL, ISSUER, SECRET })
  const alice = await Person.signedIn(app, 'alice@example.com')
  const { registration_id, claim_token, claim } = await registerFor(app, alice.email)
  await confirm(alice, claim)
  const { access_token } = (await poll(app, claim_token)).json()
  const { code, stdout, stderr } = await registrar('registrations', 'show', registration_id)
  t.match({ code, stderr }, { code: 0, stderr: '' })
  const shown = JSON.parse(stdout)
  t.match(shown, {
    id: registration_id,
    state: 'claimed',
    email: 'alice@example.com',
    claim_attempts: [{ id: /^cla_/, login_hint: 'alice@example.com', confirmed_at: String }],
  })
  const told = shown.history.map(({ event }: { event: string }) => event)
  t.same(told.slice(0, 4), [
    'registration.created',
    'claim.requested',
    'user_code.minted',
    'claim.confirmed',
  ])
  const { rows } = await pool.query('select encode(user_code_mac, $1) as mac from claim_attempts', [
    'hex',
  ])
  for (const secret of [claim_token, claim.user_code, linkToken(claim), access_token, rows[0].mac])
    t.notMatch(stdout.replaceAll(/"(id|jti|user_id|occurred_at)": .*/g, ''), secret)
})

test('10027-04: one that is revoked is dead everywhere at once, told once, and does not come back', async (t) => {
  const own = await testApp(t)
  const { app, config, pool } = own
  const replica = (await testReplica(t, config.DATABASE_URL!)).app
  const P = await testProvider(t)
  await P.trust(pool)
  const introspect = await introspector({ app })
  const registrar = commands(own, addRegistrationCommands)
  const revoke = (id: string) => registrar('registrations', 'revoke', id)
  const trail = async () =>
    (
      await pool.query(
        `select event, registration_id, user_id, address, details from audit_events
         where event in ('registration.revoked', 'delegation.removed') order by id`,
      )
    ).rows

  const one = (await present(app, P.idJag(someone('alice')))).json()
  const { access_token } = (await exchange(app, one.identity_assertion)).json()
  t.ok((await introspect(access_token)).active)
  const { code, stdout } = await revoke(one.registration_id)
  t.equal(code, 0)
  t.match(JSON.parse(stdout), { state: 'revoked', generation: 2, revoked_at: String })
  for (const at of [app, replica]) {
    t.equal((await exchange(at, one.identity_assertion)).json().error, 'invalid_grant')
    t.equal((await callApi(at, access_token)).statusCode, 401)
    t.same(await introspect(access_token, at), { active: false })
  }
  t.same((await pool.query('select from delegations')).rowCount, 0)
  const details = { reason: 'revoked by the operator' }
  const [{ user_id }] = (await pool.query('select user_id from registrations')).rows
  const told = [
    { event: 'delegation.removed', registration_id: null, user_id, address: null, details },
    {
      event: 'registration.revoked',
      registration_id: one.registration_id,
      user_id,
      address: null,
      details,
    },
  ]
  t.same(await trail(), told)
  t.match(JSON.parse((await revoke(one.registration_id)).stdout), { generation: 2 })
  t.same(await trail(), told, 'once')
  const again = await present(app, P.idJag(someone('alice')))
  t.equal(again.statusCode, 401, 'its provider’s word is not enough any more')

  const anonymous = await registerAnonymous(app)
  await revoke(anonymous.registration_id)
  t.equal((await exchange(app, anonymous.identity_assertion)).json().error, 'invalid_grant')
  t.equal((await poll(app, anonymous.claim_token)).json().error, 'access_denied')
})

test('one that becomes a subject’s while it is revoked ends with that subject’s delegation', async (t) => {
  const own = await testApp(t)
  const { app, pool } = own
  const P = await testProvider(t)
  await P.trust(pool)
  const registrar = commands(own, addRegistrationCommands)
  const anonymous = await registerAnonymous(app)
  const holder = await pool.connect()
  await holder.query('begin')
  await holder.query('select from registrations for update')
  const claiming = claimWith(app, anonymous.claim_token, P.idJag(someone('alice')))
  await blocked(pool)
  const revoking = registrar('registrations', 'revoke', anonymous.registration_id)
  await blocked(pool, 2)
  await holder.query('commit')
  holder.release()
  t.equal((await claiming).statusCode, 200)
  t.equal((await revoking).code, 0)
  t.equal((await pool.query('select from delegations')).rowCount, 0)
  const { rows } = await pool.query(
    `select event from audit_events where event like '%removed' or event like '%revoked'`,
  )
  t.same(rows.map(({ event }) => event).toSorted(), ['delegation.removed', 'registration.revoked'])
})

test('one that is locked for long is waited for', async (t) => {
  const own = await testApp(t)
  const { app, pool } = own
  const registrar = commands(own, addRegistrationCommands)
  const { registration_id } = await registerAnonymous(app)
  const lock = await pool.connect()
  await lock.query('begin')
  await lock.query('select from registrations where id = $1 for update', [registration_id])
  const revoked = registrar('registrations', 'revoke', registration_id)
  await blocked(pool)
  const waiting = async () =>
    (
      await pool.query(
        `select query_start::text from pg_stat_activity
         where datname = current_database() and wait_event_type = 'Lock'`,
      )
    ).rows[0]?.query_start
  const first = await waiting()
  // Postgres gives up first, and it tries again.
  for (let now = first; now === undefined || now === first; now = await waiting()) await sleep(50)
  await lock.query('rollback')
  lock.release()
  t.match(await revoked, { code: 0 })
})

test('one that waits for a person ends without a provider’s word for somebody else', async (t) => {
  const own = await testApp(t)
  const { app, pool } = own
  const P = await testProvider(t)
  await P.trust(pool)
  await Person.signedIn(app, 'ann@example.com')
  const waiting = (
    await present(app, P.idJag({ ...someone('ann'), sub: 'shared', aud: RESOURCE }))
  ).json()
  const bobs = await present(app, P.idJag({ ...someone('bob'), sub: 'shared' }))
  t.equal(bobs.statusCode, 200)
  const registrar = commands(own, addRegistrationCommands)
  t.equal((await registrar('registrations', 'revoke', waiting.registration_id)).code, 0)
  t.equal((await poll(app, waiting.claim_token)).json().error, 'access_denied')
  t.equal((await present(app, P.idJag({ ...someone('bob'), sub: 'shared' }))).statusCode, 200)
})

test('one that waits for an address ends with the provider’s word for the person who has it', async (t) => {
  const own = await testApp(t, { IDENTITY_ASSERTION_FIRST_CONTACT: 'confirm' })
  const { app, pool } = own
  const P = await testProvider(t)
  await P.trust(pool)
  const idJag = () => P.idJag({ ...someone('zoe'), aud: RESOURCE })
  const waiting = (await present(app, idJag())).json()
  const other = (await present(app, P.idJag(someone('zoe')))).json()
  await confirm(await Person.signedIn(app, 'zoe@example.com'), other.claim)
  const registrar = commands(own, addRegistrationCommands)
  t.equal((await registrar('registrations', 'revoke', waiting.registration_id)).code, 0)
  t.equal((await present(app, idJag())).json().error, 'interaction_required')
})
