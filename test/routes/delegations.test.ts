/** Pre-hijacking: whoever has a provider speak for an address first is not in the account of the one who has it. */
import { t, test } from 'tap'
import {
  callApi,
  exchange,
  ISSUER,
  linkToken,
  poll,
  registerAnonymous,
  registerFor,
  testApp,
} from '../fixtures/app.js'
import {
  claimWith,
  confirm,
  introspector,
  isRefused,
  present,
  someone,
} from '../fixtures/assertions.js'
import { Person } from '../fixtures/person.js'
import { testProvider } from '../fixtures/provider.js'

const { app, pool } = await testApp(t)
const P = await testProvider(t)
await P.trust(pool, { name: 'Agents & "Co" <script>' })
const introspect = await introspector({ app })

const rows = async (sql: string, ...values: unknown[]) => (await pool.query(sql, values)).rows
const delegation = async (subject: string) =>
  (await rows('select * from delegations where subject = $1', subject))[0]
const audited = async (user_id: string) =>
  (
    await rows(
      `select event from audit_events where user_id = $1 and event like 'delegation.%'
    order by id`,
      user_id,
    )
  ).map(({ event }) => event)

/** A stranger's agents are in the account before its person ever came. */
async function hijacked(name: string) {
  const { identity_assertion } = (await present(app, P.idJag(someone(name)))).json()
  const { access_token } = (await exchange(app, identity_assertion)).json()
  const anonymous = await registerAnonymous(app)
  const claimed = await claimWith(app, anonymous.claim_token, P.idJag(someone(name)))
  t.equal(claimed.json().status, 'claimed')
  const { user_id } = await delegation(name)
  return { identity_assertion, access_token, user_id, claimed: claimed.json(), anonymous }
}

/** What a form on the page would send. */
function forms(body: string): Record<string, string>[] {
  const text = (html: string) =>
    html.replace(
      /&(amp|lt|gt|quot|#39);/g,
      (_, name) => ({ amp: '&', lt: '<', gt: '>', quot: '"', '#39': "'" })[name as string]!,
    )
  return [...body.matchAll(/<form .*?<\/form>/gs)].map(([form]) =>
    Object.fromEntries(
      [...form.matchAll(/name="(\w+)" value="([^"]*)"/g)]
        .filter(([, name]) => name !== 'decision')
        .map(([, name, value]) => [name, text(value!)]),
    ),
  )
}

test('at the first sign-in what providers made before is set aside, until the person says keep', async (t) => {
  const { identity_assertion, access_token, user_id, claimed, anonymous } = await hijacked('alice')
  t.equal((await callApi(app, access_token)).statusCode, 200)
  const asked = await registerFor(app, 'alice@example.com')

  const alice = new Person(app, 'alice@example.com')
  await alice.get('/login')
  const claim = new URL(asked.claim.verification_uri).searchParams.get('return_to')!
  const signedIn = await alice.submit('/login', { email: alice.email, return_to: claim })
  t.equal(signedIn.statusCode, 303)
  const page = `${ISSUER}/delegations?return_to=${encodeURIComponent(claim)}`
  t.equal(signedIn.headers.location, page)
  t.match(await delegation('alice'), { user_id, set_aside_at: Date })

  const dead = async () => {
    t.same(await introspect(access_token), { active: false })
    t.equal((await callApi(app, access_token)).statusCode, 401)
    for (const assertion of [identity_assertion, claimed.identity_assertion])
      t.equal((await exchange(app, assertion)).json().error, 'invalid_grant')
    t.equal((await poll(app, anonymous.claim_token)).json().error, 'access_denied')
  }
  await dead()
  const shown = await alice.get(page.slice(ISSUER.length))
  t.equal(shown.statusCode, 200)
  t.match(shown.headers, { 'cache-control': 'no-store', 'x-frame-options': 'DENY' })
  t.match(shown.body, 'Agents &amp; &quot;Co&quot; &lt;script&gt;')
  t.notMatch(shown.body, '<script>')
  await dead()

  const [{ _csrf, ...form }] = forms(shown.body) as [Record<string, string>]
  t.same(form, { issuer: P.issuer, subject: 'alice', return_to: claim })
  const bob = await Person.signedIn(app, 'bob@example.com')
  const refused: [Person, Record<string, string>, Record<string, string>][] = [
    [alice, {}, {}],
    [alice, { _csrf: '' }, {}],
    [alice, { _csrf: bob.csrf }, {}],
    [alice, { _csrf: _csrf! }, { origin: 'https://evil.example' }],
    [alice, { _csrf: _csrf! }, { 'sec-fetch-site': 'cross-site' }],
  ]
  for (const [person, csrf, headers] of refused) {
    const answer = await person.post(
      '/delegations',
      { ...form, decision: 'keep', ...csrf },
      headers,
    )
    t.equal(answer.statusCode, 403)
  }
  const nobody = await new Person(app, '').submit('/delegations', { ...form, decision: 'keep' })
  t.match(nobody.headers.location, `${ISSUER}/login`)
  await bob.get('/')
  for (const decision of ['keep', 'remove'])
    t.equal((await bob.submit('/delegations', { ...form, decision })).statusCode, 303)
  const neither = await alice.submit('/delegations', { ...form, _csrf: _csrf!, decision: 'maybe' })
  t.equal(neither.statusCode, 400)
  t.match(await delegation('alice'), { user_id, set_aside_at: Date }, 'still as it was')
  await dead()

  const kept = await alice.submit('/delegations', { ...form, _csrf: _csrf!, decision: 'keep' })
  t.match(kept, { statusCode: 303, headers: { location: page } })
  const onward = await alice.get(page.slice(ISSUER.length))
  t.match(onward, { statusCode: 303, headers: { location: ISSUER + claim } })
  for (const assertion of [identity_assertion, claimed.identity_assertion])
    t.equal((await exchange(app, assertion)).json().error, 'invalid_grant', 'who else has it?')
  t.same(await introspect(access_token), { active: false })
  const anew = await present(app, P.idJag(someone('alice')))
  t.equal((await exchange(app, anew.json().identity_assertion)).statusCode, 200)
  const twice = await alice.submit('/delegations', { ...form, _csrf: _csrf!, decision: 'remove' })
  t.equal(twice.statusCode, 303)
  t.match(await delegation('alice'), { set_aside_at: null }, 'an old form undoes nothing')
  t.same(await audited(user_id), [
    'delegation.confirmed',
    'delegation.set_aside',
    'delegation.confirmed',
  ])

  await Person.signedIn(app, 'alice@example.com')
  t.match(await delegation('alice'), { set_aside_at: null }, 'later sign-ins set nothing aside')
})

test('what the person removes is revoked for good, and its subject has to ask', async (t) => {
  const { identity_assertion, access_token, user_id, claimed, anonymous } = await hijacked('carol')
  const carol = await Person.signedIn(app, 'carol@example.com')
  const [form] = forms((await carol.get('/delegations')).body)
  const answer = await carol.submit('/delegations', { ...form, decision: 'remove' })
  t.match(answer, { statusCode: 303, headers: { location: `${ISSUER}/delegations?return_to=%2F` } })
  t.notOk(await delegation('carol'))
  t.same(await introspect(access_token), { active: false })
  const asked = await present(app, P.idJag(someone('carol')))
  isRefused(t, asked, 401, 'interaction_required')
  t.equal((await confirm(carol, asked.json().claim)).statusCode, 303)
  for (const assertion of [identity_assertion, claimed.identity_assertion])
    t.equal((await exchange(app, assertion)).json().error, 'invalid_grant', 'not revived either')
  t.equal((await poll(app, anonymous.claim_token)).json().error, 'access_denied')
  t.same(await introspect(access_token), { active: false })
  t.same(await audited(user_id), [
    'delegation.confirmed',
    'delegation.set_aside',
    'delegation.removed',
    'delegation.confirmed',
  ])
})

test('one that is set aside can be confirmed by its own step-up too, which revives no token', async (t) => {
  const { identity_assertion, access_token, claimed, anonymous } = await hijacked('dora')
  const dora = await Person.signedIn(app, 'dora@example.com')
  const answer = await present(app, P.idJag({ ...someone('dora'), email: 'other@example.com' }))
  isRefused(t, answer, 401, 'interaction_required', 'PRF-12')
  const { claim, claim_token } = answer.json()
  t.equal((await exchange(app, identity_assertion)).json().error, 'invalid_grant')
  const waiting = 'can do nothing until you keep it'
  t.match((await dora.get('/agents')).body, waiting)
  t.equal((await confirm(dora, claim)).statusCode, 303)
  t.match(await delegation('dora'), { set_aside_at: null })
  t.equal((await poll(app, claim_token)).statusCode, 200)
  for (const assertion of [identity_assertion, claimed.identity_assertion])
    t.equal((await exchange(app, assertion)).json().error, 'invalid_grant')
  t.same(await introspect(access_token), { active: false })
  t.equal((await dora.get('/delegations')).statusCode, 303, 'nothing waits any more')
  t.notMatch(
    (await dora.get('/agents')).body,
    waiting,
    'nor does another agent of the same subject',
  )
  const anew = await poll(app, anonymous.claim_token)
  t.equal((await exchange(app, anew.json().identity_assertion)).statusCode, 200, 'kept')
})

test('when one of two that wait is revoked, the other waits for its provider, and no link leads nowhere', async (t) => {
  const { claimed, anonymous } = await hijacked('gil')
  const gil = await Person.signedIn(app, 'gil@example.com')
  const { user_id } = await delegation('gil')
  const [own] = await rows(
    'select id from registrations where user_id = $1 and audience is not null',
    user_id,
  )
  await gil.get('/agents')
  const ended = await gil.submit('/agents/revoke', { registration_id: own.id })
  t.equal(ended.statusCode, 303)
  const shown = (await gil.get('/agents')).body
  t.match(shown, `value="${anonymous.registration_id}"`)
  t.notMatch(shown, 'keep or remove it', 'the link to keep is gone')
  t.match(
    shown,
    'It was linked before you first signed in, and can do nothing until its provider asks you',
  )

  const asked = await present(app, P.idJag(someone('gil')))
  isRefused(t, asked, 401, 'interaction_required')
  t.equal((await confirm(gil, asked.json().claim)).statusCode, 303)
  t.notMatch((await gil.get('/agents')).body, 'before you first signed in')
  t.equal((await exchange(app, claimed.identity_assertion)).json().error, 'invalid_grant')
  t.equal((await poll(app, anonymous.claim_token)).statusCode, 200)
})

test('each one waits for its own answer, whatever its name', async (t) => {
  const { user_id } = await hijacked('ed')
  const hostile = `"'><img src=x onerror=alert(1)> &amp; 𝒳 \\ ; drop table users --`
  await pool.query('insert into delegations (issuer, subject, user_id) values ($1, $2, $3)', [
    P.issuer,
    hostile,
    user_id,
  ])
  const ed = await Person.signedIn(app, 'ed@example.com')
  const { body } = await ed.get('/delegations?return_to=https://evil.example')
  t.notMatch(body, '<img')
  const [, second] = forms(body)
  t.match(second, { subject: hostile, return_to: '/' })
  await ed.submit('/delegations', { ...second, decision: 'keep' })
  t.match(await delegation(hostile), { set_aside_at: null })
  t.match(await delegation('ed'), { set_aside_at: Date })
  const { issuer } = P
  const subject = 'ed'
  const strange = [
    { issuer, subject: 'ed\0' },
    { issuer: '\0', subject },
    { issuer, subject: 'x'.repeat(5000) },
    { issuer: `${issuer}' or true --`, subject },
    { issuer, subject: '\ud800' },
    { issuer, subject: '' },
    { issuer },
  ]
  for (const form of strange) {
    const answer = await ed.submit('/delegations', { ...(form as typeof second), decision: 'keep' })
    t.ok([303, 400].includes(answer.statusCode), JSON.stringify(form).slice(0, 80))
  }
  t.match(await delegation('ed'), { set_aside_at: Date })
  t.equal((await ed.get('/delegations')).statusCode, 200)
  const anonymous = await new Person(app, '').get('/delegations')
  t.match(anonymous.headers.location, `${ISSUER}/login`)
})

test('PRF-27: what strangers put into the account before its person came is no agent of theirs, nor its provider', async (t) => {
  await hijacked('zed')
  const zed = await Person.signedIn(app, 'zed@example.com')
  const { claim } = await registerFor(app, zed.email)
  t.match((await zed.openClaim(linkToken(claim))).body, 'This is the first agent for your account.')
  const again = (await present(app, P.idJag(someone('zed')))).json()
  t.match((await zed.openClaim(linkToken(again.claim))).body, 'was never linked to your account.')
})

test('who signed in too long ago decides nothing, and comes back to what waited', async (t) => {
  const { identity_assertion } = await hijacked('fay')
  const fay = await Person.signedIn(app, 'fay@example.com')
  const [form] = forms((await fay.get('/delegations?return_to=/claim')).body)
  await pool.query(`update sessions set created_at = created_at - interval '2 hours'`)
  const { statusCode, headers } = await fay.submit('/delegations', { ...form!, decision: 'keep' })
  t.equal(statusCode, 303)
  t.equal(headers.location, `${ISSUER}/login?return_to=%2Fclaim`)
  const looked = await fay.get('/delegations?return_to=/claim')
  t.equal(looked.headers.location, `${ISSUER}/login?return_to=%2Fclaim`)
  t.match(await delegation('fay'), { set_aside_at: Date })
  t.equal((await exchange(app, identity_assertion)).json().error, 'invalid_grant')
})
