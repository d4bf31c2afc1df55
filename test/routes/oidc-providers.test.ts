/** What providers that people use do in ways of their own, and must work all the same. */
import { t, test } from 'tap'
import { ISSUER, testApp, testReplica, type Sender } from '../fixtures/app.js'
import { testIdentityProvider } from '../fixtures/identity-provider.js'
import { OidcPerson } from '../fixtures/oidc-person.js'

const idp = await testIdentityProvider(t)
const { app, config, pool } = await testApp(t, idp.env)

const alice = (at: Sender = app) => new OidcPerson(at, idp, 'alice')

/** The credentials that the provider gets at its token endpoint, which then refuses. */
async function credentialsOf(env: NodeJS.ProcessEnv): Promise<string> {
  const { app: at } = await testReplica(t, config.DATABASE_URL!, { ...idp.env, ...env })
  let header = ''
  idp.answer = (request, response) => {
    if (request.url !== '/token') return idp.serve(request, response)
    header = request.headers.authorization!
    response
      .writeHead(401, { 'content-type': 'application/json' })
      .end('{"error":"invalid_client"}')
  }
  const person = alice(at)
  const { searchParams } = new URL((await person.get('/login')).headers.location!)
  const back = { code: 'x', state: searchParams.get('state')!, iss: idp.issuer }
  await person.get(`/login/callback?${new URLSearchParams(back)}`)
  idp.answer = idp.serve
  return Buffer.from(header.replace(/^Basic /, ''), 'base64').toString('utf8')
}

test('GitLab: a provider that does not decode credentials knows ours; one that does knows odd ones', async (t) => {
  const OIDC_CLIENT_SECRET = 'gloas-0a1b_2c.3d~4e'
  t.equal(await credentialsOf({ OIDC_CLIENT_SECRET }), `registrar:${OIDC_CLIENT_SECRET}`)
  const odd = { OIDC_CLIENT_ID: 'a:b c', OIDC_CLIENT_SECRET: 'a+b/c=%&é: d' }
  const [id, secret] = Object.values(odd).map((text) =>
    new URLSearchParams({ '': text }).toString().slice(1),
  )
  t.equal(await credentialsOf(odd), `${id}:${secret}`)
})

test('Okta: that the address is verified may be told at the userinfo endpoint alone', async (t) => {
  idp.idToken = (claims) => ({ ...claims, email_verified: undefined })
  const person = alice()
  await person.signIn('/')
  t.match((await person.get('/agents')).body, 'alice@example.com')
  idp.document = (path, body) => (path === '/me' ? { ...body, email_verified: undefined } : body)
  const untold = alice()
  await untold.signIn('/')
  idp.document = (_path, body) => body
  idp.idToken = (claims) => claims
  t.match((await untold.get('/agents')).body, 'an account without an address')
})

test('Google: asked for another account it gets the one prompt that it knows', async (t) => {
  const issuer = 'https://accounts.google.com'
  const metadata = { issuer, authorization_endpoint: `${issuer}/o/oauth2/v2/auth` }
  t.intercept(globalThis, 'fetch', { value: async () => Response.json(metadata) })
  const { app: at } = await testReplica(t, config.DATABASE_URL!, {
    ...idp.env,
    OIDC_ISSUER: issuer,
  })
  const away = await alice(at).get('/login?prompt=select_account')
  const asked = new URL(away.headers.location!).searchParams
  t.equal(asked.get('prompt'), 'select_account')
})

test('Google, Entra ID, Dex: a provider that does not say when it saw the person is asked to look again', async (t) => {
  const person = alice()
  await person.signIn('/')
  await pool.query(`update sessions set created_at = created_at - interval '61 minutes'`)
  idp.idToken = (claims) => ({ ...claims, auth_time: undefined })
  const again = await person.signIn('/agents')
  const asked = new URL(again.headers.location!)
  t.equal(asked.origin, new URL(idp.issuer).origin)
  const words = Object.fromEntries(asked.searchParams)
  t.match(words, { prompt: 'login', max_age: '3600', login_hint: 'alice@example.com' })
  t.match((await person.get('/login?return_to=%2Fagents')).headers.location, idp.issuer, 'not yet')
  const other = new URL((await person.get('/login?prompt=select_account')).headers.location!)
  t.notOk(other.searchParams.has('login_hint'), 'another account is not this one')
  const back = await idp.signIn(asked.href, 'alice', person.there)
  const answer = await person.get(back.slice(ISSUER.length))
  idp.idToken = (claims) => claims
  t.equal(answer.headers.location, `${ISSUER}/agents`)
  t.equal((await person.get('/login?return_to=%2Fagents')).headers.location, `${ISSUER}/agents`)
})

test('Entra ID: its own word for a verified address counts, and nothing less', async (t) => {
  const words: [Record<string, unknown>, RegExp][] = [
    [{ xms_edov: true }, /alice@example.com/],
    [{ xms_edov: '1' }, /alice@example.com/],
    [{ xms_edov: false }, /an account without an address/],
    [{ xms_edov: '0' }, /an account without an address/],
    [{ xms_edov: true, email_verified: false }, /an account without an address/],
    [{}, /an account without an address/],
  ]
  idp.document = (path, body) => (path === '/me' ? { sub: 'alice' } : body)
  for (const [word, expected] of words) {
    idp.idToken = (claims) => ({ ...claims, email_verified: undefined, ...word })
    const person = alice()
    await person.signIn('/')
    t.match((await person.get('/agents')).body, expected, JSON.stringify(word))
  }
  idp.document = (_path, body) => body
  idp.idToken = (claims) => claims
})

test('Cognito: its sign-out, which is not that of OpenID, leads back too', async (t) => {
  const person = alice()
  await person.signIn('/')
  await person.get('/agents')
  await person.submit('/logout', {})
  const { body } = await person.get('/signed-out')
  const url = /content="0; url=([^"]*)"/.exec(body)![1]!.replaceAll('&amp;', '&')
  const asked = new URL(url).searchParams
  t.equal(asked.get('logout_uri'), `${ISSUER}/logout/callback`)
  t.equal(asked.get('client_id'), idp.env.OIDC_CLIENT_ID)
  t.match(await idp.signOut(url, person.there), asked.get('logout_uri'), 'others do not mind')
})

test('WEB-18: RFC 9700 §4.4: a provider cannot lead people to another one, and keep the code', async (t) => {
  const document = idp.document
  t.teardown(() => (idp.document = document))
  // As of Entra ID and others: its answers do not say whose they are.
  idp.document = (path, body) =>
    path.includes('openid')
      ? { ...body, authorization_response_iss_parameter_supported: undefined }
      : body
  const evil = await testIdentityProvider(t)
  const { OIDC_CLIENT_SECRET: client_secret } = idp.env
  const OIDC_PROVIDERS = JSON.stringify(
    [idp, evil].map(({ issuer }) => ({ name: 'P', issuer, client_id: 'registrar', client_secret })),
  )
  const { app: at } = await testReplica(t, config.DATABASE_URL!, { OIDC_PROVIDERS })
  const leave = async (person: OidcPerson, { issuer }: typeof idp) =>
    new URL((await person.get(`/login?provider=${issuer}`)).headers.location!)
  const back = async (person: OidcPerson, url: URL) =>
    (await idp.signIn(url.href, 'alice', person.there)).replace(ISSUER, '').replace(/&iss=.*/, '')
  const [attacker, victim] = [alice(at), alice(at)]
  const forged = await leave(attacker, idp)
  const own = `${ISSUER}/login/callback/${idp.issuer.slice('http://'.length)}`
  t.equal(forged.searchParams.get('redirect_uri'), own)
  forged.searchParams.set('state', (await leave(victim, evil)).searchParams.get('state')!)
  const asked = evil.requests.length
  t.equal((await victim.get(await back(victim, forged))).statusCode, 400)
  t.same(evil.requests.slice(asked), [], 'it never sees the code')
  t.equal((await leave(victim, evil)).searchParams.get('redirect_uri'), `${ISSUER}/login/callback`)
  const answer = await victim.get(await back(victim, await leave(victim, idp)))
  t.match(answer, { statusCode: 303, headers: { location: `${ISSUER}/` } }, 'and the way works')
})
