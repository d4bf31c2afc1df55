/** Two replicas and providers' assertions: whatever is presented to both at once, one of them decides. */
import { test } from 'tap'
import { purgeExpired } from '../src/repositories/purge.js'
import * as agents from './fixtures/app.js'
import { claimWith, confirm, present, renew, someone } from './fixtures/assertions.js'
import { testDatabase } from './fixtures/database.js'
import { Person } from './fixtures/person.js'
import { now, testProvider } from './fixtures/provider.js'
import { blocked, COMPLETE, count, replicas, rounds, ROUNDS, sorted } from './fixtures/replicas.js'

test('C11: of one assertion at both replicas, one presentation counts', async (t) => {
  const { pool, P, A, B } = await replicas(t)
  await rounds(async (name) => {
    const idJag = P.idJag(someone(name))
    const answers = await Promise.all([present(A, idJag), present(B, idJag)])
    t.same(sorted(answers), [200, 400])
    const refused = answers.find(({ statusCode }) => statusCode === 400)!
    t.equal(refused.json().error, 'replay_detected')
  })
  t.equal(await count(pool, 'users'), ROUNDS)
  t.equal(await count(pool, `audit_events where event = 'assertion.issued'`), ROUNDS)
})

test('C12: what dies before the commit has spent nothing', async (t) => {
  const { pool, P, A, B } = await replicas(t)
  t.equal((await present(A, P.idJag(someone('alice')))).statusCode, 200)
  const holder = await pool.connect()
  await holder.query('begin')
  await holder.query('select from delegations for update')
  const idJag = P.idJag(someone('alice'))
  const first = present(A, idJag)
  const [pid] = await blocked(pool)
  const second = present(B, idJag)
  await blocked(pool, 2)
  await pool.query('select pg_terminate_backend($1)', [pid])
  t.equal((await first).statusCode, 503)
  await blocked(pool)
  await holder.query('rollback')
  holder.release()
  t.equal((await second).statusCode, 200, 'the one that waited for it')
  t.equal((await present(A, idJag)).json().error, 'replay_detected')
})

test('C14: what was used is known until the last replica would refuse it as expired', async (t) => {
  const { url, pool } = await testDatabase(t)
  const { app } = await agents.testReplica(t, url, { CLOCK_SKEW_SECONDS: '300' })
  const P = await testProvider(t)
  await P.trust(pool)
  const exp = now() - 290
  const idJag = P.idJag({ ...someone('alice'), iat: exp - 300, exp })
  t.equal((await present(app, idJag)).statusCode, 200)
  // As if it were exp + 300 s by the clock of a replica that is behind the database by the most that lets it be ready.
  await pool.query(`update spent_assertions set expires_at = expires_at - interval '311 seconds'`)
  await purgeExpired(app.db, 100)
  t.equal((await present(app, idJag)).json().error, 'replay_detected')
})

test('C15: two first assertions of one subject are one user and one registration', async (t) => {
  const { pool, P, A, B } = await replicas(t)
  await rounds(async (name) => {
    const answers = await Promise.all([A, B].map((at) => present(at, P.idJag(someone(name)))))
    t.same(sorted(answers), [200, 200])
    const [one, two] = answers.map((answer) => answer.json())
    t.equal(one.registration_id, two.registration_id)
    for (const { identity_assertion } of [one, two])
      t.equal((await agents.exchange(A, identity_assertion)).statusCode, 200)
  })
  t.equal(await count(pool, 'users'), ROUNDS)
  t.equal(await count(pool, 'registrations'), ROUNDS)
})

test('of two providers with one new address one makes the account, the other has to ask', async (t) => {
  const { pool, P, Q, A, B } = await replicas(t)
  await rounds(async (name) => {
    const claims = someone(name)
    const answers = await Promise.all([present(A, P.idJag(claims)), present(B, Q.idJag(claims))])
    t.same(sorted(answers), [200, 401])
  })
  t.equal(await count(pool, 'users'), ROUNDS)
  t.equal(await count(pool, 'delegations'), ROUNDS)
  await rounds(async (_, round) => {
    const number = { phone_number: `+1555${1_000_000 + round}`, phone_number_verified: true }
    const claims = { sub: `number-${round}`, email: undefined, ...number }
    const answers = await Promise.all([present(A, P.idJag(claims)), present(B, Q.idJag(claims))])
    t.same(sorted(answers), [200, 200], 'nobody could confirm a number without an address')
  })
  t.equal(await count(pool, 'users where phone_number is not null'), ROUNDS)
})

test('C18: an assertion against a form for one anonymous registration: one of them claims it', async (t) => {
  const { pool, P, A, B } = await replicas(t)
  const alice = await Person.signedIn(A, 'alice@example.com')
  await rounds(async (name, round) => {
    const { claim_token, registration_id } = await agents.registerAnonymous(A)
    const hint = { login_hint: alice.email }
    const { claim_attempt } = (await renew(A, claim_token, hint)).json()
    const claim_attempt_token = agents.linkToken(claim_attempt)
    await alice.openClaim(claim_attempt_token)
    const form = { claim_attempt_token, user_code: claim_attempt.user_code }
    // In flight the form has the say; when its time is over in that moment, the assertion.
    const over = `update claim_attempts set expires_at = now() where registration_id = $1`
    const [completed, claimed] = await Promise.all([
      alice.submit(COMPLETE, form),
      claimWith(B, claim_token, P.idJag(someone(name))),
      round % 2 ? pool.query(over, [registration_id]) : undefined,
    ])
    const won = [completed.statusCode === 303, claimed.statusCode === 200]
    if (round % 2 === 0) t.same(won, [true, false])
    t.notOk(won[0] && won[1])
    if (!won[0]) t.equal(completed.statusCode, 410)
    if (!won[1]) t.equal(claimed.statusCode, 409)
    const confirmed = `audit_events where registration_id = $1 and event = 'claim.confirmed'`
    t.equal(await count(pool, confirmed, registration_id), Number(won[0] || won[1]))
  })
})

test('C17: a step-up that is finished while the next assertion comes is clean, or asked again', async (t) => {
  const { pool, P, A, B, delegation } = await replicas(t)
  await rounds(async (name) => {
    const person = await Person.signedIn(A, `${name}@example.com`)
    const { claim, registration_id } = (await present(A, P.idJag(someone(name)))).json()
    const claim_attempt_token = agents.linkToken(claim)
    await person.openClaim(claim_attempt_token)
    const [completed, second] = await Promise.all([
      person.submit(COMPLETE, { claim_attempt_token, user_code: claim.user_code }),
      present(B, P.idJag(someone(name))),
    ])
    t.equal(second.json().registration_id, registration_id)
    if (second.statusCode === 200) {
      t.equal(completed.statusCode, 303)
      const exchanged = await agents.exchange(A, second.json().identity_assertion)
      t.equal(exchanged.statusCode, 200)
    } else {
      t.same([completed.statusCode, second.statusCode], [404, 401])
      t.equal((await confirm(person, second.json().claim)).statusCode, 303)
    }
    t.ok(await delegation(name))
  })
  t.equal(await count(pool, 'users'), ROUNDS, 'never a second user')
  t.equal(await count(pool, 'registrations'), ROUNDS)
})

test('an account that is made while its address is being vouched for has to be asked', async (t) => {
  const { pool, P, A } = await replicas(t)
  const holder = await pool.connect()
  await holder.query('begin')
  await holder.query(`insert into users (id, email) values ('user_a', 'alice@example.com')`)
  await holder.query(`insert into users (id, phone_number) values ('user_b', '+15550001')`)
  const number = { phone_number: '+15550001', phone_number_verified: true }
  const presented = Promise.all([
    present(A, P.idJag(someone('alice'))),
    present(A, P.idJag({ sub: 'bert', email: undefined, ...number })),
  ])
  await blocked(pool, 2)
  await holder.query('commit')
  holder.release()
  const [address, phone] = await presented
  t.equal(address.json().error, 'interaction_required')
  t.equal(phone.statusCode, 200, 'nobody could confirm for a number alone')
  t.equal(await count(pool, `users where id = 'user_b' and phone_number is null`), 1)
  t.equal(await count(pool, `delegations where user_id in ('user_a', 'user_b')`), 0)
})

test('a registration that ends while an assertion is about to claim it stays ended', async (t) => {
  const { pool, P, A } = await replicas(t)
  const { claim_token, registration_id } = await agents.registerAnonymous(A)
  const holder = await pool.connect()
  await holder.query('begin')
  await holder.query('update registrations set revoked_at = now()')
  const idJag = P.idJag(someone('alice'))
  const claiming = claimWith(A, claim_token, idJag)
  await blocked(pool)
  await holder.query('commit')
  holder.release()
  t.equal((await claiming).statusCode, 410)
  t.equal((await present(A, idJag)).json().error, 'replay_detected', 'spent all the same')
  const ended = 'registrations where id = $1 and claimed_at is null and subject is null'
  t.equal(await count(pool, ended, registration_id), 1)
})

test('C18: of two people whose providers claim one registration at once, the other gets no account', async (t) => {
  const { pool, P, A, B } = await replicas(t)
  await rounds(async (name) => {
    const { claim_token } = await agents.registerAnonymous(A)
    const names = [`${name}-a`, `${name}-b`]
    const answers = await Promise.all(
      [A, B].map((at, i) => claimWith(at, claim_token, P.idJag(someone(names[i]!)))),
    )
    t.same(sorted(answers), [200, 409])
  })
  t.equal(await count(pool, 'users'), ROUNDS)
  t.equal(await count(pool, 'delegations'), ROUNDS)
})

test('a poll that meets a revocation is told of the revocation', async (t) => {
  const { pool, A } = await replicas(t)
  const alice = await Person.signedIn(A, 'alice@example.com')
  const { registration_id, claim_token, claim } = await agents.registerFor(A, alice.email)
  t.equal((await confirm(alice, claim)).statusCode, 303)
  const holder = await pool.connect()
  await holder.query('begin')
  await holder.query('update registrations set revoked_at = now() where id = $1', [registration_id])
  const polled = agents.poll(A, claim_token)
  await blocked(pool)
  await holder.query('commit')
  holder.release()
  t.equal((await polled).json().error, 'access_denied')
})
