/** Two replicas on one database, over HTTP: whatever happens on both at once, one of them decides. */
import { randomBytes } from 'node:crypto'
import type pg from 'pg'
import { test, type Test } from 'tap'
import { buildApp } from '../src/app.js'
import { insertResourceServer } from '../src/repositories/resource-servers.js'
import { hashSecret } from '../src/domain/secrets.js'
import * as agents from './fixtures/app.js'
import { testDatabase } from './fixtures/database.js'
import { Person } from './fixtures/person.js'
import { listening } from './fixtures/wire.js'

const ROUNDS = 30
const FULL_SCOPE = 'api.read api.write'
const COMPLETE = '/agent/identity/claim/complete'

async function replicas(t: Test) {
  const { url, pool } = await testDatabase(t)
  const [one, two] = [await agents.testReplica(t, url), await agents.testReplica(t, url)]
  return {
    pool,
    apps: [one.app, two.app],
    A: await listening(one.app),
    B: await listening(two.app),
  }
}

/** A ceremony for alice, the link opened in her browser. */
async function ceremony(alice: Person) {
  const registration = await agents.registerFor(alice.app, alice.email)
  const link = agents.linkToken(registration.claim)
  await alice.openClaim(link)
  const { user_code } = registration.claim
  const wrong = String((Number(user_code) + 1) % 1_000_000).padStart(6, '0')
  const form = { claim_attempt_token: link, user_code }
  return { ...registration, link, form, wrongForm: { ...form, user_code: wrong } }
}

async function rounds(work: (round: number) => Promise<void>, times = ROUNDS): Promise<void> {
  for (let round = 0; round < times; round += 1) await work(round)
}

async function events(pool: pg.Pool, registrationId: string): Promise<Record<string, number>> {
  const { rows } = await pool.query(
    'select event, count(*)::int as n from audit_events where registration_id = $1 group by event',
    [registrationId],
  )
  return Object.fromEntries(rows.map(({ event, n }) => [event, n]))
}

async function registrationRow(pool: pg.Pool, id: string) {
  const { rows } = await pool.query('select * from registrations where id = $1', [id])
  return rows[0]
}

const statuses = (answers: agents.Answer[]) => answers.map(({ statusCode }) => statusCode)
const sorted = (answers: agents.Answer[]) => statuses(answers).toSorted()
const errors = (answers: agents.Answer[]) => answers.map((answer) => answer.json().error)

function claims(token: string) {
  return JSON.parse(Buffer.from(token.split('.')[1]!, 'base64url').toString('utf8'))
}

test('C01: the right code at both replicas at once is one confirmation', async (t) => {
  const { pool, A, B } = await replicas(t)
  const alice = await Person.signedIn(A, 'alice@example.com')
  await rounds(async () => {
    const { registration_id, claim_token } = await agents.registerAnonymous(A)
    const started = await agents.postJson(A, '/agent/identity/claim', {
      claim_token,
      login_hint: alice.email,
    })
    const { claim_attempt } = started.json()
    const form = {
      claim_attempt_token: agents.linkToken(claim_attempt),
      user_code: claim_attempt.user_code,
    }
    await alice.openClaim(form.claim_attempt_token)
    const both = await Promise.all([
      alice.submit(COMPLETE, form),
      alice.at(B).submit(COMPLETE, form),
    ])
    t.same(sorted(both), [200, 303], 'one confirms, the other is told that it is done')
    t.match(await registrationRow(pool, registration_id), { generation: 2, claimed_at: Date })
    t.match(await events(pool, registration_id), { 'claim.confirmed': 1 })
    t.notOk((await events(pool, registration_id))['user_code.refused'])
  })
})

test('C02: of two people with the right code only the hinted one gets the agent', async (t) => {
  const { pool, A, B } = await replicas(t)
  const alice = await Person.signedIn(A, 'alice@example.com')
  const bob = await Person.signedIn(B, 'bob@example.com')
  await bob.get('/')
  const { rows } = await pool.query('select id from users where email = $1', [alice.email])
  await rounds(async () => {
    const { registration_id, form } = await ceremony(alice)
    await bob.openClaim(form.claim_attempt_token)
    const [hers, his] = await Promise.all([
      alice.submit(COMPLETE, form),
      bob.submit(COMPLETE, form),
    ])
    t.equal(hers.statusCode, 303)
    t.ok([403, 404].includes(his.statusCode), 'not his, or nothing there any more')
    t.notMatch(his.body, alice.email)
    t.equal((await registrationRow(pool, registration_id)).user_id, rows[0].id)
    t.match(await events(pool, registration_id), { 'claim.confirmed': 1 })
  })
})

test('C04: the right code against the fifth wrong one has the outcome of one order or the other', async (t) => {
  const { pool, A, B } = await replicas(t)
  await rounds(async (round) => {
    // Of somebody new each time: wrong codes are limited for an account too.
    const alice = await Person.signedIn(A, `alice-${round}@example.com`)
    const { registration_id, claim_token, form, wrongForm } = await ceremony(alice)
    for (let tries = 0; tries < 4; tries += 1)
      t.equal((await alice.submit(COMPLETE, wrongForm)).statusCode, 422)
    const [first, second] = round % 2 === 0 ? [form, wrongForm] : [wrongForm, form]
    const answers = await Promise.all([
      alice.submit(COMPLETE, first),
      alice.at(B).submit(COMPLETE, second),
    ])
    const [right, wrong] = round % 2 === 0 ? answers : answers.toReversed()
    const outcome = statuses([right!, wrong!]).join(' ')
    const { claimed_at } = await registrationRow(pool, registration_id)
    const polled = await agents.poll(B, claim_token)
    if (claimed_at) {
      t.equal(outcome, '303 200')
      t.equal(polled.statusCode, 200)
      t.match(await events(pool, registration_id), { 'user_code.refused': 4 })
    } else {
      t.equal(outcome, '410 410')
      t.equal(polled.json().error, 'expired_token')
      t.match(await events(pool, registration_id), { 'user_code.refused': 5 })
    }
  })
})

test('C07: a poll while the person confirms is pending or has everything', async (t) => {
  const { A, B } = await replicas(t)
  const alice = await Person.signedIn(A, 'alice@example.com')
  await rounds(async () => {
    const { claim_token, form } = await ceremony(alice)
    const polls: Promise<agents.Answer>[] = []
    const confirmed = alice.submit(COMPLETE, form)
    for (let n = 0; n < 6; n += 1) {
      polls.push(agents.poll(n % 2 ? A : B, claim_token))
      await new Promise((resolve) => setTimeout(resolve, 1))
    }
    t.equal((await confirmed).statusCode, 303)
    const answers = [...(await Promise.all(polls)), await agents.poll(B, claim_token)]
    t.equal(answers.at(-1)!.statusCode, 200)
    for (const answer of answers) {
      const told = answer.json()
      if (answer.statusCode !== 200) {
        t.match(told.error, /^(authorization_pending|slow_down)$/)
        continue
      }
      t.equal(told.scope, FULL_SCOPE)
      t.match(claims(told.access_token), { sub: /^user_/, scope: FULL_SCOPE })
      t.match(claims(told.identity_assertion), { email: alice.email, email_verified: true })
    }
  })
})

test('C08: polls at both just after the confirmation succeed, and none does after the grace', async (t) => {
  const { pool, A, B } = await replicas(t)
  const alice = await Person.signedIn(A, 'alice@example.com')
  await rounds(async () => {
    const { registration_id, claim_token, form } = await ceremony(alice)
    await alice.submit(COMPLETE, form)
    const both = () => Promise.all([agents.poll(A, claim_token), agents.poll(B, claim_token)])
    const granted = await both()
    t.same(statuses(granted), [200, 200])
    const tokens = granted.map((answer) => answer.json().access_token)
    t.same(
      tokens.map((token) => claims(token).registration_id),
      [registration_id, registration_id],
    )
    t.not(claims(tokens[0]).jti, claims(tokens[1]).jti)
    for (const token of tokens) t.equal((await agents.callApi(A, token)).statusCode, 200)

    await pool.query(
      `update registrations set claim_token_used_at = now() - interval '61 s' where id = $1`,
      [registration_id],
    )
    t.same(errors(await both()), ['expired_token', 'expired_token'])
  })
})

test('C10: of ten polls at the same moment one is in time, and each of the others adds 5 s', async (t) => {
  const { pool, A, B } = await replicas(t)
  await rounds(async () => {
    const { registration_id, claim_token } = await agents.registerFor(A, 'alice@example.com')
    const answers = await Promise.all(
      Array.from({ length: 10 }, (_, n) => agents.poll(n % 2 ? A : B, claim_token)),
    )
    const told = errors(answers).toSorted()
    t.same(told, ['authorization_pending', ...Array(9).fill('slow_down')])
    const { rows } = await pool.query(
      'select interval_seconds from poll_states where registration_id = $1',
      [registration_id],
    )
    t.equal(rows[0].interval_seconds, 5 + 9 * 5, 'no update is lost')
  })
})

test('C23: what one replica has revoked is inactive at the other', async (t) => {
  const { apps, A, B } = await replicas(t)
  const secret = randomBytes(16).toString('hex')
  const row = { id: 'rs_test', name: 'test', secret_hash: hashSecret(secret) }
  await insertResourceServer(apps[0]!.db, row)
  const authorization = `Basic ${Buffer.from(`rs_test:${secret}`).toString('base64')}`
  const introspect = async (token: string) =>
    (await agents.postForm(B, '/oauth2/introspect', { token }, { authorization })).json()
  await rounds(async (round) => {
    const { identity_assertion } = await agents.registerAnonymous(A)
    const { access_token } = (await agents.exchange(A, identity_assertion)).json()
    t.match(await introspect(access_token), { active: true })
    const token = round % 2 ? access_token : identity_assertion
    t.equal((await agents.postForm(A, '/oauth2/revoke', { token })).statusCode, 200)
    t.same(await introspect(access_token), { active: false })
    t.equal((await agents.callApi(B, access_token)).statusCode, 401)
  }, 6)
})

test('C24: revoking an access token leaves one that is exchanged at the same moment alone', async (t) => {
  const { A, B } = await replicas(t)
  await rounds(async () => {
    const { identity_assertion } = await agents.registerAnonymous(A)
    const { access_token: token } = (await agents.exchange(A, identity_assertion)).json()
    const [revoked, exchanged] = await Promise.all([
      agents.postForm(A, '/oauth2/revoke', { token }),
      agents.exchange(B, identity_assertion),
    ])
    t.same(statuses([revoked, exchanged]), [200, 200])
    t.equal((await agents.callApi(B, token)).statusCode, 401)
    t.equal((await agents.callApi(A, exchanged.json().access_token)).statusCode, 200)
  })
})

test('revoking an assertion while it is exchanged leaves no living token behind', async (t) => {
  const { A, B } = await replicas(t)
  await rounds(async () => {
    const { identity_assertion: token } = await agents.registerAnonymous(A)
    const [exchanged] = await Promise.all([
      agents.exchange(B, token),
      agents.postForm(A, '/oauth2/revoke', { token }),
    ])
    if (exchanged.statusCode === 200) {
      const { access_token } = exchanged.json()
      t.equal((await agents.callApi(B, access_token)).statusCode, 401)
    } else t.equal(exchanged.json().error, 'invalid_grant')
    t.equal((await agents.exchange(B, token)).json().error, 'invalid_grant')
  })
})

test('C47: who signs in at one replica claims at the other, and signing out there counts here', async (t) => {
  const { pool, A, B } = await replicas(t)
  await rounds(async () => {
    const alice = await Person.signedIn(A, 'alice@example.com')
    const atB = alice.at(B)
    const { registration_id, form } = await ceremony(atB)
    t.equal((await atB.submit(COMPLETE, form)).statusCode, 303)
    t.ok((await registrationRow(pool, registration_id)).claimed_at)

    const next = await ceremony(atB)
    const session = alice.cookieHeader()
    const stolen = atB.csrf
    await alice.get('/')
    t.equal((await alice.submit('/logout', {})).statusCode, 303)
    const page = await B.inject({
      url: `/claim?claim_attempt_token=${next.link}`,
      headers: { cookie: session },
    })
    t.match([page.statusCode, page.headers.location], [303, /\/login\?return_to=/])
    const late = await atB.post(COMPLETE, { ...next.form, _csrf: stolen }, { cookie: session })
    t.match([late.statusCode, late.headers.location], [303, /\/login\?return_to=/])
    t.notOk((await registrationRow(pool, next.registration_id)).claimed_at)
  }, 3)
})

test('two renewals at once leave one link and one code that work', async (t) => {
  const { pool, A, B } = await replicas(t)
  const alice = await Person.signedIn(A, 'alice@example.com')
  await rounds(async () => {
    const { claim_token, registration_id } = await agents.registerFor(A, alice.email)
    const renewed = await Promise.all(
      [A, B].map((replica) => agents.postJson(replica, '/agent/identity/claim', { claim_token })),
    )
    t.same(statuses(renewed), [200, 200])
    const blocks = renewed.map((answer) => answer.json().claim_attempt)
    const pages = []
    for (const block of blocks)
      pages.push((await alice.openClaim(agents.linkToken(block))).statusCode)
    t.same(pages.toSorted(), [200, 404])
    const live = blocks[pages.indexOf(200)]
    const confirmed = await alice.confirm(agents.linkToken(live), live.user_code)
    t.equal(confirmed.statusCode, 303)
    const { rows } = await pool.query(
      `select count(*)::int as made, (count(*) filter (where superseded_at is null))::int as current
       from claim_attempts where registration_id = $1`,
      [registration_id],
    )
    t.same(rows[0], { made: 3, current: 1 })
  })
})

test('a renewal and the confirmation of the older link never both hold', async (t) => {
  const { pool, A, B } = await replicas(t)
  const alice = await Person.signedIn(A, 'alice@example.com')
  await rounds(async () => {
    const { registration_id, claim_token, form } = await ceremony(alice)
    const [confirmed, renewed] = await Promise.all([
      alice.submit(COMPLETE, form),
      agents.postJson(B, '/agent/identity/claim', { claim_token }),
    ])
    const { claimed_at } = await registrationRow(pool, registration_id)
    t.same(statuses([confirmed, renewed]), claimed_at ? [303, 409] : [404, 200])
  })
})

test('C26: replicas that start at once on a new database sign with the same key', async (t) => {
  const { url, pool } = await testDatabase(t)
  const started = await Promise.all(Array.from({ length: 3 }, () => agents.testReplica(t, url)))
  const kids = new Set(started.map(({ app }) => app.keys.jwks.keys[0]!.kid))
  t.equal(kids.size, 1)
  const { rows } = await pool.query('select kid from signing_keys')
  t.same(
    rows.map(({ kid }) => kid),
    [...kids],
  )

  const { config } = started[0]!
  const other = { ...config, secrets: [randomBytes(32)] }
  await t.rejects(buildApp(other), { message: /^SECRET is none/ }, 'C50')
})

test('C49: expired registrations are told once, however many replicas look', async (t) => {
  const { url, pool } = await testDatabase(t)
  await pool.query(
    `insert into registrations (id, registration_type, claim_token_hash, claim_expires_at)
     select 'reg_' || n, 'anonymous', sha256(n::text::bytea), now() - interval '1 s'
     from generate_series(1, 1200) n`,
  )
  const started = await Promise.all(Array.from({ length: 2 }, () => agents.testReplica(t, url)))
  await Promise.all(started.map(({ app }) => app.ready()))
  const told = async () => {
    const { rows } = await pool.query(
      `select count(*)::int as n, count(distinct registration_id)::int as registrations
       from audit_events where event = 'registration.expired'`,
    )
    return rows[0]
  }
  while ((await told()).n < 1200) await new Promise((resolve) => setTimeout(resolve, 20))
  t.same(await told(), { n: 1200, registrations: 1200 })
})
