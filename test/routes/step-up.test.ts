/** PROTOCOL §5, §6: the ceremony that follows an account match, and anonymous registrations claimed with an ID-JAG. */
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
  testReplica,
} from '../fixtures/app.js'
import {
  claimsOf,
  claimWith,
  confirm,
  introspector,
  isRefused,
  notify,
  present,
  renew,
  someone,
} from '../fixtures/assertions.js'
import { Person } from '../fixtures/person.js'
import { now, testProvider, type Members } from '../fixtures/provider.js'

const { app, config, pool } = await testApp(t)
const P = await testProvider(t)
const Q = await testProvider(t, { kids: ['q1', 'q2'] })
await P.trust(pool)
await Q.trust(pool, { name: 'Quiet & <b>Agents</b>' })
const introspect = await introspector({ app })
const bob = await Person.signedIn(app, 'bob@example.com')

const rows = async (sql: string, ...values: unknown[]) => (await pool.query(sql, values)).rows
const registration = async (id: string) =>
  (await rows('select * from registrations where id = $1', id))[0]
const delegations = (subject: string) =>
  rows('select issuer, user_id from delegations where subject = $1 order by issuer', subject)
const userOf = async (email: string): Promise<string> =>
  (await rows('select id from users where email = $1', email))[0]?.id

/** A person with an account, and the step-up of an assertion about them. */
async function stepUp(name: string, claims: Members = {}, from = P) {
  const person = await Person.signedIn(app, `${name}@example.com`)
  // For the CSRF token of a session: links that are dead show no form.
  await person.get('/')
  const asked = (await present(app, from.idJag({ ...someone(name), ...claims }))).json()
  return { person, id: await userOf(person.email), ...asked, token: linkToken(asked.claim) }
}

test('PRF-26, PRF-27: the page names the provider by the trust list, and what is new about it', async (t) => {
  const said = { name: 'Trusted Bank', client_name: 'Trusted Bank' }
  const { person, token, claim } = await stepUp('alice', said, Q)
  const page = (await person.openClaim(token)).body
  t.match(page, 'An agent of <strong><bdi>Quiet &amp; &lt;b&gt;Agents&lt;/b&gt;</bdi></strong>')
  t.match(page, `<small><bdi>${new URL(Q.issuer).host}</bdi></small>`)
  t.notMatch(page, /Trusted Bank/)
  t.match(page, /id="first_time_account">.*first agent for your account/)
  t.match(page, /id="first_time_provider">.*was never linked to your account/)
  t.notMatch(page, claim.user_code)
  await confirm(person, claim)

  const { token: again } = await stepUp('alice', { sub: 'alice-2' }, Q)
  const known = (await person.openClaim(again)).body
  t.match(known, /An agent of/)
  t.notMatch(known, /class="advisory"/, 'neither the account nor the provider is new')
  t.equal((await notify(app, Q.securityEvent({ sub: 'alice' }))).statusCode, 202)
  const { token: anew } = await stepUp('alice', {}, Q)
  const once = (await person.openClaim(anew)).body
  t.match(once, /An agent of/)
  t.notMatch(once, /class="advisory"/, 'nor when what was linked has ended')
  const { token: other } = await stepUp('alice')
  const another = (await person.openClaim(other)).body
  t.match(another, '<bdi>Example Agents</bdi> was never linked')
  t.notMatch(another, /first agent|first_time_account/)
})

test('PRF-28, 8628-10: it is for one account; nobody else can look at it, confirm or decline it', async (t) => {
  const { claim, token, claim_token, registration_id } = await stepUp('carla')
  const look = await bob.openClaim(token)
  t.equal(look.statusCode, 403)
  t.match(look.body, /c•••@e•••\.com/)
  t.notMatch(look.body, /carla|user_code/)
  for (const decision of ['authorize', 'decline']) {
    const form = { claim_attempt_token: token, user_code: claim.user_code, decision }
    const answer = await bob.submit('/agent/identity/claim/complete', form)
    t.equal(answer.statusCode, 403)
  }
  t.equal((await poll(app, claim_token)).json().error, 'authorization_pending')
  t.match(await registration(registration_id), { claimed_at: null, user_id: null })
  t.same(await delegations('carla'), [])
})

test('PRF-15: presenting again while it waits renews the one registration', async (t) => {
  const first = await stepUp('dan')
  const second = await stepUp('dan', { scope: 'api.read' })
  t.equal(second.registration_id, first.registration_id)
  t.not(second.claim_token, first.claim_token)
  t.equal((await first.person.openClaim(first.token)).statusCode, 404)
  t.equal((await confirm(first.person, first.claim)).statusCode, 404)
  t.equal((await poll(app, first.claim_token)).json().error, 'expired_token')
  isRefused(t, await renew(app, first.claim_token), 401, 'invalid_claim_token')
  t.equal((await second.person.decline(second.token)).statusCode, 303)
  t.equal((await poll(app, second.claim_token)).json().error, 'access_denied')

  const third = await stepUp('dan')
  await pool.query(`update registrations set claim_expires_at = now() where id = $1`, [
    third.registration_id,
  ])
  isRefused(t, await renew(app, third.claim_token), 410, 'claim_expired')
  const fourth = await stepUp('dan')
  t.equal(fourth.registration_id, first.registration_id, 'its window starts afresh')
  const renewed = (await renew(app, fourth.claim_token)).json()
  t.equal((await confirm(fourth.person, fourth.claim)).statusCode, 404)
  t.equal((await confirm(fourth.person, renewed.claim_attempt)).statusCode, 303)
  t.equal((await poll(app, fourth.claim_token)).statusCode, 200)
  isRefused(t, await renew(app, fourth.claim_token), 409, 'claimed_or_in_flight')
  const audits = await rows(
    `select count(*)::int as n from audit_events where event = 'registration.created'
      and registration_id = $1`,
    first.registration_id,
  )
  t.same(audits, [{ n: 1 }])
})

test('who holds the claim token cannot lead the subject to another account', async (t) => {
  const bobs = { login_hint: 'bob@example.com' }
  const pinned = await stepUp('ed')
  isRefused(t, await renew(app, pinned.claim_token, bobs), 400, 'invalid_login_hint')
  const same = { login_hint: 'ed@example.com' }
  isRefused(t, await renew(app, pinned.claim_token, same), 400, 'invalid_login_hint')

  const IDENTITY_ASSERTION_FIRST_CONTACT = 'confirm'
  const env = { IDENTITY_ASSERTION_FIRST_CONTACT }
  const { app: confirming } = await testReplica(t, config.DATABASE_URL!, env)
  const hinted = (await present(confirming, P.idJag(someone('flora')))).json()
  const led = await renew(confirming, hinted.claim_token, bobs)
  isRefused(t, led, 400, 'invalid_login_hint', 'nor is a first contact led away')

  const gone = await stepUp('gil')
  await pool.query('delete from users where id = $1', [gone.id])
  t.equal((await bob.openClaim(gone.token)).statusCode, 404)
  isRefused(t, await renew(app, gone.claim_token, bobs), 400, 'invalid_login_hint', 'deleted user')
  isRefused(t, await renew(app, gone.claim_token), 400, 'invalid_request', 'nobody to ask')
  const anew = await present(app, P.idJag(someone('gil')))
  t.match(anew.json(), { registration_id: gone.registration_id, scopes: ['api.read', 'api.write'] })
  for (const { claim_token } of [pinned, hinted, gone])
    t.not((await poll(app, claim_token)).statusCode, 200)
})

test('what waits unconfirmed gains nothing when the subject is linked by another way', async (t) => {
  const stolen = await stepUp('hanna')
  const other = await stepUp('hanna', { aud: RESOURCE })
  t.not(other.registration_id, stolen.registration_id)
  await confirm(other.person, other.claim)
  const clean = await present(app, P.idJag(someone('hanna')))
  t.equal(clean.json().registration_id, stolen.registration_id)
  t.equal((await poll(app, stolen.claim_token)).json().error, 'expired_token')
  t.equal((await stolen.person.openClaim(stolen.token)).statusCode, 404)
  t.equal((await exchange(app, clean.json().identity_assertion)).statusCode, 200)

  const fetchLater = await stepUp('ian')
  await confirm(fetchLater.person, fetchLater.claim)
  t.equal((await present(app, P.idJag(someone('ian')))).statusCode, 200)
  t.equal((await poll(app, fetchLater.claim_token)).statusCode, 200, 'but the confirmed one does')
})

test('renewals buy no tries without end, by whatever way they come', async (t) => {
  const { person, claim_token, claim, registration_id } = await stepUp('jan')
  await pool.query(`update claim_attempts set wrong_codes = 4 where registration_id = $1`, [
    registration_id,
  ])
  await pool.query(
    `insert into claim_attempts (id, registration_id, token_hash, user_code_mac, login_hint_kind,
      login_hint, wrong_codes, expires_at, superseded_at)
      values ('cla_x', $1, '', '', 'email', 'x', 11, now(), now())`,
    [registration_id],
  )
  isRefused(t, await present(app, P.idJag(someone('jan'))), 429, 'rate_limited')
  isRefused(t, await renew(app, claim_token), 429, 'rate_limited')
  t.equal((await confirm(person, claim)).statusCode, 303, 'the ceremony itself is untouched')
  t.equal((await poll(app, claim_token)).statusCode, 200, 'and so is its claim token')

  const anonymous = await registerAnonymous(app)
  const started = await renew(app, anonymous.claim_token, { login_hint: 'jan@example.com' })
  await person.decline(linkToken(started.json().claim_attempt))
  await pool.query(`update claim_attempts set wrong_codes = 15 where registration_id = $1`, [
    anonymous.registration_id,
  ])
  const idJag = P.idJag({ ...someone('jan'), sub: 'jan-2' })
  isRefused(t, await claimWith(app, anonymous.claim_token, idJag), 429, 'rate_limited')
  t.equal((await registration(anonymous.registration_id)).subject, null)
})

test('PRF-29: an anonymous registration is claimed with a clean assertion; what it had before dies', async (t) => {
  const before = await registerAnonymous(app)
  const { access_token } = (await exchange(app, before.identity_assertion)).json()
  const answer = await claimWith(app, before.claim_token, P.idJag(someone('kim')))
  t.equal(answer.statusCode, 200)
  const { identity_assertion, assertion_expires, ...rest } = answer.json()
  const { registration_id } = before
  t.same(rest, { registration_id, registration_type: 'identity_assertion', status: 'claimed' })
  t.match(assertion_expires, /^20.*Z$/)
  t.equal(claimsOf(identity_assertion).email, 'kim@example.com')
  t.same(await introspect(access_token), { active: false })
  t.equal((await exchange(app, before.identity_assertion)).json().error, 'invalid_grant')
  const after = (await exchange(app, identity_assertion)).json()
  t.equal(after.scope, 'api.read api.write')
  t.equal((await callApi(app, after.access_token, 'POST')).statusCode, 200)
  t.equal(
    claimsOf((await poll(app, before.claim_token)).json().access_token).sub,
    await userOf('kim@example.com'),
  )

  const again = await claimWith(app, before.claim_token, P.idJag(someone('kim')))
  isRefused(t, again, 409, 'claimed_or_in_flight')
  isRefused(t, await renew(app, before.claim_token), 409, 'claimed_or_in_flight', 'B47')
  const own = (await present(app, P.idJag(someone('kim')))).json()
  t.not(own.registration_id, registration_id, "the subject's own registration stays apart")
  const second = await registerAnonymous(app)
  const more = await claimWith(app, second.claim_token, P.idJag(someone('kim')))
  t.equal(more.json().status, 'claimed', 'an agent of the same person')
})

test('PRF-30: an account match is a ceremony with 200, and completing it makes the delegation', async (t) => {
  const anonymous = await registerAnonymous(app)
  const lea = await Person.signedIn(app, 'lea@example.com')
  const idJag = P.idJag({ ...someone('lea'), scope: 'api.write' })
  const answer = await claimWith(app, anonymous.claim_token, idJag)
  t.equal(answer.statusCode, 200)
  const { claim_attempt, claim_attempt_id, expires_at, ...rest } = answer.json()
  t.same(rest, { registration_id: anonymous.registration_id, status: 'initiated' })
  t.match({ claim_attempt_id, expires_at }, { claim_attempt_id: /^cla_/, expires_at: /Z$/ })
  t.equal((await poll(app, anonymous.claim_token)).json().error, 'authorization_pending')
  const meanwhile = (await exchange(app, anonymous.identity_assertion)).json()
  t.equal(meanwhile.scope, 'api.read', 'PRF-21')
  const hint = { login_hint: 'bob@example.com' }
  isRefused(t, await renew(app, anonymous.claim_token, hint), 400, 'invalid_login_hint')
  t.match(
    (await lea.openClaim(linkToken(claim_attempt))).body,
    /An agent of <strong><bdi>Example Agents[^]*As long as <bdi>Example Agents<\/bdi> vouches for it/,
  )
  t.equal((await confirm(bob, claim_attempt)).statusCode, 403)
  t.equal((await confirm(lea, claim_attempt)).statusCode, 303)
  const done = (await poll(app, anonymous.claim_token)).json()
  t.equal(done.scope, 'api.write')
  t.same(await introspect(meanwhile.access_token), { active: false })
  t.same(await delegations('lea'), [{ issuer: P.issuer, user_id: await userOf(lea.email) }])
  t.match(await registration(anonymous.registration_id), {
    registration_type: 'identity_assertion',
  })
  t.equal((await present(app, P.idJag(someone('lea')))).statusCode, 200)
})

test('PRF-21: what an anonymous agent has before a person confirms is no provider’s to lose', async (t) => {
  const anonymous = await registerAnonymous(app)
  await Person.signedIn(app, 'nora@example.com')
  const answer = await claimWith(app, anonymous.claim_token, P.idJag(someone('nora')))
  t.equal(answer.json().status, 'initiated')
  await pool.query('update issuers set disabled_at = now() where issuer = $1', [P.issuer])
  const meanwhile = await exchange(app, anonymous.identity_assertion)
  await pool.query('update issuers set disabled_at = null')
  t.equal(meanwhile.json().scope, 'api.read')
})

test('PRF-31, B47, B49: only an anonymous registration that nobody is claiming can be', async (t) => {
  const hinted = await registerFor(app, 'mia@example.com')
  const stepped = await stepUp('mia')
  const pending = await registerAnonymous(app)
  await renew(app, pending.claim_token, { login_hint: 'mia@example.com' })
  for (const { claim_token } of [hinted, stepped, pending]) {
    const idJag = P.idJag(someone('ned'))
    isRefused(t, await claimWith(app, claim_token, idJag), 409, 'claimed_or_in_flight')
    t.same(await delegations('ned'), [])
  }
  const over = await registerAnonymous(app)
  await pool.query(`update registrations set claim_expires_at = now() where id = $1`, [
    over.registration_id,
  ])
  isRefused(t, await claimWith(app, over.claim_token, P.idJag()), 410, 'claim_expired')
  isRefused(t, await claimWith(app, 'clm_unknown', P.idJag()), 401, 'invalid_claim_token')
  const revoked = await registerAnonymous(app)
  await claimWith(app, revoked.claim_token, P.idJag(someone('oda')))
  await notify(app, P.securityEvent({ sub: 'oda' }))
  isRefused(t, await claimWith(app, revoked.claim_token, P.idJag()), 410, 'claim_expired')
})

test('PRF-32, B50: a refused assertion leaves the registration claimable, and is spent', async (t) => {
  const { claim_token } = await registerAnonymous(app)
  const jti = 'too old'
  const cases: [string, number, string][] = [
    [P.idJag({ ...someone('pam'), jti, auth_time: 0 }), 401, 'login_required'],
    [P.idJag({ ...someone('pam'), jti, auth_time: now() }), 400, 'replay_detected'],
    [P.idJag({ email_verified: 'true' }), 400, 'missing_verified_email'],
    [P.idJag({}, { key: Q.p1 }), 400, 'invalid_signature'],
    [P.idJag({ aud: 'https://other.test' }), 400, 'invalid_audience'],
    ['words', 400, 'invalid_request'],
  ]
  for (const [idJag, status, error] of cases)
    isRefused(t, await claimWith(app, claim_token, idJag), status, error)
  const away = await testProvider(t)
  away.answer = (_request, response) => response.writeHead(500).end()
  await away.trust(pool)
  const unchecked = away.idJag(someone('pam'))
  for (const answer of [
    await claimWith(app, claim_token, unchecked),
    await present(app, unchecked),
  ])
    t.match(answer, { statusCode: 503, headers: { 'retry-after': '5' } })
  const missing = await renew(app, claim_token, { type: 'identity_assertion' })
  isRefused(t, missing, 400, 'invalid_request')
  const both = { login_hint: 'pam@example.com', email: 'pam@example.com' }
  isRefused(t, await renew(app, claim_token, both), 400, 'invalid_request')
  const started = (
    await renew(app, claim_token, { type: 'login_hint', email: 'pam@example.com' })
  ).json()
  const pam = await Person.signedIn(app, 'pam@example.com')
  await pam.decline(linkToken(started.claim_attempt))
  const answer = await claimWith(app, claim_token, Q.idJag(someone('pam-at-q')))
  t.equal(answer.json().status, 'claimed', 'a ceremony that is over is not in flight')
})

test('a second step-up of one registration is a claim of its own: its token is fresh, and nobody’s meanwhile', async (t) => {
  const { person, claim, claim_token, registration_id } = await stepUp('gina')
  await confirm(person, claim)
  t.equal((await poll(app, claim_token)).statusCode, 200)
  await pool.query(
    `update registrations set claim_token_used_at = now() - interval '1 hour' where id = $1`,
    [registration_id],
  )
  await pool.query(`delete from delegations where subject = 'gina'`)
  const again = await stepUp('gina')
  t.equal(again.registration_id, registration_id)
  t.match(await registration(registration_id), { user_id: null, claimed_at: null })
  await confirm(again.person, again.claim)
  t.equal((await poll(app, again.claim_token)).statusCode, 200)
})
