/** Your agents: what a person allowed, what became of it, and the end of it (WEB-13). */
import { t, test } from 'tap'
import {
  callApi,
  exchange,
  linkToken,
  poll,
  registerAnonymous,
  registerFor,
  RESOURCE,
  testApp,
} from '../fixtures/app.js'
import { claimWith, confirm, isRefused, present, renew, someone } from '../fixtures/assertions.js'
import { Person } from '../fixtures/person.js'
import { testProvider } from '../fixtures/provider.js'

const REVOKE = '/agents/revoke'
const { app, pool } = await testApp(t)
const P = await testProvider(t)
await P.trust(pool, { name: 'Agents & "Co" <script>' })

const rows = async (sql: string, ...values: unknown[]) => (await pool.query(sql, values)).rows

/** An agent that the person confirmed with a code. */
async function linked(person: Person) {
  const { registration_id, claim_token, claim } = await registerFor(app, person.email)
  t.equal((await confirm(person, claim)).statusCode, 303)
  return { registration_id, ...(await poll(app, claim_token)).json() }
}

const history = (person: Person, id: string) => person.get(`/agents/history?registration_id=${id}`)

test('without a session there is nothing to see, and nothing ends', async (t) => {
  const nobody = new Person(app, 'nobody@example.com')
  for (const answer of [await nobody.get('/agents'), await history(nobody, 'reg_x')])
    t.match(answer, { statusCode: 303, headers: { location: /\/login\?return_to=%2Fagents$/ } })
  await nobody.get('/login')
  t.equal((await nobody.submit(REVOKE, { all: 'all' })).statusCode, 303)
})

test('agents are listed newest first, with what they may do and when they last did', async (t) => {
  const alice = await Person.signedIn(app, 'alice@example.com')
  t.match((await alice.get('/agents')).body, /No agent acts for you/)
  const first = await linked(alice)
  const second = await linked(alice)
  const page = await alice.get('/agents')
  t.equal(page.statusCode, 200)
  t.ok(page.body.indexOf(second.registration_id) < page.body.indexOf(first.registration_id))
  t.match(
    page.body,
    /<li>Read your data<\/li><li>Change your data<\/li>[^]*Last used<\/dt><dd>just now/,
  )
  const told = await history(alice, first.registration_id)
  t.equal(told.statusCode, 200)
  for (const words of ['The agent registered', 'You confirmed', 'The agent got access'])
    t.match(told.body, words)
  const done = await registerFor(app, alice.email)
  await confirm(alice, done.claim)
  t.match((await alice.get('/agents')).body, 'not yet', 'never used')
})

test('revoking one ends it at once, and the others live on', async (t) => {
  const bob = await Person.signedIn(app, 'bob@example.com')
  const one = await linked(bob)
  const other = await linked(bob)
  await bob.get('/agents')
  const form = { registration_id: one.registration_id }
  t.equal((await bob.post(REVOKE, form)).statusCode, 403, 'WEB-01: not without a CSRF token')
  t.equal((await callApi(app, one.access_token)).statusCode, 200)
  t.match(await bob.submit(REVOKE, form), {
    statusCode: 303,
    headers: { location: /\/agents\?ended=reg_/ },
  })
  t.equal((await bob.submit(REVOKE, form)).statusCode, 303, 'again')
  t.equal((await callApi(app, one.access_token)).statusCode, 401)
  t.equal((await exchange(app, one.identity_assertion)).json().error, 'invalid_grant')
  t.equal((await callApi(app, other.access_token)).statusCode, 200)
  t.match((await bob.get('/agents')).body, /<h2>Ended<\/h2>/)
  t.match(
    (await history(bob, one.registration_id)).body,
    /Ended just now\.[^]*All access was ended/,
  )
  const audit = await rows(
    `select user_id from audit_events where event = 'registration.revoked' and registration_id = $1`,
    one.registration_id,
  )
  t.equal(audit.length, 1, 'PRF-36: once')
})

test('an old form for an agent that has ended takes nothing from the one that came after', async (t) => {
  const wanda = await Person.signedIn(app, 'wanda@example.com')
  await wanda.get('/')
  const asked = async () => (await present(app, P.idJag(someone('wanda')))).json()
  const { registration_id, claim } = await asked()
  await confirm(wanda, claim)
  t.equal((await wanda.submit(REVOKE, { registration_id })).statusCode, 303)
  const anew = await asked()
  t.not(anew.registration_id, registration_id)
  await confirm(wanda, anew.claim)
  t.equal((await wanda.submit(REVOKE, { registration_id })).statusCode, 303)
  t.equal((await asked()).registration_id, anew.registration_id, 'its provider’s word counts on')
  t.ok((await asked()).identity_assertion)
})

test('revoke all ends every one of theirs and nobody else’s', async (t) => {
  const carol = await Person.signedIn(app, 'carol@example.com')
  const dave = await Person.signedIn(app, 'dave@example.com')
  const mine = [await linked(carol), await linked(carol), await linked(carol)]
  const theirs = await linked(dave)
  t.match((await carol.get('/agents')).body, 'Revoke all 3')
  t.equal((await carol.submit(REVOKE, {})).statusCode, 400, 'nothing named is not all')
  t.equal((await carol.submit(REVOKE, { registration_id: '' })).statusCode, 400)
  t.equal((await callApi(app, mine[0]!.access_token)).statusCode, 200)
  await carol.get('/agents')
  t.equal((await carol.submit(REVOKE, { all: 'all' })).statusCode, 303)
  for (const { access_token } of mine) t.equal((await callApi(app, access_token)).statusCode, 401)
  t.equal((await callApi(app, theirs.access_token)).statusCode, 200)
})

test('a foreign agent and an unknown one look the same', async (t) => {
  const erin = await Person.signedIn(app, 'erin@example.com')
  const { registration_id, access_token } = await linked(erin)
  const mallory = await Person.signedIn(app, 'mallory@example.com')
  await mallory.get('/agents')
  const same = (body: string) => body.replace(/value="[^"]*"/g, '')
  const answers = []
  for (const id of [registration_id, 'reg_unknown', 'constructor']) {
    answers.push(await history(mallory, id))
    await mallory.get('/agents')
    answers.push(await mallory.submit(REVOKE, { registration_id: id }))
  }
  for (const { statusCode, body } of answers) {
    t.equal(statusCode, 404)
    t.equal(same(body), same(answers[0]!.body))
  }
  t.equal((await callApi(app, access_token)).statusCode, 200)
  for (const id of ['', '\0', "' or 1=1--", 'x'.repeat(2000), '../x']) {
    t.equal((await history(mallory, encodeURIComponent(id))).statusCode, 400)
    await mallory.get('/agents')
    t.equal((await mallory.submit(REVOKE, { registration_id: id })).statusCode, 400)
  }
})

test('a history tells nothing of other people who were asked before', async (t) => {
  const hal = await Person.signedIn(app, 'hal@example.com')
  const iris = await Person.signedIn(app, 'iris@example.com')
  const { registration_id, claim_token, claim } = await registerFor(app, hal.email)
  await confirm(hal, { ...claim, user_code: claim.user_code === '000000' ? '000001' : '000000' })
  await hal.decline(linkToken(claim))
  const his = `user_id = (select id from users where email = 'hal@example.com')`
  await rows(`update audit_events set address = '198.51.100.77' where ${his}`)
  const led = (await renew(app, claim_token, { login_hint: iris.email })).json()
  t.equal((await confirm(iris, led.claim_attempt)).statusCode, 303)
  const { body } = await history(iris, registration_id)
  t.match(body, 'You confirmed')
  for (const words of ['You declined', 'A wrong code was typed', '198.51.100.77'])
    t.notMatch(body, words)
})

test('PRF-24: revoking a provider’s agent takes its delegation along', async (t) => {
  const frank = await Person.signedIn(app, 'frank@example.com')
  const stepUp = (await present(app, P.idJag(someone('frank')))).json()
  await confirm(frank, stepUp.claim)
  const clean = (await present(app, P.idJag(someone('frank')))).json()
  const anonymous = await registerAnonymous(app)
  const claimed = await claimWith(app, anonymous.claim_token, P.idJag(someone('frank')))
  t.equal(claimed.json().status, 'claimed')
  const page = await frank.get('/agents')
  t.match(page.body, 'Agent of <bdi>Agents &amp; &quot;Co&quot; &lt;script&gt;</bdi>')
  t.equal((await frank.submit(REVOKE, { registration_id: clean.registration_id })).statusCode, 303)
  t.equal((await exchange(app, clean.identity_assertion)).json().error, 'invalid_grant')
  t.equal(
    (await exchange(app, claimed.json().identity_assertion)).statusCode,
    200,
    'and no other agent',
  )
  isRefused(t, await present(app, P.idJag(someone('frank'))), 401, 'interaction_required')
  isRefused(t, await renew(app, stepUp.claim_token), 410, 'claim_expired')
  t.match((await history(frank, clean.registration_id)).body, /Agent of <bdi>Agents &amp;[^]*Ended/)
})

test('a history says who linked the agent: the person, or its provider', async (t) => {
  const olga = await Person.signedIn(app, 'olga@example.com')
  await confirm(olga, (await present(app, P.idJag(someone('olga')))).json().claim)
  const { registration_id, claim_token } = await registerAnonymous(app)
  const { status } = (await claimWith(app, claim_token, P.idJag(someone('olga')))).json()
  t.equal(status, 'claimed')
  const { body } = await history(olga, registration_id)
  t.match(body, 'Its provider linked it to your account')
  t.notMatch(body, 'You confirmed', 'they did nothing')
})

test('what a provider linked before its person came waits for them', async (t) => {
  const { registration_id } = (await present(app, P.idJag(someone('grace')))).json()
  const grace = await Person.signedIn(app, 'grace@example.com')
  t.match((await grace.get('/agents')).body, /keep or remove it/)
  await grace.submit(REVOKE, { registration_id })
  t.notMatch((await grace.get('/agents')).body, /keep or remove it/)
  t.same(await rows('select * from delegations where subject = $1', 'grace'), [])
})

test('after a revocation the page says what is so, whatever its address claims', async (t) => {
  const heidi = await Person.signedIn(app, 'heidi@example.com')
  const notice = (body: string) => /<p class="done" role="status"[^>]*>([^<]*)</.exec(body)?.[1]
  const shown = async (ended: string, person = heidi) =>
    notice((await person.get(`/agents?ended=${ended}`)).body)
  const [one, two] = [await linked(heidi), await linked(heidi)]
  const stepUp = (await present(app, P.idJag(someone('heidi')))).json()
  await confirm(heidi, stepUp.claim)
  for (const ended of ['reg_unknown', 'x']) t.equal(await shown(ended), undefined)
  for (const ended of [one.registration_id, 'all']) t.match(await shown(ended), /^Not done yet: /)

  const page = await heidi.get('/agents')
  t.equal(notice(page.body), undefined)
  t.match(page.body, /<details>\s*<summary>Revoke all 3<\/summary>\s*<form/, 'a second step')
  const form = { registration_id: one.registration_id }
  const after = await heidi.follow(heidi.submit(REVOKE, form))
  const words =
    'Done: the agent linked with a code just now, asked from 127.0.0.1, can do nothing any more.'
  t.equal(notice(after.body), words)
  t.match(after.body, `<title>${words} · `)
  t.match(after.body, /<p class="done" role="status" tabindex="-1" autofocus>/)
  t.match(await shown(two.registration_id), /^Not done yet: /, 'that one lives')
  t.equal(
    await shown(one.registration_id, await Person.signedIn(app, 'ivan@example.com')),
    undefined,
  )

  await heidi.get('/agents')
  const of = await heidi.follow(heidi.submit(REVOKE, { registration_id: stepUp.registration_id }))
  t.match(
    notice(of.body),
    /^Done: the agent of \u2068Agents &amp; [^]*\u2069 linked just now, asked/,
  )
  const all = await heidi.follow(heidi.submit(REVOKE, { all: 'all' }))
  t.equal(notice(all.body), 'Done: no agent acts for you any more.')
  for (const ended of ['', '<script>', 'a b', 'x'.repeat(65)])
    t.equal((await heidi.get(`/agents?ended=${encodeURIComponent(ended)}`)).statusCode, 400)
  t.equal((await heidi.get('/agents?ended=a&ended=b')).statusCode, 400)
})

test('who had been signed out is told that nothing was revoked', async (t) => {
  const lea = await Person.signedIn(app, 'lea@example.com')
  const { registration_id, access_token } = await linked(lea)
  await lea.get('/agents')
  for (const form of [{ registration_id }, { all: 'all' }]) {
    await rows(
      `delete from sessions where user_id = (select id from users where email = $1)`,
      lea.email,
    )
    const { headers } = await lea.submit(REVOKE, form)
    const ended = 'all' in form ? 'all' : registration_id
    t.equal(headers.location, `http://localhost:8000/login?return_to=%2Fagents%3Fended%3D${ended}`)
    t.equal((await callApi(app, access_token)).statusCode, 200)
    await lea.get('/login')
    const again = { email: lea.email, return_to: `/agents?ended=${ended}` }
    const after = await lea.follow(lea.submit('/login', again))
    t.match(after.body, /role="status"[^>]*>Not done yet: [^<]*press Revoke\./)
  }
})

test('two agents without a name are told apart by where they asked from', async (t) => {
  const max = await Person.signedIn(app, 'max@example.com')
  const strange = await linked(max)
  await linked(max)
  const from = 'update claim_attempts set requested_from = $1 where registration_id = $2'
  await rows(from, '203.0.113.7', strange.registration_id)
  const { body } = await max.get('/agents')
  t.match(body, '<dt>Asked from</dt><dd>203.0.113.7</dd>')
  t.match(body, '<dt>Kind</dt><dd>An agent that named your email address</dd>')
  t.match(body, '<dt>Asked from</dt><dd>127.0.0.1</dd>')
  t.match(
    body,
    /<button>Revoke<span class="hidden"> the agent linked [^<]*, asked from 203\.0\.113\.7</,
  )
})

test('no number of agents that have ended hides one that acts', async (t) => {
  const nina = await Person.signedIn(app, 'nina@example.com')
  const { registration_id } = await linked(nina)
  await rows(
    `insert into registrations (id, registration_type, user_id, claim_token_hash, claim_expires_at,
       claim_token_used_at, claimed_at, revoked_at)
     select 'reg_nina' || i, 'service_auth', user_id, sha256(i::text::bytea), now(), now() - interval '3 hours',
       now() + interval '1 s', case when i % 2 = 0 then now() end
     from registrations, generate_series(1, 210) as i where id = $1`,
    registration_id,
  )
  const { body } = await nina.get('/agents')
  t.match(body, `<input type="hidden" name="registration_id" value="${registration_id}">`)
  t.equal(body.match(/<section class="agent">/g)?.length, 1)
  t.match(body, 'Older ones are not shown.')
  t.match((await history(nina, 'reg_nina1')).body, 'It can do nothing any more.')
})

test('an agent whose time is over has ended, and so has one that never fetched its access', async (t) => {
  const otto = await Person.signedIn(app, 'otto@example.com')
  const used = await linked(otto)
  const { registration_id, claim } = await registerFor(app, otto.email)
  t.equal((await confirm(otto, claim)).statusCode, 303)
  const live = async () =>
    (await otto.get('/agents')).body.match(/<section class="agent">/g)?.length
  const age = (id: string, hours: number) =>
    rows(
      `update registrations set claimed_at = claimed_at - $2 * interval '1 hour', claim_expires_at = claim_expires_at
         - $2 * interval '1 hour', claim_token_used_at = claim_token_used_at - $2 * interval '1 hour' where id = $1`,
      id,
      hours,
    )
  t.equal(await live(), 2)
  await age(used.registration_id, 2)
  t.equal(await live(), 2, 'within the minute in which it may fetch again')
  await age(used.registration_id, 1)
  t.equal(await live(), 1)
  await age(registration_id, 23)
  t.equal(await live(), 1, 'it could still fetch')
  await age(registration_id, 1)
  t.equal(await live(), undefined)
  const link = await otto.openClaim(linkToken(claim))
  t.match(link, { statusCode: 200, body: /<h1>Done, and over by now<[^]*<dt>It could</ })
})

test('not all is done while an agent acts that was linked before one whose time is over', async (t) => {
  const tom = await Person.signedIn(app, 'tom@example.com')
  const older = await linked(tom)
  const { registration_id, claim } = await registerFor(app, tom.email)
  t.equal((await confirm(tom, claim)).statusCode, 303)
  const age = (id: string, days: number) =>
    rows(
      `update registrations set claimed_at = claimed_at - $2 * interval '1 day',
         claim_expires_at = claim_expires_at - $2 * interval '1 day' where id = $1`,
      id,
      days,
    )
  await age(registration_id, 1)
  await age(older.registration_id, 2)
  t.equal((await callApi(app, older.access_token)).statusCode, 200)
  t.match((await tom.get('/agents?ended=all')).body, /role="status"[^>]*>Not done yet: not all/)
})

test('an agent whose provider is switched off says that it can do nothing', async (t) => {
  const pia = await Person.signedIn(app, 'pia@example.com')
  const stepUp = (await present(app, P.idJag(someone('pia')))).json()
  await confirm(pia, stepUp.claim)
  const words = 'its provider is not accepted here at present'
  t.notMatch((await pia.get('/agents')).body, words)
  await rows('update issuers set disabled_at = now()')
  t.teardown(() => rows('update issuers set disabled_at = null'))
  t.match((await pia.get('/agents')).body, words)
})

test('a long history is cut, and says so', async (t) => {
  const judy = await Person.signedIn(app, 'judy@example.com')
  const { registration_id: id } = await linked(judy)
  t.notMatch((await history(judy, id)).body, 'Only the latest')
  await pool.query(
    `insert into audit_events (event, registration_id) select 'token.issued', $1 from generate_series(1, 100)`,
    [id],
  )
  t.match((await history(judy, id)).body, 'Only the latest 100 are shown.')
})

test('signing out everywhere is one button beside signing out here', async (t) => {
  const kim = await Person.signedIn(app, 'kim@example.com')
  t.match(
    (await kim.get('/agents')).body,
    /action="[^"]*\/logout"[^]*<button>Sign out<\/button>\s*<button name="all" value="all">Sign out everywhere</,
  )
})

test('ending an agent leaves a provider’s word for somebody else as it is', async (t) => {
  const rita = await Person.signedIn(app, 'rita@example.com')
  const shared = { sub: 'shared', email: rita.email }
  const stepUp = (await present(app, P.idJag({ ...shared, aud: RESOURCE }))).json()
  const first = await present(app, P.idJag({ ...shared, email: 'saul@example.com' }))
  t.equal(first.statusCode, 200, 'nobody has that address: the subject stands for them')
  t.equal((await confirm(rita, stepUp.claim)).statusCode, 303, 'and from now on for her')
  const saul = await Person.signedIn(app, 'saul@example.com')
  await saul.get('/agents')
  const form = { registration_id: first.json().registration_id }
  t.equal((await saul.submit(REVOKE, form)).statusCode, 303)
  t.equal((await exchange(app, first.json().identity_assertion)).json().error, 'invalid_grant')
  t.equal((await present(app, P.idJag({ ...shared, aud: RESOURCE }))).statusCode, 200)
})
