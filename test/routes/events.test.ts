/** PROTOCOL §10: providers push security events; what they revoke is dead when they are told that it is. */
import { t, test, type Test } from 'tap'
import {
  callApi,
  exchange,
  ISSUER,
  linkToken,
  poll,
  registerAnonymous,
  testApp,
  testReplica,
  type Answer,
} from '../fixtures/app.js'
import {
  claimWith,
  confirm,
  introspector,
  isRefused,
  logOut,
  notify,
  present,
  renew,
  someone,
} from '../fixtures/assertions.js'
import { Person } from '../fixtures/person.js'
import { compact, now, testProvider, type Members, type SignOptions } from '../fixtures/provider.js'
import { REVOKED_EVENT } from '../../src/domain/security-event.js'

const { app, config, pool } = await testApp(t)
const P = await testProvider(t)
const Q = await testProvider(t, { kids: ['q1', 'q2'] })
await P.trust(pool)
await Q.trust(pool)
const introspect = await introspector({ app })
const EVENTS = '/agent/event/notify'
const LEGACY = '/agent/auth/revoke'
const UNKNOWN = 'https://schemas.example/other'

const rows = async (sql: string, ...values: unknown[]) => (await pool.query(sql, values)).rows
const delegation = async (subject: string) =>
  (await rows('select * from delegations where subject = $1', subject))[0]

/** An agent of a person that the provider brought, with an access token. */
async function linked(name: string, from = P) {
  const { identity_assertion, registration_id } = (
    await present(app, from.idJag(someone(name)))
  ).json()
  const { access_token } = (await exchange(app, identity_assertion)).json()
  return { identity_assertion, registration_id, access_token }
}
type Linked = Awaited<ReturnType<typeof linked>>

async function isAlive(t: Test, { identity_assertion, access_token }: Linked, alive: boolean) {
  t.equal((await introspect(access_token)).active, alive)
  t.equal((await callApi(app, access_token)).statusCode, alive ? 200 : 401)
  const { statusCode, body } = await exchange(app, identity_assertion)
  t.equal(statusCode, alive ? 200 : 400)
  if (!alive) t.equal(JSON.parse(body).error, 'invalid_grant')
}

function isAccepted(t: Test, answer: Answer, name = '') {
  t.equal(answer.statusCode, 202, name)
  t.equal(answer.body, '')
  t.match(answer.headers, { 'cache-control': 'no-store', 'content-length': '0' })
}

/** RFC 8935 §2.3 */
function isError(t: Test, answer: Answer, err: string, name = '') {
  t.match(
    answer,
    { statusCode: 400, headers: { 'content-language': 'en', 'cache-control': 'no-store' } },
    name,
  )
  t.match(answer.headers['content-type'], /^application\/json; charset=utf-8/)
  t.same(Object.keys(answer.json()).toSorted(), ['description', 'err'])
  t.equal(answer.json().err, err, name)
}

test('PRF-24, 8935-01, 8935-06: a revoked subject has nothing any more when the provider is answered', async (t) => {
  const alice = await linked('alice')
  const anonymous = await registerAnonymous(app)
  const { identity_assertion } = (
    await claimWith(app, anonymous.claim_token, P.idJag(someone('alice')))
  ).json()
  const claimed = (await poll(app, anonymous.claim_token)).json()
  await isAlive(t, alice, true)
  isAccepted(t, await notify(app, P.securityEvent({ sub: 'alice' })))
  await isAlive(t, alice, false)
  await isAlive(t, { ...alice, identity_assertion, access_token: claimed.access_token }, false)
  t.equal((await poll(app, anonymous.claim_token)).json().error, 'access_denied')
  isRefused(t, await renew(app, anonymous.claim_token), 410, 'claim_expired')
  t.notOk(await delegation('alice'))
  const audits = await rows(
    `select event, registration_id from audit_events where details ->> 'kind' = 'secevent' order by event`,
  )
  t.same(
    audits.map(({ event }) => event),
    ['delegation.removed', 'event.received', 'registration.revoked', 'registration.revoked'],
  )
})

test('PRF-25: authorized again, what was minted before the revocation stays dead', async (t) => {
  const before = await linked('bea')
  await notify(app, P.securityEvent({ sub: 'bea' }))
  const asked = await present(app, P.idJag(someone('bea')))
  isRefused(t, asked, 401, 'interaction_required', 'the person has to say so')
  const bea = await Person.signedIn(app, 'bea@example.com')
  t.equal((await confirm(bea, asked.json().claim)).statusCode, 303)
  const { identity_assertion } = (await present(app, P.idJag(someone('bea')))).json()
  t.equal((await exchange(app, identity_assertion)).statusCode, 200)
  await isAlive(t, before, false)
  isAccepted(t, await notify(app, P.securityEvent({ sub: 'bea' })))
  const told = await rows(
    `select from audit_events where event = 'registration.revoked' and registration_id = $1`,
    before.registration_id,
  )
  t.equal(told.length, 1, 'PRF-36: once, also when its subject is revoked again')
})

test('a step-up that waits is revoked with its subject, and its link is dead', async (t) => {
  const carl = await Person.signedIn(app, 'carl@example.com')
  const { claim, claim_token } = (await present(app, P.idJag(someone('carl')))).json()
  await carl.openClaim(linkToken(claim))
  isAccepted(t, await notify(app, P.securityEvent({ sub: 'carl' })))
  t.equal((await poll(app, claim_token)).json().error, 'access_denied')
  isRefused(t, await renew(app, claim_token), 410, 'claim_expired')
  const form = { claim_attempt_token: linkToken(claim), user_code: claim.user_code }
  t.equal((await carl.submit('/agent/identity/claim/complete', form)).statusCode, 410)
  t.notOk(await delegation('carl'))
})

test('8417-01, 8417-02, 8417-03, 8417-04, 8417-05, 8417-06, 8417-07, 8935-04, B85, B87, B89, B90: claims that are no event', async (t) => {
  const bad = 'invalid_request'
  const dora = await linked('dora')
  const cases: [string, Members, string?, SignOptions?][] = [
    ['no iss', { iss: undefined }, 'invalid_issuer'],
    ['own iss', { iss: ISSUER }, 'invalid_issuer'],
    ['stranger', { iss: 'https://x.example' }, 'invalid_issuer'],
    ['no iat', { iat: undefined }],
    ['iat to come', { iat: now() + 600 }],
    ['no jti', { jti: undefined }],
    ['numeric jti', { jti: 1 }],
    ['NUL in jti', { jti: 'a\0' }],
    ['exp past', { exp: now() - 100 }],
    ['exp words', { exp: 'soon' }],
    ['no aud', { aud: undefined }, 'invalid_audience'],
    ['other aud', { aud: ['https://other.test'] }, 'invalid_audience'],
    ['mixed aud', { aud: [ISSUER, 1] }, 'invalid_audience'],
    ['no sub', { sub: undefined }],
    ['numeric sub', { sub: 7 }],
    ['sub_id only', { sub: undefined, sub_id: { format: 'opaque', id: 'dora' } }],
    ['no events', { events: undefined }],
    ['empty events', { events: {} }],
    ['events list', { events: [REVOKED_EVENT] }],
    ['events words', { events: REVOKED_EVENT }],
    ['event words', { events: { [REVOKED_EVENT]: 'yes' } }],
    ['event null', { events: { [REVOKED_EVENT]: null } }],
    ['event list', { events: { [REVOKED_EVENT]: {}, [UNKNOWN]: [] } }],
    ['typ JWT', {}, bad, { header: { typ: 'JWT' } }],
    ['no typ', {}, bad, { header: { typ: undefined } }],
    ['logout typ', {}, bad, { header: { typ: 'logout+jwt' } }],
    ["Q's key", {}, 'authentication_failed', { key: Q.p1 }],
    ["Q's kid, which is not known yet", {}, 'invalid_key', { header: { kid: 'q1' } }],
    ['alg none', {}, 'authentication_failed', { header: { alg: 'none' } }],
    ['unknown kid', {}, 'invalid_key', { header: { kid: 'p9' } }],
    ['no kid', {}, 'invalid_key', { header: { kid: undefined } }],
    ['numeric kid', {}, 'invalid_key', { header: { kid: 1 } }],
  ]
  for (const [name, claims, err = bad, options] of cases) {
    const token = P.securityEvent({ sub: 'dora', ...claims }, options)
    isError(t, await notify(app, token), err, name)
  }
  t.same(Q.requests, [], 'of another provider nothing is asked')
  await linked('quinn', Q)
  const forged = P.securityEvent({ sub: 'dora' }, { header: { kid: 'q1' } })
  isError(t, await notify(app, forged), 'authentication_failed', "Q's kid")
  const garbage = P.securityEvent({ sub: 'dora' }).replace(/[^.]*$/, 'garbage')
  isError(t, await notify(app, garbage), 'authentication_failed', 'a signature of garbage')
  const lapsed = await testProvider(t)
  lapsed.answer = (_request, response) => response.writeHead(500).end()
  await lapsed.trust(pool)
  const unknown = P.securityEvent({ sub: 'dora' }, { header: { kid: 'p9' } })
  isError(t, await notify(app, unknown), 'invalid_key', 'while another provider is away')
  const away = await notify(app, lapsed.securityEvent())
  t.match(away, { statusCode: 503, headers: { 'retry-after': '5' } }, '8935-09: it will try again')
  isError(t, await notify(app, P.idJag(someone('dora'))), bad, 'B91: an ID-JAG')
  await isAlive(t, dora, true)

  isAccepted(
    t,
    await notify(app, P.securityEvent({ sub: 'dora', events: { [UNKNOWN]: {} } })),
    'unknown',
  )
  await isAlive(t, dora, true)
  const both = { [UNKNOWN]: {}, [REVOKED_EVENT]: { reason: 'left' } }
  const old = { aud: ['https://other.test', ISSUER], iat: now() - 10_000_000, events: both }
  const header = { typ: 'application/SECEVENT+jwt' }
  isAccepted(
    t,
    await notify(app, P.securityEvent({ sub: 'dora', ...old }, { header })),
    '8417-03, 8417-06, 8417-08',
  )
  await isAlive(t, dora, false)
})

test('8935-02, 8935-03, 8935-07, 8935-10, B83: bodies that are no event', async (t) => {
  const set = () => P.securityEvent({ sub: 'nobody' })
  for (const body of [
    '',
    'words',
    '{}',
    `${set()}\n${set()}`,
    `${set()}\n`,
    ` ${set()}`,
    `${set()}==`,
  ])
    isError(t, await notify(app, body), 'invalid_request', body.slice(0, 10))
  isError(
    t,
    await notify(app, compact({ alg: 'ES256' }, Buffer.from([0xff]), P.p1)),
    'invalid_request',
  )
  for (const type of [
    'application/json',
    'text/plain',
    'application/x-www-form-urlencoded',
    'application/jwt',
  ]) {
    const answer = await notify(app, set(), type)
    t.match(answer, { statusCode: 415, headers: { accept: 'application/secevent+jwt' } }, type)
    t.type(answer.json().err, 'string')
  }
  t.equal((await app.inject({ method: 'POST', url: EVENTS })).statusCode, 400, 'nothing at all')
  for (const type of ['Application/SecEvent+JWT', 'application/secevent+jwt; charset=utf-8'])
    isAccepted(t, await notify(app, set(), type), type)
  t.equal((await notify(app, set(), 'application/secevent+jwt; charset=utf-16')).statusCode, 415)
  t.equal((await notify(app, 'a'.repeat(70_000))).statusCode, 413)
  for (const url of [EVENTS, LEGACY]) {
    const get = await app.inject({ url })
    t.match(get, { statusCode: 405, headers: { allow: 'OPTIONS, POST' } })
    t.notOk(get.headers['access-control-allow-origin'])
  }
})

test('C46, 8935-05, 8935-08, 8935-11, C13: the same event again changes nothing; kinds and issuers are apart', async (t) => {
  const jti = 'delivered twice'
  await linked('ed')
  const set = P.securityEvent({ sub: 'ed', jti })
  isAccepted(t, await notify(app, set))
  const ed = await Person.signedIn(app, 'ed@example.com')
  const asked = (await present(app, P.idJag({ ...someone('ed'), jti }))).json()
  await confirm(ed, asked.claim)
  const { access_token, identity_assertion } = (await poll(app, asked.claim_token)).json()
  isAccepted(t, await notify(app, set), 'late')
  isAccepted(
    t,
    await notify(app, P.securityEvent({ sub: 'ed', jti }, { key: P.p2 })),
    'signed anew',
  )
  await isAlive(t, { access_token, identity_assertion, registration_id: '' }, true)
  const received = await rows(
    `select count(*)::int as n from audit_events where event = 'event.received' and details ->> 'jti' = $1`,
    jti,
  )
  t.same(received, [{ n: 1 }])
  isAccepted(
    t,
    await notify(app, Q.securityEvent({ sub: 'ed', jti })),
    'Q knows nobody of that name here',
  )
  await isAlive(t, { access_token, identity_assertion, registration_id: '' }, true)
  const forged = P.securityEvent({ sub: 'ed', jti: 'forged' }, { key: Q.p1 })
  isError(t, await notify(app, forged), 'authentication_failed')
  isAccepted(
    t,
    await notify(app, P.securityEvent({ sub: 'ed', jti: 'forged' })),
    'not spent by that',
  )
  await isAlive(t, { access_token, identity_assertion, registration_id: '' }, false)
})

test('a provider that was stopped cannot speak for anyone, but still take back what it said', async (t) => {
  for (const column of ['disabled_at', 'removed_at']) {
    const R = await testProvider(t, { kids: ['r1', 'r2'] })
    await R.trust(pool)
    const name = `finn-${column.slice(0, 3)}`
    const finn = await linked(name, R)
    const anonymous = await registerAnonymous(app)
    await claimWith(app, anonymous.claim_token, R.idJag(someone(name)))
    const person = await Person.signedIn(app, `${name}-2@example.com`)
    const { claim, claim_token } = (await present(app, R.idJag(someone(`${name}-2`)))).json()
    await pool.query(`update issuers set ${column} = now() where issuer = $1`, [R.issuer])
    isRefused(t, await present(app, R.idJag(someone(name))), 400, 'invalid_issuer')
    t.equal((await exchange(app, finn.identity_assertion)).json().error, 'invalid_grant')
    for (const token of [anonymous.claim_token, claim_token])
      t.equal((await poll(app, token)).json().error, 'access_denied')
    t.equal((await person.openClaim(linkToken(claim))).statusCode, 410)
    t.equal((await introspect(finn.access_token)).active, true, 'until it expires')
    isAccepted(t, await notify(app, R.securityEvent({ sub: name })))
    await isAlive(t, finn, false)
    await R.trust(pool)
    await isAlive(t, finn, false)
    t.equal((await poll(app, claim_token)).json().error, 'authorization_pending', 'back again')
  }
})

test('subjects of a provider with tenants are revoked by tenant', async (t) => {
  const R = await testProvider(t, { kids: ['t1', 't2'] })
  await R.trust(pool, { multi_tenant: true })
  const at = async (tenant: string) => {
    const claims = { sub: 'gil', email: `gil@${tenant}.example`, tenant }
    const { identity_assertion } = (await present(app, R.idJag(claims))).json()
    const { access_token } = (await exchange(app, identity_assertion)).json()
    return { identity_assertion, access_token, registration_id: '' }
  }
  const [a, b] = [await at('a'), await at('b')]
  isError(t, await notify(app, R.securityEvent({ sub: 'gil' })), 'invalid_request')
  isAccepted(t, await notify(app, R.securityEvent({ sub: 'gil', tenant: 'a' })))
  await isAlive(t, a, false)
  await isAlive(t, b, true)
})

test('BCL-01, BCL-02, BCL-03, BCL-04, BCL-05, BCL-06, BCL-07, BCL-08, BCL-09, B91, B92: the v0.2 form has the same effect, and says that it is on its way out', async (t) => {
  const ida = await linked('ida')
  const refused: [string, string][] = [
    ['nonce', P.logoutToken({ sub: 'ida', nonce: 'n' })],
    ['typ of a SET', P.securityEvent({ sub: 'ida' })],
    ['no sub', P.logoutToken({ sub: undefined, sid: 's' })],
    ['no events', P.logoutToken({ sub: 'ida', events: undefined })],
    ['old without exp', P.logoutToken({ sub: 'ida', iat: now() - 300 })],
    ['over', P.logoutToken({ sub: 'ida', exp: now() - 300 })],
    ['no iat', P.logoutToken({ sub: 'ida', iat: undefined })],
    ['stranger', P.logoutToken({ iss: 'https://x.example' })],
    ["Q's key", P.logoutToken({ sub: 'ida' }, { key: Q.p1 })],
    ['unknown key', P.logoutToken({ sub: 'ida' }, { header: { kid: 'p9' } })],
    ['words', 'words'],
    ['nothing', ''],
  ]
  for (const [name, token] of refused) {
    const answer = await logOut(app, token)
    t.match(answer, { statusCode: 400, headers: { 'cache-control': 'no-store' } }, name)
    t.same(Object.keys(answer.json()), ['error', 'error_description'])
    t.equal(answer.json().error, 'invalid_request')
  }
  const oidc = { 'http://schemas.openid.net/event/backchannel-logout': {} }
  t.equal(
    (await logOut(app, P.logoutToken({ sub: 'ida', events: oidc }))).statusCode,
    400,
    'BCL-04',
  )
  const form = `logout_token=${P.logoutToken({ sub: 'ida' })}`
  t.equal((await logOut(app, form, 'application/x-www-form-urlencoded')).statusCode, 415)
  t.equal((await app.inject({ method: 'POST', url: LEGACY })).statusCode, 400)
  await isAlive(t, ida, true)

  const token = P.logoutToken({ sub: 'ida', iat: now() - 300, exp: now() + 60 })
  const answer = await logOut(app, token)
  t.match(answer, {
    statusCode: 200,
    body: '',
    headers: { 'cache-control': 'no-store', deprecation: /^@\d+$/ },
  })
  await isAlive(t, ida, false)
  for (const [method, status] of [
    ['POST', 415],
    ['GET', 405],
  ] as const)
    // prettier-ignore
    t.match(await app.inject({ method, url: '/agent/auth/revoke', payload: 'x' }), {
      statusCode: status,
      headers: { deprecation: /^@\d+$/ },
    })
  t.equal((await logOut(app, token)).statusCode, 200, 'BCL-08: delivered twice')
  t.notOk(await delegation('ida'))
})

test('BCL-09: the v0.2 form can be switched off, and is not advertised then', async (t) => {
  const off = await testReplica(t, config.DATABASE_URL!, { LEGACY_REVOCATION: 'false' })
  t.equal((await logOut(off.app, P.logoutToken())).statusCode, 404)
  const metadata = async (at = app) =>
    (await at.inject('/.well-known/oauth-authorization-server')).json().agent_auth
  t.notOk('revocation_uri' in (await metadata(off.app)))
  t.equal((await metadata()).revocation_uri, `${ISSUER}${LEGACY}`)
  t.same((await metadata()).events_supported, [REVOKED_EVENT])
  isAccepted(t, await notify(off.app, P.securityEvent({ sub: 'nobody' })))
})
