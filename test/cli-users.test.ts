/** `registrar users`: what is known of a person, and that nothing of it outlives them. */
import { setTimeout as sleep } from 'node:timers/promises'
import type pg from 'pg'
import { test } from 'tap'
import { addUserCommands } from '../src/cli-users.js'
import { hashSecret } from '../src/domain/secrets.js'
import { forgetPerson } from '../src/repositories/people.js'
import { insertSession } from '../src/repositories/sessions.js'
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
import { confirm, introspector, present, renew, someone } from './fixtures/assertions.js'
import { commands } from './fixtures/command.js'
import { Person } from './fixtures/person.js'
import { isSentence, start } from './fixtures/process.js'
import { testProvider } from './fixtures/provider.js'
import { blocked, count } from './fixtures/replicas.js'

const ALICE = 'alice@example.com'

const idOf = async (pool: pg.Pool, email: string): Promise<string> =>
  (await pool.query('select id from users where email = $1', [email])).rows[0].id

/** Every table as text, a line for each row. */
async function dump(pool: pg.Pool): Promise<string> {
  const { rows } = await pool.query(
    `select table_name from information_schema.tables where table_schema = 'public'`,
  )
  const texts = rows.map(async ({ table_name }) => {
    const all = await pool.query(`select string_agg(x::text, e'\\n') as text from ${table_name} x`)
    return `${table_name}: ${all.rows[0].text ?? ''}`
  })
  return (await Promise.all(texts)).join('\n')
}

test('a person is shown with accounts, providers, registrations and how many sessions', async (t) => {
  const own = await testApp(t)
  const { app, pool } = own
  const users = commands(own, addUserCommands)
  const P = await testProvider(t)
  await P.trust(pool)
  const alice = await Person.signedIn(app, ALICE)
  const { claim, registration_id } = await registerFor(app, ALICE)
  await confirm(alice, claim)
  const stepUp = (await present(app, P.idJag(someone('alice')))).json()
  await confirm(alice, stepUp.claim)
  await Person.signedIn(app, ALICE)
  const id = await idOf(pool, ALICE)
  const [byId, byEmail] = [await users('users', 'show', id), await users('users', 'show', ALICE)]
  t.equal(byId.stdout, byEmail.stdout)
  t.match(JSON.parse(byId.stdout), {
    id,
    email: ALICE,
    phone_number: null,
    forgotten_at: null,
    sessions: 2,
    sign_ins: [{ issuer: 'development', subject: ALICE }],
    delegations: [{ issuer: P.issuer, subject: 'alice', set_aside_at: null }],
    registrations: [
      { id: stepUp.registration_id, state: 'claimed' },
      { id: registration_id, state: 'claimed' },
    ],
  })
  for (const args of [
    ['show', 'bob@example.com'],
    ['forget', 'user_x', '--yes'],
  ])
    isSentence(t, await users('users', ...args), /^There is no such user\.$/m)
  const counted = await users('users', 'forget', ALICE)
  isSentence(t, counted, /add --yes/)
  t.same(JSON.parse(counted.stdout), { user_id: id, would_end: 2 })
  t.equal(await count(pool, 'users where email is not null'), 1)
})

test('C52: who is forgotten is named nowhere, and nothing that acted for them works', async (t) => {
  const own = await testApp(t, { TRUST_PROXY: '1' })
  const { app, pool, config } = own
  const replica = (await testReplica(t, config.DATABASE_URL!)).app
  const introspect = await introspector({ app })
  const P = await testProvider(t)
  await P.trust(pool)
  const from = (address: string) => ({
    inject: (options: object) => {
      const { headers } = options as { headers?: object }
      return app.inject({ ...options, headers: { ...headers, 'x-forwarded-for': address } })
    },
  })
  const [home, away] = [from('192.0.2.7'), from('198.51.100.9')]
  const alice = await Person.signedIn(home, ALICE)
  const bob = await Person.signedIn(away, 'bob@example.com')
  const id = await idOf(pool, ALICE)

  const hinted = await registerFor(home, ALICE)
  await confirm(alice, hinted.claim)
  const held = (await poll(home, hinted.claim_token)).json()
  const { registration_id: itsId } = (
    await present(home, P.idJag({ ...someone('alice'), sub: 'sub-of-alice' }))
  ).json()
  const waiting = await registerFor(home, ALICE)
  // Bob’s agent named her by mistake, and bob typed a wrong code on a claim of his own.
  const corrected = await registerAnonymous(away)
  await renew(away, corrected.claim_token, { login_hint: ALICE })
  const { claim_attempt } = (
    await renew(away, corrected.claim_token, { login_hint: bob.email })
  ).json()
  await bob.confirm(linkToken(claim_attempt), '000000')
  await pool.query(`update users set phone_number = '+4915112345678' where id = $1`, [id])
  await pool.query(
    `insert into audit_events (event, user_id, details) values ('claim.declined', $1, '{"email":"alice@example.com","reason":"x"}')`,
    [id],
  )
  const shape = async () =>
    (
      await pool.query(
        `select id, occurred_at, event, registration_id, user_id from audit_events
        where event not in ('user.forgotten', 'registration.revoked', 'delegation.removed') order by id`,
      )
    ).rows
  const before = await shape()
  const env = { DATABASE_URL: config.DATABASE_URL!, ISSUER, SECRET }
  const { code, stdout, stderr } = await start(t, 'cli', ['users', 'forget', ALICE, '--yes'], env)
    .ended
  t.equal(code, 0, stderr)
  t.same(JSON.parse(stdout), { user_id: id, registrations: 3, delegations: 0 })
  t.notMatch(stderr, /alice|192\.0\.2/)

  const everything = await dump(pool)
  t.notMatch(everything, /alice|\+49151|192\.0\.2\.7/)
  t.match(everything, /bob@example\.com/)
  t.match(everything, /198\.51\.100\.9/)
  t.same(await shape(), before, 'what happened, and when, is still told')
  t.equal(await count(pool, `audit_events where event = 'registration.revoked'`), 3)
  t.equal(await count(pool, `audit_events where event = 'user.forgotten' and user_id = $1`, id), 1)
  const kept = await pool.query(`select details from audit_events where event = 'claim.declined'`)
  t.same(kept.rows, [{ details: { reason: 'x' } }])

  for (const at of [app, replica]) {
    t.equal((await exchange(at, held.identity_assertion)).json().error, 'invalid_grant')
    t.equal((await callApi(at, held.access_token)).statusCode, 401)
    t.same(await introspect(held.access_token, at), { active: false })
    for (const { claim_token } of [hinted, waiting])
      t.equal((await poll(at, claim_token)).json().error, 'access_denied')
    t.equal((await renew(at, waiting.claim_token)).statusCode, 410)
  }
  t.equal((await alice.get('/agents')).statusCode, 303, 'signed out')
  t.equal((await renew(away, corrected.claim_token)).statusCode, 200, 'bob’s goes on')
  const shown = JSON.parse((await commands(own, addUserCommands)('users', 'show', id)).stdout)
  t.match(shown, { email: null, sessions: 0, sign_ins: [], delegations: [], forgotten_at: String })
  t.ok(shown.registrations.every(({ state }: { state: string }) => state === 'revoked'))
  t.ok(itsId)

  const again = await Person.signedIn(home, ALICE)
  t.not(await idOf(pool, ALICE), id, 'who comes again is a new user')
  t.equal((await again.openClaim(linkToken(waiting.claim))).statusCode, 403)
  t.match((await again.get('/agents')).body, /No agent acts for you/)
  t.equal((await commands(own, addUserCommands)('users', 'forget', id, '--yes')).code, 0)
  t.equal(await count(pool, `audit_events where event = 'user.forgotten'`), 1, 'told once')
})

test('C52: a confirmation that runs while its person is forgotten binds nothing that lives', async (t) => {
  const own = await testApp(t)
  const { app, pool } = own
  const alice = await Person.signedIn(app, ALICE)
  const id = await idOf(pool, ALICE)
  const { claim, claim_token } = await registerFor(app, ALICE)
  await alice.openClaim(linkToken(claim))
  const holder = await pool.connect()
  await holder.query('begin')
  await holder.query('select from registrations for update')
  const completing = confirm(alice, claim)
  await blocked(pool)
  await app.db.transaction().execute((tx) => forgetPerson(tx, id))
  await holder.query('commit')
  t.equal((await completing).statusCode, 410)
  t.same((await pool.query('select claimed_at from registrations')).rows, [{ claimed_at: null }])

  // The other order: the confirmation is first.
  await Person.signedIn(app, ALICE)
  const bob = await Person.signedIn(app, 'bob@example.com')
  const other = await registerFor(app, bob.email)
  await bob.openClaim(linkToken(other.claim))
  await holder.query('begin')
  await holder.query('select from registrations for update')
  const confirming = confirm(bob, other.claim)
  await blocked(pool)
  const forgetting = commands(own, addUserCommands)('users', 'forget', bob.email, '--yes')
  await blocked(pool, 2)
  await holder.query('commit')
  holder.release()
  t.equal((await confirming).statusCode, 303)
  t.equal((await forgetting).code, 0)
  t.equal((await poll(app, other.claim_token)).json().error, 'access_denied')
  t.equal((await poll(app, claim_token)).json().error, 'authorization_pending')
  t.equal(await count(pool, `registrations where user_id is not null and revoked_at is null`), 0)
})

test('C52: the address of a token issued at the last moment, which the trail is told of late, is not kept', async (t) => {
  const own = await testApp(t)
  const { app, pool } = own
  const alice = await Person.signedIn(app, ALICE)
  const { claim, registration_id } = await registerFor(app, ALICE)
  await confirm(alice, claim)
  const forgetting = commands(own, addUserCommands)('users', 'forget', ALICE, '--yes')
  const ended = `select from registrations where id = $1 and revoked_at is not null`
  while ((await pool.query(ended, [registration_id])).rowCount === 0) await sleep(5)
  await sleep(300)
  await pool.query(
    `insert into audit_events (event, registration_id, address) values ('token.issued', $1, '192.0.2.7')`,
    [registration_id],
  )
  await forgetting
  t.notMatch(await dump(pool), '192.0.2.7')
})

test('a session that began while its user was forgotten does not count', async (t) => {
  const { app, pool } = await testApp(t)
  const alice = await Person.signedIn(app, ALICE)
  const user_id = await idOf(pool, ALICE)
  await app.db.transaction().execute((tx) => forgetPerson(tx, user_id))
  const id_hash = hashSecret(alice.cookies.get('__Host-registrar-session')!)
  await insertSession(app.db, { id_hash, user_id, issuer: ISSUER, id_token_sealed: null })
  t.equal((await alice.get('/agents')).statusCode, 303)
  await alice.get('/login')
  await alice.submit('/login', { email: ALICE })
  t.equal((await alice.get('/agents')).statusCode, 200)
  t.not(await idOf(pool, ALICE), user_id)
})

test('of very many registrations and events nothing is left out', async (t) => {
  const own = await testApp(t)
  const { pool } = own
  await pool.query(`insert into users (id, email) values ('user_1', $1)`, [ALICE])
  await pool.query(
    `insert into registrations (id, registration_type, claimed_at, user_id, created_from, issuer, subject)
     select 'reg_' || n, 'service_auth', now(), 'user_1', '192.0.2.7', 'https://idp.example', 'alice-' || n from generate_series(1, 1100) n`,
  )
  await pool.query(
    `insert into claim_attempts (id, registration_id, token_hash, user_code_mac, login_hint_kind, login_hint, requested_from, expires_at)
     select 'cla_' || n, 'reg_' || 1 + n % 1100, sha256(n::text::bytea), 'mac', 'email', $1, '192.0.2.7', now() from generate_series(1, 1100) n`,
    [ALICE],
  )
  await pool.query(
    `insert into audit_events (event, registration_id, user_id, address, details)
     select 'token.issued', 'reg_' || n % 7, case when n % 2 = 0 then 'user_1' end, '192.0.2.7', '{"jti":"x"}' from generate_series(1, 5000) n`,
  )
  const { stdout } = await commands(own, addUserCommands)('users', 'forget', 'user_1', '--yes')
  t.same(JSON.parse(stdout), { user_id: 'user_1', registrations: 1100, delegations: 0 })
  // reg_0 is nobody's: events about it stay as they are, but for those that the user had a part in.
  await pool.query(`delete from audit_events where registration_id = 'reg_0' and user_id is null`)
  t.notMatch(await dump(pool), /alice|192\.0\.2\.7/)
  t.equal(
    await count(pool, `audit_events where details = '{"jti":"x"}'`),
    5000 - Math.floor(5000 / 14),
  )
})

test('who is forgotten takes no provider’s word for somebody else along', async (t) => {
  const own = await testApp(t)
  const { app, pool } = own
  const P = await testProvider(t)
  await P.trust(pool)
  await Person.signedIn(app, ALICE)
  const shared = { sub: 'shared', email: ALICE }
  const waiting = (await present(app, P.idJag({ ...shared, aud: RESOURCE }))).json()
  const bobs = await present(app, P.idJag({ ...shared, email: 'bob@example.com' }))
  t.equal(bobs.statusCode, 200)
  const registrar = commands(own, addUserCommands)
  const { stdout } = await registrar('users', 'forget', ALICE, '--yes')
  t.match(JSON.parse(stdout), { registrations: 1, delegations: 0 })
  t.equal((await poll(app, waiting.claim_token)).json().error, 'access_denied')
  t.equal((await exchange(app, bobs.json().identity_assertion)).statusCode, 200)
  const again = await present(app, P.idJag({ ...shared, email: 'bob@example.com' }))
  t.equal(again.statusCode, 200)
})
