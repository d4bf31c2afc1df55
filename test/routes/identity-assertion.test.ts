/** PROTOCOL §5: an agent registers with its provider's assertion, and who it stands for is found. */
import { t, test, type Test } from 'tap'
import {
  exchange,
  linkToken,
  poll,
  postJson,
  RESOURCE,
  testApp,
  testReplica,
} from '../fixtures/app.js'
import {
  claimsOf,
  confirm,
  ID_JAG_TYPE,
  isRefused,
  notify,
  present,
  someone,
} from '../fixtures/assertions.js'
import { Person } from '../fixtures/person.js'
import {
  compact,
  idJagClaims,
  now,
  testProvider,
  type Members,
  type SignOptions,
} from '../fixtures/provider.js'

const { app, config, pool } = await testApp(t)
const P = await testProvider(t)
const Q = await testProvider(t, { kids: ['q1', 'q2'] })
await P.trust(pool)
await Q.trust(pool, { name: 'Quiet Agents' })

const rows = async (sql: string, ...values: unknown[]) => (await pool.query(sql, values)).rows
const usersOf = (email: string) => rows('select * from users where email = $1', email)
const delegations = (subject: string) =>
  rows('select issuer, user_id from delegations where subject = $1 order by issuer', subject)

/** An account that its person signs in to. */
async function account(name: string): Promise<{ person: Person; id: string }> {
  const person = await Person.signedIn(app, `${name}@example.com`)
  const [user] = await usersOf(person.email)
  return { person, id: user.id }
}

/** Presented and refused: the table of a test. */
async function refusals(t: Test, cases: [string, Members, number, string, SignOptions?][]) {
  for (const [name, claims, status, error, options] of cases)
    isRefused(t, await present(app, P.idJag(claims, options)), status, error, name)
}

test('PRF-08: a stranger becomes a user with what the provider verified, and nothing else', async (t) => {
  const anna = { ...someone('anna'), phone_number: '+15550001', name: 'Dr. Evil' }
  const answer = await present(app, P.idJag(anna))
  t.equal(answer.statusCode, 200)
  t.equal(answer.headers['cache-control'], 'no-store')
  t.equal(answer.headers['access-control-allow-origin'], '*')
  const { registration_id, identity_assertion, assertion_expires, ...more } = answer.json()
  t.same(more, { registration_type: 'identity_assertion', scopes: ['api.read', 'api.write'] })
  t.match(claimsOf(identity_assertion), {
    sub: registration_id,
    email: 'anna@example.com',
    email_verified: true,
    exp: Date.parse(assertion_expires) / 1000,
  })
  const [user] = await usersOf('anna@example.com')
  t.equal(user.phone_number, null, 'the number beside it was not verified')
  const { access_token, scope } = (await exchange(app, identity_assertion)).json()
  t.equal(scope, 'api.read api.write')
  t.equal(claimsOf(access_token).sub, user.id)
  const events = await rows(
    'select event from audit_events where registration_id = $1 or user_id = $2 order by event',
    registration_id,
    user.id,
  )
  t.same(
    events.map(({ event }) => event),
    [
      'assertion.issued',
      'delegation.confirmed',
      'registration.created',
      'token.issued',
      'user.created',
    ],
  )

  const again = await present(app, P.idJag({ ...anna, email: 'anna@new.example' }))
  t.equal(again.json().registration_id, registration_id, 'one for issuer, subject and audience')
  t.same(await usersOf('anna@new.example'), [], 'IDJ-21: the address at the provider is its own')
  t.match(await usersOf('anna@example.com'), [{ id: user.id }])
  t.equal((await exchange(app, identity_assertion)).statusCode, 200, 'the first one still works')
  const elsewhere = await present(app, P.idJag({ ...anna, aud: [RESOURCE] }))
  t.equal(elsewhere.statusCode, 200)
  t.not(elsewhere.json().registration_id, registration_id, 'another audience is another')
})

test('PRF-09, PRF-12: an address that has an account is a step-up, which changes nothing yet', async (t) => {
  const { id } = await account('alice')
  const answer = await present(app, P.idJag(someone('alice')))
  isRefused(t, answer, 401, 'interaction_required')
  t.equal(answer.headers['www-authenticate'], 'AgentAuth error="interaction_required"')
  t.match(answer.headers['access-control-expose-headers'], /WWW-Authenticate/)
  const { error: _, message: __, error_description: ___, ...body } = answer.json()
  t.same(Object.keys(body).toSorted(), [
    'claim',
    'claim_token',
    'claim_token_expires',
    'claim_url',
    'post_claim_scopes',
    'registration_id',
    'registration_type',
  ])
  t.match(body, {
    registration_type: 'identity_assertion',
    claim_url: `${config.ISSUER}/agent/identity/claim`,
    claim: { user_code: /^\d{6}$/, expires_in: 600, interval: 5 },
  })
  t.equal((await poll(app, body.claim_token)).json().error, 'authorization_pending')
  t.match(await usersOf('alice@example.com'), [{ id }])
  t.same(await delegations('alice'), [])
})

test('PRF-13: the person confirms once; after that the same subject is a clean match', async (t) => {
  const { person, id } = await account('carol')
  const asked = (await present(app, P.idJag(someone('carol')))).json()
  t.equal((await confirm(person, asked.claim)).statusCode, 303)
  const fetched = (await poll(app, asked.claim_token)).json()
  t.equal(claimsOf(fetched.access_token).sub, id)
  t.equal(claimsOf(fetched.identity_assertion).email, 'carol@example.com')
  const clean = await present(app, P.idJag({ ...someone('carol'), email: 'other@example.com' }))
  t.match(clean.json(), { registration_id: asked.registration_id, claim: undefined })
  t.equal((await exchange(app, fetched.identity_assertion)).statusCode, 200)
  t.same(await delegations('carol'), [{ issuer: P.issuer, user_id: id }])

  const reassigned = await present(app, P.idJag({ ...someone('carol'), sub: 'carol-2' }))
  isRefused(t, reassigned, 401, 'interaction_required', 'IDJ-21: her address, another subject')
  const elsewhere = await present(app, Q.idJag(someone('carol')))
  isRefused(t, elsewhere, 401, 'interaction_required', 'another provider, the same subject')
})

test('PRF-10, B31: who did not sign in there lately has to, known or not', async (t) => {
  t.equal((await present(app, P.idJag(someone('dora')))).statusCode, 200)
  const times = [undefined, 'now', null, now() + 3600, 0, -1, now() - 3665, String(now())]
  for (const auth_time of times)
    for (const sub of ['dora', 'nobody yet']) {
      const answer = await present(app, P.idJag({ ...someone('dora'), sub, auth_time }))
      isRefused(t, answer, 401, 'login_required', `auth_time ${auth_time}`)
      t.equal(
        answer.headers['www-authenticate'],
        'AgentAuth error="login_required", max_age="3600"',
      )
      t.equal(answer.json().max_age, 3600)
      t.notOk(answer.json().claim_token)
    }
  const header = { alg: 'ES256', kid: 'p1', typ: 'oauth-id-jag+jwt' }
  const claims = JSON.stringify({ ...idJagClaims(P.issuer), ...someone('dora'), auth_time: 'when' })
  const infinite = compact(header, claims.replace('"when"', '1e400'), P.p1)
  isRefused(t, await present(app, infinite), 401, 'login_required', 'auth_time 1e400')
  const old = await present(app, P.idJag({ ...someone('dora'), auth_time: now() - 3650 }))
  t.equal(old.statusCode, 200, 'within the skew')
})

test('PRF-11, B30, IDJ-18, IDJ-19: only what is verified, by the JSON value true, counts', async (t) => {
  const none = 'missing_verified_email'
  const unverified = { email: 'eve@example.com', email_verified: false }
  await refusals(t, [
    ['not said', { email_verified: undefined }, 400, none],
    ['the string true', { email_verified: 'true' }, 400, none],
    ['1', { email_verified: 1 }, 400, none],
    ['the string false', { email_verified: 'false' }, 400, none],
    ['no address', { email: undefined }, 400, none],
    ['a list', { email: ['alice@example.com'] }, 400, none],
    ['no address but words', { email: 'alice' }, 400, none],
    ['no number', { ...unverified, phone_number_verified: true }, 400, none],
    [
      'no real number',
      { ...unverified, phone_number_verified: true, phone_number: '1' },
      400,
      none,
    ],
    ['unverified number', { ...unverified, phone_number: '+15550002' }, 400, none],
  ])
  t.same(await usersOf('eve@example.com'), [])
})

test('CIMD-08, B24, B26, B32, B34, B35: claims that do not fit are refused by name, and never a 500', async (t) => {
  const { identity_assertion } = (await present(app, P.idJag(someone('finn')))).json()
  const { access_token } = (await exchange(app, identity_assertion)).json()
  const [bad, client] = ['invalid_request', 'invalid_client_id']
  await refusals(t, [
    ['nbf to come', { nbf: now() + 600 }, 400, bad],
    ['no iat', { iat: undefined }, 400, bad],
    ['iat to come', { iat: now() + 600, exp: now() + 900 }, 400, bad],
    ['iat long ago', { iat: now() - 3600, exp: now() - 3000 }, 400, 'expired'],
    ['long life', { exp: now() + 3600 }, 400, bad],
    ['over', { iat: now() - 400, exp: now() - 100 }, 400, 'expired'],
    ['two audiences', { aud: [config.ISSUER, 'https://other.test'] }, 400, 'invalid_audience'],
    ['issuer with a slash', { aud: `${config.ISSUER}/` }, 400, 'invalid_audience'],
    ...[undefined, '', 42, 'j'.repeat(10_000), 'a\0b', '\ud800'].map(
      (jti): [string, Members, number, string] => ['jti', { jti }, 400, bad],
    ),
    ...[undefined, '', 42, 's'.repeat(256), 'a\0b', '\ud800', ['alice']].map(
      (sub): [string, Members, number, string] => ['sub', { sub }, 400, bad],
    ),
    ['no client', { client_id: undefined }, 400, client],
    ['client inside', { client_id: 'http://127.0.0.1/' }, 400, client],
    ["another's client", { client_id: Q.issuer }, 400, client],
    ['other resource', { resource: 'https://other.test/' }, 400, bad],
    ['no resource', { resource: [] }, 400, bad],
    ['scope list', { scope: ['a'] }, 400, bad],
    ['details', { authorization_details: {} }, 400, bad],
    ['some details', { authorization_details: [{ type: 'x' }] }, 400, bad],
    ['bound to a key', { cnf: { jkt: 'x' } }, 400, bad],
    ['typ JWT', {}, 400, bad, { header: { typ: 'JWT' } }],
    ['no typ', {}, 400, bad, { header: { typ: undefined } }],
    ['our own issuer', { iss: config.ISSUER }, 400, 'invalid_issuer'],
    ["Q's key", {}, 400, 'invalid_signature', { key: Q.p1 }],
  ])
  for (const [name, token, error] of [
    ['our assertion', identity_assertion, 'invalid_issuer'],
    ['an access token', access_token, 'invalid_issuer'],
    ['a security event', P.securityEvent(), bad],
    ['words', 'words', bad],
  ])
    isRefused(t, await present(app, token), 400, error, name)
  for (const typ of ['application/oauth-id-jag+jwt', 'OAuth-ID-JAG+JWT'])
    t.equal(
      (await present(app, P.idJag(someone('finn'), { header: { typ } }))).statusCode,
      200,
      typ,
    )
  const hostile = `o'brien"; drop table users; -- ${'ñ'.repeat(200)}`
  const answer = await present(app, P.idJag({ sub: hostile, email: 'hostile@example.com' }))
  t.equal(answer.statusCode, 200)
  t.equal((await delegations(hostile)).length, 1)
})

test('B15: what is not an assertion at all', async (t) => {
  for (const assertion of ['', {}, [P.idJag()], undefined, 1])
    isRefused(t, await present(app, assertion), 400, 'invalid_request')
  const type = 'identity_assertion'
  for (const assertion_type of [undefined, 'urn:ietf:params:oauth:token-type:jwt']) {
    const body = { type, assertion_type, assertion: P.idJag() }
    isRefused(t, await postJson(app, '/agent/identity', body), 400, 'invalid_request')
  }
  isRefused(t, await present(app, 'a'.repeat(1_000_000)), 413, 'invalid_request')
  const off = await testReplica(t, config.DATABASE_URL!, { IDENTITY_TYPES: 'anonymous' })
  isRefused(t, await present(off.app, P.idJag()), 400, 'identity_assertion_not_enabled')
  const body = { type, assertion_type: ID_JAG_TYPE, assertion: P.idJag(), claim_token: 'clm_' }
  const claim = await postJson(off.app, '/agent/identity/claim', body)
  isRefused(t, claim, 400, 'identity_assertion_not_enabled')
})

test('IDJ-16, B27, C13: an assertion counts once for its issuer and kind, whatever came of it', async (t) => {
  const jti = 'spent once'
  const assertion = P.idJag({ ...someone('gus'), jti })
  t.equal((await present(app, assertion)).statusCode, 200)
  isRefused(t, await present(app, assertion), 400, 'replay_detected')
  const resigned = P.idJag({ ...someone('gus'), jti }, { key: P.p2 })
  isRefused(t, await present(app, resigned), 400, 'replay_detected', 'signed anew')
  t.equal((await present(app, Q.idJag({ ...someone('gus-q'), jti }))).statusCode, 200, 'from Q')
  t.equal((await notify(app, P.securityEvent({ sub: 'nobody', jti }))).statusCode, 202)

  const login = { ...someone('gus'), jti: 'refused', auth_time: 0 }
  isRefused(t, await present(app, P.idJag(login)), 401, 'login_required')
  const better = P.idJag({ ...login, auth_time: now() })
  isRefused(t, await present(app, better), 400, 'replay_detected', 'refusals spend it too')
  const forged = P.idJag({ ...someone('gus'), jti: 'forged' }, { key: Q.p1 })
  isRefused(t, await present(app, forged), 400, 'invalid_signature')
  t.equal((await present(app, P.idJag({ ...someone('gus'), jti: 'forged' }))).statusCode, 200)
  const [spent] = await rows(
    'select * from spent_assertions where jti = $1 and kind = $2',
    jti,
    'id-jag',
  )
  t.ok(spent.expires_at.getTime() / 1000 > now() + 300 + config.CLOCK_SKEW_SECONDS)
})

test('IDJ-20: a number that has an account is a step-up for that account, which may have no address', async (t) => {
  const phone = { phone_number: '+1 (555) 123-4567', phone_number_verified: true }
  const unverified = { email: 'mallory@example.com', email_verified: false }
  const made = await present(app, P.idJag({ sub: 'pia', ...unverified, ...phone }))
  t.equal(made.statusCode, 200)
  t.notOk(claimsOf(made.json().identity_assertion).email, 'nobody verified that')
  const [{ id }] = await rows('select id from users where phone_number = $1', '+15551234567')
  t.same(await usersOf('mallory@example.com'), [])

  await pool.query(`insert into sign_ins values ('development', 'pia@example.com', $1)`, [id])
  const answer = await present(app, Q.idJag({ sub: 'pia', ...unverified, ...phone }))
  isRefused(t, answer, 401, 'interaction_required')
  const { claim, claim_token } = answer.json()
  await rows('update users set email = $1 where id = $2', 'leak@corp.test', id)
  const { person: mallory } = await account('mallory')
  const foreign = await confirm(mallory, claim)
  t.equal(foreign.statusCode, 403)
  t.notMatch(foreign.body, /@(?!example\.com<\/bdi>)|name="user_code"/, 'no address to leak')
  const pia = await Person.signedIn(app, 'pia@example.com')
  t.equal((await confirm(pia, claim)).statusCode, 303)
  const done = await pia.openClaim(linkToken(claim))
  t.equal(done.statusCode, 200)
  t.notMatch(done.body, /null|undefined/, 'an account without an address has words too')
  t.equal(claimsOf((await poll(app, claim_token)).json().access_token).sub, id)
})

test('a number of somebody who can never confirm goes to the next who has it', async (t) => {
  const phone = { email: undefined, phone_number: '+15550100', phone_number_verified: true }
  t.equal((await present(app, P.idJag({ sub: 'pim', ...phone }))).statusCode, 200)
  t.equal((await present(app, Q.idJag({ sub: 'pim', ...phone }))).statusCode, 200)
  const [before, after] = await delegations('pim')
  t.not(before.user_id, after.user_id, "nothing of the one is the other's")
})

test('the address decides when address and number have different accounts', async (t) => {
  const phone = { phone_number: '+15550007', phone_number_verified: true }
  const hugo = await present(app, P.idJag({ ...someone('hugo'), ...phone }))
  t.equal(hugo.statusCode, 200)
  const { person, id } = await account('ida')
  const both = await present(app, P.idJag({ ...someone('ida'), ...phone }))
  isRefused(t, both, 401, 'interaction_required')
  t.equal((await confirm(person, both.json().claim)).statusCode, 303)
  t.same(await delegations('ida'), [{ issuer: P.issuer, user_id: id }])
  const [user] = await usersOf('ida@example.com')
  t.equal(user.phone_number, null, 'the number stays where it was')
})

test('IDJ-22, IDJ-23: a provider speaks only for its domains; no two subjects are taken for one', async (t) => {
  const R = await testProvider(t, { kids: ['r1', 'r2'] })
  await R.trust(pool, {
    email_domains: ['corp.example'],
    required_amr: ['mfa'],
    multi_tenant: true,
  })
  const jo = { sub: 'jo', tenant: 'a', email: 'jo@corp.example', amr: ['pwd', 'mfa'] }
  isRefused(
    t,
    await present(app, R.idJag({ ...jo, email: 'jo@example.com' })),
    400,
    'missing_verified_email',
  )
  isRefused(t, await present(app, R.idJag({ ...jo, amr: ['pwd'] })), 401, 'login_required')
  isRefused(t, await present(app, R.idJag({ ...jo, amr: 'mfa' })), 401, 'login_required')
  isRefused(t, await present(app, R.idJag({ ...jo, tenant: undefined })), 400, 'invalid_request')
  const first = await present(app, R.idJag(jo))
  t.equal(first.statusCode, 200)
  const split = { ...jo, tenant: 'a","jo', sub: 'x', email: 'kim@corp.example' }
  const tenants = [{ ...jo, tenant: 'b', email: 'lea@corp.example' }, split]
  for (const claims of tenants) {
    const answer = await present(app, R.idJag(claims))
    t.equal(answer.statusCode, 200)
    t.not(answer.json().registration_id, first.json().registration_id)
  }
})

test('first contact is what the operator says: made, confirmed by the person, or refused', async (t) => {
  const at = async (IDENTITY_ASSERTION_FIRST_CONTACT: string) =>
    (await testReplica(t, config.DATABASE_URL!, { IDENTITY_ASSERTION_FIRST_CONTACT })).app
  const [confirming, refusing] = [await at('confirm'), await at('refuse')]
  isRefused(t, await present(refusing, P.idJag(someone('max'))), 403, 'access_denied')
  t.same(await usersOf('max@example.com'), [])
  const phone = { email: undefined, phone_number: '+15550009', phone_number_verified: true }
  const mute = await present(confirming, P.idJag({ sub: 'max', ...phone }))
  isRefused(t, mute, 400, 'missing_verified_email', 'nobody could sign in with a number')
  const asked = await present(confirming, P.idJag(someone('max')))
  isRefused(t, asked, 401, 'interaction_required')
  t.same(await usersOf('max@example.com'), [], 'the account is made by the sign-in')
  const { person: bob } = await account('bob')
  const foreign = await confirm(bob, asked.json().claim)
  t.equal(foreign.statusCode, 403)
  t.match(foreign.body, /m•••@e•••\.com/)
  const max = await Person.signedIn(app, 'max@example.com')
  t.equal((await confirm(max, asked.json().claim)).statusCode, 303)
  for (const replica of [confirming, refusing])
    t.equal((await present(replica, P.idJag(someone('max')))).statusCode, 200, 'known by now')
})

test('a provider narrows what its agent may have, each time anew', async (t) => {
  const nora = someone('nora')
  const narrow = (await present(app, P.idJag({ ...nora, scope: 'api.read openid' }))).json()
  t.same(narrow.scopes, ['api.read'])
  t.equal((await exchange(app, narrow.identity_assertion)).json().scope, 'api.read')
  const wider = await exchange(app, narrow.identity_assertion, { scope: 'api.write' })
  t.equal(wider.json().error, 'invalid_scope')
  isRefused(t, await present(app, P.idJag({ ...nora, scope: 'admin' })), 400, 'invalid_request')
  const wide = (await present(app, P.idJag({ ...nora, resource: RESOURCE }))).json()
  t.same(wide.scopes, ['api.read', 'api.write'])

  const { person } = await account('otto')
  const asked = (await present(app, P.idJag({ ...someone('otto'), scope: 'api.write' }))).json()
  t.same(asked.post_claim_scopes, ['api.write'])
  const page = await person.get(
    new URL(asked.claim.verification_uri).searchParams.get('return_to')!,
  )
  t.match(page.body, /Change your data/)
  t.notMatch(page.body, /Read your data/)
  await confirm(person, asked.claim)
  t.equal((await poll(app, asked.claim_token)).json().scope, 'api.write')
})
