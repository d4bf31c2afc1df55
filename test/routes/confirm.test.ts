/** The claim page: who may see, confirm and decline (PROTOCOL §7). */
import { t, test } from 'tap'
import {
  exchange,
  ISSUER,
  linkToken,
  poll,
  postForm,
  postJson,
  registerAnonymous,
  registerFor,
  testApp,
  testReplica,
} from '../fixtures/app.js'
import { Person } from '../fixtures/person.js'

const COMPLETE = '/agent/identity/claim/complete'
const ALICE = 'alice@example.com'

const { app, config, pool } = await testApp(t)
const alice = await Person.signedIn(app, ALICE)
const bob = await Person.signedIn(app, 'bob@example.com')

/** A ceremony as the agent and the person see it. */
type Asked = Awaited<ReturnType<typeof ask>>
async function ask(hint = ALICE, at = app) {
  const { registration_id: id, claim_token, claim } = await registerFor(at, hint)
  return { id, claim_token, ...seen(claim) }
}
function seen(block: { user_code: string; verification_uri: string }) {
  const code = block.user_code
  return { code, wrong: code === '000000' ? '000001' : '000000', token: linkToken(block) }
}
async function renew({ claim_token }: Asked) {
  return postJson(app, '/agent/identity/claim', { claim_token })
}

const submit = (person: Person, { token }: { token: string }, user_code: string) =>
  person.submit(COMPLETE, { claim_attempt_token: token, user_code })
const heading = (body: string) => /<h1>([^<]*)<\/h1>/.exec(body)?.[1]
const rows = async (sql: string, ...values: unknown[]) => (await pool.query(sql, values)).rows
const row = async ({ id }: { id: string }) => {
  const of = `select r.*, wrong_codes, declined_at, confirmed_at from registrations r
    join claim_attempts on registration_id = r.id and superseded_at is null where r.id = $1`
  return (await rows(of, id))[0]
}
const setRegistration = ({ id }: Asked, set: string) =>
  pool.query(`update registrations set ${set} where id = $1`, [id])
const setAttempt = ({ id }: Asked, set: string) =>
  pool.query(`update claim_attempts set ${set} where registration_id = $1`, [id])
const events = ({ id }: { id: string }, like: string) =>
  rows(
    `select event, user_id, host(address) as address, details from audit_events
    where registration_id = $1 and event like $2`,
    id,
    like,
  )

test('WEB-04, WEB-12, 8628-09: the page says who asks what, and opening it changes nothing', async (t) => {
  const carol = await Person.signedIn(app, 'carol@example.com')
  const asked = await ask(carol.email)
  await setAttempt(asked, `requested_at = '2026-11-22 14:05:59Z', requested_from = '192.0.2.7'`)
  const before = await row(asked)
  const page = await carol.get(`/claim?claim_attempt_token=${asked.token}&user_code=${asked.code}`)
  t.equal(page.statusCode, 200)
  t.equal(heading(page.body), 'An agent asks to act for you')
  for (const words of [
    carol.email,
    'An agent that named your email address',
    /ago, from 192\.0\.2\.7 <small>22 November 2026, 14:05 UTC</,
    'At <strong><bdi>Example API</bdi></strong>:',
    'Read your data <small><code>api.read</code>',
    'Change your data <small><code>api.write</code>',
    '2 hours once it starts, then it has to ask you again',
    'This is the first agent for your account.',
    'If you did not start this, decline.',
    'value="authorize"',
    'value="decline"',
    'inputmode="numeric" autocomplete="off"',
  ])
    t.match(page.body, words)
  t.notMatch(page.body, asked.code, '8628-13: the code is never filled in from the link')
  const head = await app.inject({
    method: 'HEAD',
    url: `/claim?claim_attempt_token=${asked.token}`,
    headers: { cookie: carol.cookieHeader() },
  })
  t.match(head, { statusCode: 200, body: '' })
  t.same(await row(asked), before)

  t.equal((await submit(carol, asked, asked.code)).statusCode, 303)
  const next = await carol.openClaim((await ask(carol.email)).token)
  t.notMatch(next.body, 'first agent', 'said only until an agent is linked')
})

test('the right code binds a service_auth registration to the person', async (t) => {
  const asked = await ask()
  const answer = await alice.confirm(asked.token, asked.code)
  t.match(answer, {
    statusCode: 303,
    headers: { location: `${ISSUER}/claim?claim_attempt_token=${asked.token}` },
  })
  t.equal(heading((await alice.openClaim(asked.token)).body), 'Done: your agent is authorized')
  const { user_id, generation, claimed_at, wrong_codes } = await row(asked)
  t.ok(claimed_at)
  t.match({ generation, wrong_codes }, { generation: 1, wrong_codes: 0 })
  t.match(await events(asked, 'claim.confirmed'), [{ user_id, address: '127.0.0.1' }])
  t.equal((await poll(app, asked.claim_token)).statusCode, 200)
})

test('confirming an anonymous registration raises its generation: what it had before dies', async (t) => {
  const { registration_id: id, claim_token, identity_assertion } = await registerAnonymous(app)
  const started = await postJson(app, '/agent/identity/claim', { claim_token, login_hint: ALICE })
  const asked = { id, claim_token, ...seen(started.json().claim_attempt) }
  t.match((await alice.openClaim(asked.token)).body, 'An agent that has not said who it is')
  t.equal((await exchange(app, identity_assertion)).statusCode, 200)
  t.equal((await submit(alice, asked, asked.code)).statusCode, 303)
  t.equal((await row(asked)).generation, 2)
  t.match((await exchange(app, identity_assertion)).json(), { error: 'invalid_grant' })
  t.match((await poll(app, claim_token)).json(), { scope: 'api.read api.write' })
})

test('Decline needs no code, ends the attempt and is told to the agent', async (t) => {
  const asked = await ask()
  t.match(await alice.decline(asked.token), {
    statusCode: 303,
    headers: { location: `${ISSUER}/claim?claim_attempt_token=${asked.token}` },
  })
  t.match(await events(asked, 'claim.%ed'), [{}, { event: 'claim.declined' }])
  t.match((await poll(app, asked.claim_token)).json(), { error: 'access_denied' })
  t.equal((await submit(alice, asked, asked.code)).statusCode, 410)
  t.equal((await row(asked)).claimed_at, null)
})

test('PROTOCOL §7: a link that does not serve the person gets the same answer for GET and POST', async (t) => {
  const expire = (a: Asked) => setAttempt(a, `expires_at = now() - interval '1s'`)
  const claimForBob = (a: Asked) =>
    setRegistration(a, `claimed_at = now(), user_id = (select min(id) from users)`)
  const claimAndRevoke = async (a: Asked) => {
    await alice.confirm(a.token, a.code)
    await setRegistration(a, 'revoked_at = now()')
  }
  const nowhere = 'This link does not lead anywhere'
  const over = 'This request is over'
  const done = 'Done: your agent is authorized'
  const cases: [
    name: string,
    prepare: (asked: Asked) => Promise<unknown>,
    status: number,
    title: string,
    who?: Person,
  ][] = [
    ['unknown', async (asked) => (asked.token = 'cat_unknown'), 404, nowhere],
    ['empty', async (asked) => (asked.token = ''), 404, nowhere],
    ['NUL', async (asked) => (asked.token += '\0'), 404, nowhere],
    ['superseded', renew, 404, nowhere],
    ['superseded, a stranger', renew, 404, nowhere, bob],
    ['used by another', (asked) => alice.confirm(asked.token, asked.code), 404, nowhere, bob],
    ['of another account', async () => {}, 403, 'This request is for another account', bob],
    ['fifth wrong code', (a) => setAttempt(a, 'wrong_codes = 5'), 410, 'Too many wrong codes'],
    ['B62: expired', expire, 410, 'This link has expired'],
    ['window over', (a) => setRegistration(a, 'claim_expires_at = now()'), 410, over],
    ['revoked', (a) => setRegistration(a, 'revoked_at = now()'), 410, over],
    ['claimed otherwise', claimForBob, 410, over],
    ['claimed and revoked', claimAndRevoke, 410, over],
    ['done already', (a) => alice.confirm(a.token, a.code), 200, done],
  ]
  for (const [name, prepare, status, title, who = alice] of cases) {
    const asked = await ask()
    await prepare(asked)
    const before = await row(asked)
    await who.get('/')
    const url = `/claim?${new URLSearchParams({ claim_attempt_token: asked.token })}`
    const link = { claim_attempt_token: asked.token }
    const answers = [await who.get(url)]
    if (asked.token)
      answers.push(
        await submit(who, asked, asked.code),
        await who.submit(COMPLETE, { ...link, decision: 'decline' }),
      )
    for (const answer of answers) {
      t.equal(answer.statusCode, status, name)
      t.equal(heading(answer.body), title)
      t.notMatch(answer.body, 'user_code', 'no form')
      if (title === nowhere) t.notMatch(answer.body, asked.token || 'claim_attempt_token')
    }
    t.same(await row(asked), before, `${name}: nothing changed`)
  }
  const declined = await ask()
  await alice.decline(declined.token)
  t.match(await alice.openClaim(declined.token), { statusCode: 200, body: /<h1>You declined</ })
  t.match(await submit(alice, declined, declined.code), { statusCode: 410, body: 'You declined' })
  t.equal((await alice.get('/claim')).statusCode, 404)
  const twice = await alice.get(`/claim?claim_attempt_token=a&claim_attempt_token=b`)
  t.equal(twice.statusCode, 400)
})

test('WEB-15: unknown, superseded and used links look the same to a stranger', async (t) => {
  const [superseded, used] = [await ask(), await ask()]
  await renew(superseded)
  await alice.confirm(used.token, used.code)
  const pages = []
  for (const token of ['cat_unknown', superseded.token, used.token])
    pages.push((await bob.openClaim(token)).body)
  t.equal(new Set(pages).size, 1)
})

test('the wrong account is told for whom the link is, masked, and may change accounts', async (t) => {
  const asked = await ask('ALICE@Example.com')
  const page = await bob.openClaim(asked.token)
  t.match(page.body, 'a•••@e•••.com')
  t.notMatch(page.body, /alice/i)
  t.match(await submit(bob, asked, asked.wrong), { statusCode: 403, body: 'a•••@e•••.com' })
  t.equal((await row(asked)).wrong_codes, 0)

  const back = new URLSearchParams({ claim_attempt_token: asked.token })
  const someone = await Person.signedIn(app, 'someone@example.com')
  await someone.openClaim(asked.token)
  const out = await someone.submit('/logout', { return_to: `/claim?${back}` })
  t.equal(out.headers.location, `${ISSUER}/claim?${back}`)
  const { headers } = await someone.get(`/claim?${back}`)
  t.equal(headers.location, `${ISSUER}/login?return_to=${encodeURIComponent(`/claim?${back}`)}`)
})

test('WEB-14, B61: the fifth wrong code ends the attempt, the right one then fails, and a renewal helps', async (t) => {
  const asked = await ask()
  await alice.openClaim(asked.token)
  for (const left of ['4 tries are', '3 tries are', '2 tries are', 'One try is']) {
    const answer = await submit(alice, asked, asked.wrong)
    t.match(answer, { statusCode: 422, body: `That is not the code. ${left} left.` })
    t.match(answer.body, /role="alert" id="code-error".*aria-describedby="code-note code-error"/s)
    t.notMatch(answer.body, asked.wrong, 'WEB-16')
  }
  t.match(await submit(alice, asked, asked.wrong), {
    statusCode: 410,
    body: 'Too many wrong codes',
  })
  t.equal((await submit(alice, asked, asked.code)).statusCode, 410)
  t.match((await poll(app, asked.claim_token)).json(), { error: 'expired_token' })
  const refused = await events(asked, 'user_code.refused')
  t.strictSame(
    refused.map(({ details }) => details.tries_left),
    [4, 3, 2, 1, 0],
  )
  const again = seen((await renew(asked)).json().claim_attempt)
  t.equal((await submit(alice, again, again.code)).statusCode, 303)
})

test('8628-07: fifteen wrong codes in a day end renewals, however many ceremonies they took', async (t) => {
  const asked = await ask()
  await setAttempt(asked, 'wrong_codes = 5')
  for (const wrong_codes of [5, 4]) {
    t.equal((await renew(asked)).statusCode, 200)
    const current = 'registration_id = $2 and superseded_at is null'
    await rows(`update claim_attempts set wrong_codes = $1 where ${current}`, wrong_codes, asked.id)
  }
  const last = seen((await renew(asked)).json().claim_attempt)
  t.equal((await alice.confirm(last.token, last.wrong)).statusCode, 422)
  const capped = await renew(asked)
  t.match(capped, { statusCode: 429, body: '"rate_limited"' })
  await setAttempt(asked, `requested_at = requested_at - interval '23 hours'`)
  const later = await renew(asked)
  t.match(later.headers, { ratelimit: /^"wrong-codes";r=0;t=/, 'retry-after': /^3[56]\d\d$/ })
  await setAttempt(asked, `requested_at = requested_at - interval '1 hour'`)
  t.equal((await renew(asked)).statusCode, 200)
})

test('B59, 8628-12: a code may be typed with spaces, dashes and wide digits; what is no code is not counted', async (t) => {
  const asked = await ask()
  await alice.openClaim(asked.token)
  const malformed = [
    '',
    '12345',
    '1234567',
    'abcdef',
    '-12345',
    '1e5',
    '123456\0',
    '٠١٢٣٤٥',
    '0x1234',
  ]
  for (const text of [...malformed, '+12345', '12345６7', '9'.repeat(50_000), '" or 1=1']) {
    const answer = await submit(alice, asked, text)
    t.match(answer, { statusCode: 400, body: 'Enter the six digits that your agent shows.' })
  }
  const repeated = [
    ['_csrf', alice.csrf],
    ['claim_attempt_token', asked.token],
    ['user_code', asked.code],
    ['user_code', asked.code],
  ] as [string, string][]
  const headers = { cookie: alice.cookieHeader(), origin: ISSUER }
  t.equal((await postForm(app, COMPLETE, repeated, headers)).statusCode, 400)
  const maybe = { claim_attempt_token: asked.token, user_code: asked.code, decision: 'maybe' }
  t.equal((await alice.submit(COMPLETE, maybe)).statusCode, 400)
  t.match(await row(asked), { wrong_codes: 0, claimed_at: null })

  const forms: ((code: string) => string)[] = [
    (code) => ` ${code.slice(0, 2)} ${code.slice(2, 4)}-${code.slice(4)}\t`,
    (code) => `${code.slice(0, 3)}–${code.slice(3)}`,
    (code) => code.replace(/\d/g, (digit) => String.fromCodePoint(0xff10 + Number(digit))),
    (code) => `${code}\r\n`,
  ]
  for (const typed of forms) {
    const next = await ask()
    await alice.openClaim(next.token)
    t.equal((await submit(alice, next, typed(next.code))).statusCode, 303, typed('123456'))
  }
})

test('B56: without a session the code is not looked at; the sign-in comes first', async (t) => {
  const asked = await ask()
  const signIn = `${ISSUER}/login?return_to=%2Fclaim%3Fclaim_attempt_token%3D${asked.token}`
  const nobody = new Person(app, '')
  t.match(await nobody.openClaim(asked.token), { statusCode: 303, headers: { location: signIn } })
  await nobody.get('/login')
  for (const code of [asked.code, asked.wrong])
    t.match(await submit(nobody, asked, code), { statusCode: 303, headers: { location: signIn } })
  t.match(await row(asked), { wrong_codes: 0, claimed_at: null })
  t.equal((await nobody.get('/claim')).headers.location, `${ISSUER}/login?return_to=%2Fclaim`)
  for (const token of ['%ED%A0%80', '%FF', '%00', '"><script>', 'a\r\nb', 'é', '%'])
    t.match(await nobody.get(`/claim?claim_attempt_token=${token}`), { statusCode: 303 })
})

test('WEB-01, WEB-02, B57: a form that is not ours confirms nothing and counts nothing', async (t) => {
  const asked = await ask()
  await alice.openClaim(asked.token)
  await bob.get('/')
  const attacks: [string, Record<string, string>][] = [
    [alice.csrf, { 'sec-fetch-site': 'cross-site' }],
    [alice.csrf, { origin: 'https://evil.example' }],
    [bob.csrf, {}],
    ['', {}],
  ]
  for (const [_csrf, headers] of attacks) {
    for (const user_code of [asked.code, asked.wrong]) {
      const form = { _csrf, user_code, claim_attempt_token: asked.token }
      t.equal((await alice.post(COMPLETE, form, headers)).statusCode, 403)
    }
  }
  const moved = await Person.signedIn(app, ALICE)
  await moved.openClaim(asked.token)
  const tab = moved.csrf
  await moved.get('/')
  await moved.submit('/login', { email: 'bob@example.com' })
  const form = { _csrf: tab, claim_attempt_token: asked.token, user_code: asked.code }
  t.equal((await moved.post(COMPLETE, form)).statusCode, 403, 'a tab left open by another account')
  t.match(await row(asked), { wrong_codes: 0, claimed_at: null })
})

test('C01, C46, 10027-02, B63: the same code twice, at once or from a second tab, has its effect once', async (t) => {
  const { app: other } = await testReplica(t, config.DATABASE_URL!)
  const asked = await ask()
  await alice.openClaim(asked.token)
  const answers = await Promise.all([
    submit(alice, asked, asked.code),
    submit(alice.at(other), asked, asked.code),
    submit(alice, asked, asked.code),
  ])
  t.strictSame(answers.map(({ statusCode }) => statusCode).toSorted(), [200, 200, 303])
  t.equal((await submit(alice, asked, asked.wrong)).statusCode, 200, 'not counted any more')
  t.equal((await events(asked, 'claim.confirmed')).length, 1)
  t.match(await row(asked), { wrong_codes: 0, generation: 1 })
})

test('C04: the right code at the same time as the fifth wrong one: claimed or dead, never both', async (t) => {
  for (let round = 0; round < 5; round += 1) {
    const asked = await ask()
    await alice.openClaim(asked.token)
    await setAttempt(asked, 'wrong_codes = 4')
    const [wrong, right] = await Promise.all([
      submit(alice, asked, asked.wrong),
      submit(alice, asked, asked.code),
    ])
    const claimed = (await row(asked)).claimed_at !== null
    const statuses = [wrong!.statusCode, right!.statusCode]
    t.strictSame(statuses, claimed ? [200, 303] : [410, 410])
  }
})

test('C52: a person who is deleted cannot confirm, not even in the same moment', async (t) => {
  const gone = await Person.signedIn(app, 'gone@example.com')
  const asked = await ask(gone.email)
  await gone.openClaim(asked.token)
  const holder = await pool.connect()
  await holder.query('begin')
  await holder.query('select from registrations where id = $1 for update', [asked.id])
  const submitted = submit(gone, asked, asked.code)
  const waiting = `select 1 from pg_stat_activity
    where datname = current_database() and wait_event_type = 'Lock'`
  for (let tries = 0; tries < 500 && (await rows(waiting)).length === 0; tries += 1) continue
  await pool.query('delete from users where email = $1', [gone.email])
  await holder.query('commit')
  holder.release()
  t.equal((await submitted).statusCode, 410)
  t.match(await row(asked), { claimed_at: null, confirmed_at: null })
  t.equal((await submit(gone, asked, asked.code)).statusCode, 303, 'the session ended with them')
})
