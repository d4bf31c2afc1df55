/** Attacks on the ceremony that docs/ceremony-risks.md names, and that no single route's tests hold. */
import { t, test } from 'tap'
import { WRONG_CODES_PER_DAY } from '../src/domain/claim.js'
import {
  linkToken,
  poll,
  postJson,
  registerFor,
  testApp,
  testReplica,
  type Sender,
} from './fixtures/app.js'
import { Person } from './fixtures/person.js'
import { listening } from './fixtures/wire.js'

const COMPLETE = '/agent/identity/claim/complete'
const { app, config, pool } = await testApp(t)
const A = await listening(app)
const B = await listening((await testReplica(t, config.DATABASE_URL!)).app)

/** A claim for the person, with the code that is right and one that is not. */
async function ask({ email }: { email: string }) {
  const { claim, ...registration } = await registerFor(app, email)
  const code: string = claim.user_code
  const wrong = code === '000000' ? '000001' : '000000'
  const { verification_uri } = claim
  return { ...registration, verification_uri, token: linkToken(claim), code, wrong }
}

const type = (person: Person, token: string, user_code: string, at: Sender = app) =>
  person.at(at).submit(COMPLETE, { claim_attempt_token: token, user_code })
const rows = async (sql: string, ...values: unknown[]) => (await pool.query(sql, values)).rows
const MINE = `event = 'user_code.refused' and user_id = (select id from users where email = $1)`
const refused = async ({ email }: Person): Promise<number> =>
  (await rows(`select count(*)::int as n from audit_events where ${MINE}`, email))[0].n
/** Moves the person's wrong codes back in time. */
const age = ({ email }: Person, by: string) =>
  rows(`update audit_events set occurred_at = occurred_at - interval '${by}' where ${MINE}`, email)

/** Signed in, with so many wrong codes in the trail. */
async function clumsy(email: string, wrongCodes: number): Promise<Person> {
  const person = await Person.signedIn(app, email)
  await rows(
    `insert into audit_events (event, user_id)
     select 'user_code.refused', id from users, generate_series(1, $2) where email = $1`,
    email,
    wrongCodes,
  )
  return person
}

test('8628-07: after fifteen wrong codes in a day no code of that account counts, whatever the claim', async (t) => {
  const alice = await Person.signedIn(app, 'alice@example.com')
  for (let typed = 1; typed < WRONG_CODES_PER_DAY; typed += 1) {
    const { token, wrong } = await ask(alice)
    await alice.openClaim(token)
    const answer = await type(alice, token, wrong)
    t.equal(answer.statusCode, 422)
    const left = WRONG_CODES_PER_DAY - typed
    t.match(
      answer.body,
      left === 1
        ? 'One try is left today.'
        : left < 4
          ? `${left} tries are left today.`
          : '4 tries are left.',
    )
  }
  const last = await ask(alice)
  await alice.openClaim(last.token)
  const fifteenth = await type(alice, last.token, last.wrong)
  t.match(fifteenth, { statusCode: 422, body: 'No try is left today.' })

  for (const asked of [last, await ask(alice)]) {
    for (const code of [asked.code, asked.wrong]) {
      const answer = await type(alice, asked.token, code)
      t.match(answer, { statusCode: 429, headers: { 'cache-control': 'no-store' } })
      t.match(answer.body, /Too many wrong codes were typed[^]*another in 1 day\./)
      t.match(answer.body, /value="decline"/, 'which needs no code')
      const wait = Number(answer.headers['retry-after'])
      t.ok(wait > 86_300 && wait <= 86_400, `until the first of them is a day old: ${wait}`)
      t.equal(answer.headers['ratelimit-policy'], '"wrong-codes";q=15;w=86400')
      t.equal(answer.headers.ratelimit, `"wrong-codes";r=0;t=${wait}`)
    }
    t.match(await type(alice, asked.token, 'none'), { statusCode: 400 })
    t.equal((await poll(app, asked.claim_token)).json().error, 'authorization_pending')
  }
  t.equal(await refused(alice), WRONG_CODES_PER_DAY, 'what was not looked at is not counted')
  const page = await alice.openClaim(last.token)
  t.match(page, { statusCode: 200, body: /Too many wrong codes were typed[^]*value="decline"/ })
  t.equal((await alice.decline(last.token)).statusCode, 303, 'Decline needs no code')
  t.equal((await poll(app, last.claim_token)).json().error, 'access_denied')
  const tries = 'select wrong_codes from claim_attempts where registration_id = $1'
  t.same(await rows(tries, last.registration_id), [{ wrong_codes: 1 }])
})

test('8628-07: the fifteen are of one account, and of one day', async (t) => {
  const bob = await clumsy('bob@example.com', WRONG_CODES_PER_DAY)
  const carol = await Person.signedIn(app, 'carol@example.com')
  const hers = await ask(carol)
  await carol.openClaim(hers.token)
  t.equal((await type(carol, hers.token, hers.code)).statusCode, 303)

  const asked = await ask(bob)
  await bob.openClaim(asked.token)
  await age(bob, '23 hours 59 minutes')
  const answer = await type(bob, asked.token, asked.code)
  t.equal(answer.statusCode, 429)
  const wait = Number(answer.headers['retry-after'])
  t.ok(wait >= 1 && wait <= 60, `less than a minute is left: ${wait}`)
  await age(bob, '1 minute')
  t.equal((await type(bob, asked.token, asked.wrong)).statusCode, 422, 'and tries are left again')
  t.equal((await type(bob, asked.token, asked.code)).statusCode, 303)
})

test('8628-07, C04: tries at once at two replicas do not exceed the fifteen', async (t) => {
  const dan = await clumsy('dan@example.com', WRONG_CODES_PER_DAY - 1)
  const claims = await Promise.all(Array.from({ length: 10 }, () => ask(dan)))
  await dan.openClaim(claims[0]!.token)
  const answers = await Promise.all(
    claims.map(({ token, wrong }, n) => type(dan, token, wrong, n % 2 ? A : B)),
  )
  const statuses = answers.map(({ statusCode }) => statusCode).toSorted()
  t.strictSame(statuses, [422, ...Array.from({ length: 9 }, () => 429)])
  t.equal(await refused(dan), WRONG_CODES_PER_DAY)
})

test('Authorize and Decline at once, at two replicas, have one outcome, and the agent is told that one', async (t) => {
  const erin = await Person.signedIn(app, 'erin@example.com')
  for (let round = 0; round < 10; round += 1) {
    const { token, code, claim_token, registration_id } = await ask(erin)
    await erin.openClaim(token)
    const decline = { claim_attempt_token: token, decision: 'decline' }
    const send = [() => type(erin, token, code, A), () => erin.at(B).submit(COMPLETE, decline)]
    if (round % 2) send.reverse()
    const answers = await Promise.all(send.map((go) => go()))
    const told = await poll(app, claim_token)
    const [row] = await rows('select claimed_at from registrations where id = $1', registration_id)
    const statuses = answers.map(({ statusCode }) => statusCode).toSorted()
    if (row.claimed_at === null) {
      t.strictSame(statuses, [303, 410])
      t.equal(told.json().error, 'access_denied')
    } else {
      t.strictSame(statuses, [200, 303])
      t.equal(told.statusCode, 200)
    }
  }
})

test('WEB-04: whoever fetches a link to look into it, with a session or without, changes nothing', async (t) => {
  const frida = await Person.signedIn(app, 'frida@example.com')
  const { verification_uri, token } = await ask(frida)
  const { pathname, search } = new URL(verification_uri)
  const tables = ['registrations', 'claim_attempts', 'poll_states', 'audit_events', 'sign_ins']
  const state = async () =>
    Promise.all(tables.map((table) => rows(`select * from ${table} order by 1`)))
  const before = await state()
  const nobody = new Person(app, '')
  for (const who of [nobody, frida]) {
    for (const method of ['GET', 'HEAD'] as const) {
      for (const headers of [
        { 'user-agent': 'Slackbot-LinkExpanding 1.0' },
        { 'sec-purpose': 'prefetch;prerender', purpose: 'prefetch' },
        { 'sec-fetch-site': 'cross-site', 'sec-fetch-dest': 'iframe' },
      ]) {
        for (const url of [pathname + search, `/claim?claim_attempt_token=${token}`]) {
          const cookie = who.cookieHeader()
          const answer = await app.inject({ method, url, headers: { ...headers, cookie } })
          t.ok([200, 303].includes(answer.statusCode))
          t.match(answer.headers, { 'cache-control': 'no-store', 'x-frame-options': 'DENY' })
        }
      }
    }
  }
  t.same(await state(), before)
})

test('B66: what a sibling host calls almost as we call the session ends none', async (t) => {
  const grace = await Person.signedIn(app, 'grace@example.com')
  // Chromium takes it from any host of the domain: to it the name does not begin with `__Host-`.
  const cookie = `\u00a0__Host-registrar-session=x; ${grace.cookieHeader()}`
  t.equal((await grace.get('/agents', { cookie })).statusCode, 200)
})

test('CIBA-02, SEC-07: a hint is not looked up, so neither answer nor time can tell who has an account', async (t) => {
  await pool.query('alter table users rename to mislaid')
  const answers = []
  for (const email of ['alice@example.com', 'nobody@example.com'])
    answers.push(
      await postJson(app, '/agent/identity', { type: 'service_auth', login_hint: email }),
    )
  await pool.query('alter table mislaid rename to users')
  for (const { statusCode } of answers) t.equal(statusCode, 200)
})

test('B54: what cannot be a link’s token is not carried on to the sign-in', async (t) => {
  const nobody = new Person(app, '')
  await nobody.get('/login')
  const tokens = ['"'.repeat(2600), '%'.repeat(20_000), 'é'.repeat(1000), 'a'.repeat(65), 'a b']
  for (const claim_attempt_token of tokens) {
    const answers = [await nobody.submit(COMPLETE, { claim_attempt_token })]
    const query = new URLSearchParams({ claim_attempt_token }).toString()
    if (query.length < 8000) answers.push(await nobody.get(`/claim?${query}`))
    for (const { statusCode, headers } of answers) {
      t.equal(statusCode, 303)
      t.match(headers.location, /^[^?]*\/login\?return_to=%2Fclaim$/)
    }
  }
})
