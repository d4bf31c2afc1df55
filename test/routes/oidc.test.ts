/** People sign in at the deployer's identity provider: a real one, over HTTP. */
import { t, test } from 'tap'
import { unseal } from '../../src/domain/sealing.js'
import { deriveKey } from '../../src/domain/secrets.js'
import {
  callApi,
  exchange,
  ISSUER,
  linkToken,
  poll,
  postForm,
  registerFor,
  testApp,
  testReplica,
} from '../fixtures/app.js'
import { confirm, present } from '../fixtures/assertions.js'
import { testIdentityProvider, verified } from '../fixtures/identity-provider.js'
import { OidcPerson } from '../fixtures/oidc-person.js'
import { testProvider } from '../fixtures/provider.js'

const PENDING = '__Host-registrar-sign-in-'
const SESSION = '__Host-registrar-session'
const idp = await testIdentityProvider(t)
const { app, config, pool } = await testApp(t, idp.env)

const userOf = async (subject: string): Promise<{ id: string; email: string | null } | undefined> =>
  (
    await pool.query(
      'select users.id, users.email from sign_ins join users on users.id = user_id where issuer = $1 and subject = $2',
      [idp.issuer, subject],
    )
  ).rows[0]

test('WEB-18: the way to the provider has code, PKCE, state and nonce, none of them twice', async (t) => {
  const person = new OidcPerson(app, idp, 'alice')
  const answer = await person.get('/login?return_to=/agents')
  t.match(answer, { statusCode: 303, headers: { 'cache-control': 'no-store' } })
  const url = new URL(answer.headers.location!)
  t.equal(url.origin, idp.issuer)
  const asked = Object.fromEntries(url.searchParams)
  t.match(asked, {
    client_id: idp.env.OIDC_CLIENT_ID,
    redirect_uri: `${ISSUER}/login/callback`,
    response_type: 'code',
    code_challenge_method: 'S256',
    scope: 'openid email',
  })
  t.notMatch(asked, { max_age: String, prompt: String, login_hint: String })
  const again = new URL((await person.get('/login')).headers.location!)
  for (const name of ['state', 'nonce', 'code_challenge']) {
    t.match(url.searchParams.get(name), /^[\w-]{43}$/, name)
    t.not(again.searchParams.get(name), url.searchParams.get(name), name)
  }
  const cookie = answer.cookies.find(({ name }) => name.startsWith(PENDING))!
  t.equal(cookie.name, PENDING + asked.state)
  t.match(cookie, { path: '/', secure: true, httpOnly: true, sameSite: 'Lax', maxAge: 600 })
  t.notOk(url.href.includes('agents'), 'where it leads stays here')
  t.equal((await person.post('/login', { email: 'a@example.com' })).statusCode, 405)
})

test('from a form of ours the way to the provider is a page: browsers let forms lead to our own origin only', async (t) => {
  const person = new OidcPerson(app, idp, 'bob')
  const page = await person.get('/login?return_to=/agents', { 'sec-fetch-site': 'same-origin' })
  t.match(page, { statusCode: 200, headers: { 'cache-control': 'no-store' } })
  const url = /http-equiv="refresh" content="0; url=([^"]*)"/.exec(page.body)![1]!
  t.match(page.body, `href="${url}"`, 'and a link')
  const callback = await idp.signIn(url.replaceAll('&amp;', '&'), 'bob', person.there)
  t.equal((await person.get(callback.slice(ISSUER.length))).headers.location, `${ISSUER}/agents`)
  const from = { 'sec-fetch-site': 'cross-site' }
  t.equal((await person.at(app).get('/login', from)).statusCode, 303)
})

test('a sign-in at the provider is an account here, the same each time, and leads on', async (t) => {
  const person = new OidcPerson(app, idp, 'alice')
  const answer = await person.signIn('/agents')
  t.match(answer, { statusCode: 303, headers: { location: `${ISSUER}/agents` } })
  t.match((await person.get('/agents')).body, 'alice@example.com')
  const first = await userOf('alice')
  t.match(first, { id: /^user_/, email: 'alice@example.com' })
  await new OidcPerson(app, idp, 'alice').signIn('/')
  t.same(await userOf('alice'), first)
  const { rows } = await pool.query(
    'select event from audit_events where user_id = $1 order by id',
    [first!.id],
  )
  t.same(
    rows.map(({ event }) => event),
    ['user.created', 'session.started', 'session.started'],
  )
  t.notOk([...person.cookies].some(([name, value]) => name.startsWith(PENDING) && value !== ''))
})

test('the whole ceremony: the agent’s link, the provider, the code, the API, on two replicas', async (t) => {
  const { app: other } = await testReplica(t, config.DATABASE_URL!, idp.env)
  const { claim, claim_token } = await registerFor(app, 'alice@example.com')
  const person = new OidcPerson(app, idp, 'alice')
  const link = new URL(claim.verification_uri)
  const away = await person.get(link.pathname + link.search)
  const callback = new URL(await idp.signIn(away.headers.location!, 'alice', person.there))
  t.notOk(callback.href.includes('cat_'), 'PRF-33: the provider learns nothing of the link')
  const back = await person.at(other).get(callback.pathname + callback.search)
  t.equal(back.headers.location, `${ISSUER}/claim?claim_attempt_token=${linkToken(claim)}`)
  const done = await person.at(other).confirm(linkToken(claim), claim.user_code)
  t.equal(done.statusCode, 303)
  const { access_token, identity_assertion } = (await poll(app, claim_token)).json()
  t.equal((await callApi(other, access_token)).statusCode, 200)
  t.equal((await exchange(other, identity_assertion)).statusCode, 200)
})

test('WEB-19: an address that the provider did not verify matches nothing', async (t) => {
  for (const [subject, email_verified] of Object.entries({
    no: false,
    text: 'true',
    none: undefined,
  })) {
    idp.accounts[subject] = { email: 'victim@example.com', email_verified }
    const person = new OidcPerson(app, idp, subject)
    t.equal((await person.signIn('/')).statusCode, 303)
    t.match(await userOf(subject), { email: null })
    const { claim } = await registerFor(app, 'victim@example.com')
    t.equal((await person.openClaim(linkToken(claim))).statusCode, 403)
    t.match((await person.get('/agents')).body, 'an account without an address')
  }
})

test('the address may come from the userinfo endpoint alone', async (t) => {
  const reticent = await testIdentityProvider(t, { emailOnlyAtUserinfo: true })
  const { app: at } = await testReplica(t, config.DATABASE_URL!, reticent.env)
  reticent.accounts.carol = verified('carol')
  const person = new OidcPerson(at, reticent, 'carol')
  await person.signIn('/')
  t.match((await person.get('/agents')).body, 'carol@example.com')
  t.ok(reticent.requests.includes('/me'))
  reticent.document = (path, body) => (path === '/me' ? { ...body, sub: 'mallory' } : body)
  const lied = await new OidcPerson(at, reticent, 'carol').signIn('/')
  t.match(lied, { statusCode: 400, body: 'could not be verified' }, 'another person’s userinfo')
})

test('IDJ-21: the account is (issuer, subject): who gets an address later gets nothing else', async (t) => {
  idp.accounts.old = verified('shared')
  await new OidcPerson(app, idp, 'old').signIn('/')
  const old = await userOf('old')
  idp.accounts.new = verified('shared')
  const successor = new OidcPerson(app, idp, 'new')
  await successor.signIn('/')
  const young = await userOf('new')
  t.not(young!.id, old!.id)
  t.equal(young!.email, 'shared@example.com', 'the address is whose provider said so last')
  t.equal((await userOf('old'))!.email, null)
  const { claim } = await registerFor(app, 'shared@example.com')
  t.equal((await successor.openClaim(linkToken(claim))).statusCode, 200)
  idp.accounts.old = { ...verified('shared'), email_verified: false }
  const former = new OidcPerson(app, idp, 'old')
  await former.signIn('/')
  t.equal((await former.openClaim(linkToken(claim))).statusCode, 403)
  t.equal((await userOf('new'))!.email, 'shared@example.com', 'an unverified one takes nothing')
})

test('an address that changes at the provider changes here', async (t) => {
  idp.accounts.mover = verified('before')
  await new OidcPerson(app, idp, 'mover').signIn('/')
  idp.accounts.mover = verified('after')
  await new OidcPerson(app, idp, 'mover').signIn('/')
  t.match(await userOf('mover'), { email: 'after@example.com' })
  idp.accounts.mover = {}
  await new OidcPerson(app, idp, 'mover').signIn('/')
  t.match(await userOf('mover'), { email: null })
})

test('an address that only a provider’s word had goes to whoever proves it, and its agents end', async (t) => {
  const P = await testProvider(t)
  await P.trust(pool)
  const jag = () => P.idJag({ sub: 'carl', email: 'carl@example.com' })
  const agent = (await present(app, jag())).json()
  t.equal((await exchange(app, agent.identity_assertion)).statusCode, 200)
  idp.accounts.carl = verified('carl.old')
  await new OidcPerson(app, idp, 'carl').signIn('/')
  idp.accounts.carl = verified('carl')
  const carl = new OidcPerson(app, idp, 'carl')
  await carl.signIn('/')
  t.match(await userOf('carl'), { email: 'carl@example.com' })
  t.equal((await exchange(app, agent.identity_assertion)).statusCode, 400)
  const asked = await present(app, jag())
  t.match(asked, { statusCode: 401 }, 'from now on carl is asked')
  t.equal((await confirm(carl, asked.json().claim)).statusCode, 303)
  t.equal((await present(app, jag())).statusCode, 200)
})

test('a sign-in that is too old to decide on is renewed at the provider, and the claim goes on', async (t) => {
  idp.accounts.dora = verified('dora')
  const person = new OidcPerson(app, idp, 'dora')
  await person.signIn('/')
  const { claim } = await registerFor(app, 'dora@example.com')
  const token = linkToken(claim)
  await person.openClaim(token)
  await pool.query(
    `update sessions set created_at = created_at - interval '61 minutes' where user_id = $1`,
    [(await userOf('dora'))!.id],
  )
  t.equal((await person.get('/agents')).statusCode, 200, 'to look is no decision')
  const submitted = await person.submit('/agent/identity/claim/complete', {
    claim_attempt_token: token,
    user_code: claim.user_code,
  })
  t.match(submitted.headers.location, `${ISSUER}/login?return_to=`, 'the code was not looked at')
  const toLogin = await person.openClaim(token)
  t.match(toLogin.headers.location, `${ISSUER}/login?return_to=`)
  const away = await person.get(toLogin.headers.location!.slice(ISSUER.length))
  const { searchParams } = new URL(away.headers.location!)
  t.equal(searchParams.get('max_age'), '3600')
  t.notOk(searchParams.has('prompt'), 'the provider decides by what it remembers')
  t.equal(searchParams.get('login_hint'), 'dora@example.com')
  idp.ageSignIns(7200)
  const callback = await idp.signIn(away.headers.location!, 'dora', person.there)
  t.equal(
    (await person.get(callback.slice(ISSUER.length))).headers.location,
    ISSUER + claimPath(token),
  )
  t.equal((await person.openClaim(token)).statusCode, 200)
})

test('a provider that ignores max_age is not believed', async (t) => {
  idp.accounts.eve = verified('eve')
  const person = new OidcPerson(app, idp, 'eve')
  await person.signIn('/')
  await pool.query(
    `update sessions set created_at = created_at - interval '2 hours' where user_id = $1`,
    [(await userOf('eve'))!.id],
  )
  const signedInAgo = async (seconds: number) => {
    const auth_time = Math.floor(Date.now() / 1000) - seconds
    idp.idToken = (claims) => ({ ...claims, auth_time })
    const answer = await person.signIn('/agents')
    idp.idToken = (claims) => claims
    return answer
  }
  t.match(await signedInAgo(3670), { statusCode: 400, body: 'could not be verified' })
  t.equal((await signedInAgo(3605)).statusCode, 303, 'clocks differ')
})

test('WEB-09: the session id changes at a sign-in, and the id token is kept sealed', async (t) => {
  const person = new OidcPerson(app, idp, 'bob')
  person.cookies.set(SESSION, 'a'.repeat(43))
  await person.signIn('/')
  const id = person.cookies.get(SESSION)!
  t.not(id, 'a'.repeat(43))
  const { rows } = await pool.query(
    'select id_hash, id_token_sealed from sessions order by created_at desc limit 1',
  )
  const { id_hash, id_token_sealed } = rows[0]
  t.notOk(id_token_sealed.includes('eyJ'))
  const key = deriveKey(config.secrets[0]!, 'id-token')
  t.match(unseal([key], id_hash.toString('hex'), id_token_sealed), /^eyJ/)
})

test('SEC-08: several providers: a choice, and each leads to its own; one that is unknown does not', async (t) => {
  const second = await testIdentityProvider(t)
  const OIDC_PROVIDERS = JSON.stringify(
    [idp, second].map(({ env }, i) => {
      const { OIDC_ISSUER: issuer, OIDC_CLIENT_ID: client_id, OIDC_CLIENT_SECRET } = env
      return { name: ['Acme', 'Umbrella'][i], issuer, client_id, client_secret: OIDC_CLIENT_SECRET }
    }),
  )
  const { app: at } = await testReplica(t, config.DATABASE_URL!, { OIDC_PROVIDERS })
  const person = new OidcPerson(at, second, 'bob')
  const page = await person.get('/login?return_to=%2Fagents')
  t.equal(page.statusCode, 200)
  t.match(page.body, /Continue with .*Acme[\s\S]*Continue with .*Umbrella/)
  const links = [...page.body.matchAll(/href="([^"]*\/login\?[^"]*)"/g)].map(([, href]) =>
    href!.replaceAll('&amp;', '&'),
  )
  t.equal(links.length, 2)
  const away = await person.get(links[1]!.slice(ISSUER.length))
  t.equal(new URL(away.headers.location!).origin, second.issuer)
  const callback = await second.signIn(away.headers.location!, 'bob', person.there)
  t.equal((await person.get(callback.slice(ISSUER.length))).headers.location, `${ISSUER}/agents`)
  const { rows } = await pool.query('select count(*)::int as n from sign_ins where subject = $1', [
    'bob',
  ])
  t.equal(rows[0].n, 2, 'bob of one is not bob of the other')
  for (const provider of ['https://evil.example', '', 'x', '&provider=y', idp.issuer.toUpperCase()])
    t.equal((await new OidcPerson(at, idp, '').get(`/login?provider=${provider}`)).statusCode, 200)
  await pool.query(`update sessions set created_at = created_at - interval '2 hours'`)
  const renewed = await person.get('/login')
  t.equal(
    new URL(renewed.headers.location!).origin,
    second.issuer,
    'an old session: where it came from',
  )
})

test('a public client has no secret, PKCE alone holds it', async (t) => {
  const { OIDC_CLIENT_SECRET: _, ...env } = idp.env
  const { app: at } = await testReplica(t, config.DATABASE_URL!, env)
  const answer = await new OidcPerson(at, idp, 'alice').signIn('/')
  t.match(answer, { statusCode: 500, body: 'not set up right' }, 'this provider wants one')
  const document = idp.document
  idp.answer = (request, response) => {
    if (request.url !== '/token') return idp.serve(request, response)
    t.equal(request.headers.authorization, undefined)
    response.writeHead(400, { 'content-type': 'application/json' }).end('{"error":"invalid_grant"}')
  }
  const refused = await new OidcPerson(at, idp, 'alice').signIn('/')
  idp.answer = idp.serve
  idp.document = document
  t.match(refused, { statusCode: 400, body: 'This sign-in is over' })
})

test('two tabs sign in at once, each leads on to its own page; a ninth clears what piled up', async (t) => {
  const person = new OidcPerson(app, idp, 'alice')
  const tabs = ['/agents', '/claim?claim_attempt_token=cat_x']
  const aways: string[] = []
  for (const tab of tabs)
    aways.push((await person.get(`/login?return_to=${encodeURIComponent(tab)}`)).headers.location!)
  for (const [i, away] of [...aways.entries()].toReversed()) {
    const callback = await idp.signIn(away, 'alice', person.there)
    t.equal((await person.get(callback.slice(ISSUER.length))).headers.location, ISSUER + tabs[i])
  }
  const idle = new OidcPerson(app, idp, 'alice')
  for (let i = 0; i < 9; i += 1) await idle.get('/login')
  t.equal([...idle.cookies].filter(([name, value]) => name.startsWith(PENDING) && value).length, 1)
})

test('of cookies that pile up an answer clears eight, and none that are not ours', async (t) => {
  const names = Array.from({ length: 150 }, (_, i) => PENDING + String(i).padStart(43, '_'))
  const foreign = ['', 'x', 'é', 'a b', 'y'.repeat(42), 'y'.repeat(44)].map((end) => PENDING + end)
  const login = async (cookies: string[]) => {
    const cookie = cookies.map((name) => `${name}=1`).join('; ')
    const answer = await app.inject({ url: '/login', headers: { cookie } })
    t.equal(answer.statusCode, 303)
    return answer.cookies.filter(({ value }) => value === '').map(({ name }) => name)
  }
  t.same(await login([...foreign, ...names.slice(0, 7)]), [])
  t.same(await login([...foreign, ...names]), names.slice(0, 8))
})

test('only form posts sign out; other methods and bodies are refused', async (t) => {
  t.equal((await app.inject({ method: 'DELETE', url: '/logout' })).statusCode, 405)
  t.equal((await postForm(app, '/login/callback', {})).statusCode, 405)
})

function claimPath(token: string): string {
  return `/claim?claim_attempt_token=${token}`
}

test('of many who come at once one asks the provider what it is', async (t) => {
  const { app: fresh } = await testReplica(t, config.DATABASE_URL!, idp.env)
  const asked = idp.requests.length
  const answers = await Promise.all(Array.from({ length: 20 }, () => fresh.inject('/login')))
  t.ok(answers.every(({ statusCode }) => statusCode === 303))
  t.same(idp.requests.slice(asked), ['/.well-known/openid-configuration'])
})
