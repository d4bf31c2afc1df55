/** Signing out: here, everywhere, and at the provider (OpenID Connect RP-Initiated Logout 1.0). */
import { t, test } from 'tap'
import { seal } from '../../src/domain/sealing.js'
import { deriveKey, hashSecret } from '../../src/domain/secrets.js'
import {
  ISSUER,
  linkToken,
  registerFor,
  testApp,
  testReplica,
  type Answer,
} from '../fixtures/app.js'
import { testIdentityProvider, verified } from '../fixtures/identity-provider.js'
import { OidcPerson } from '../fixtures/oidc-person.js'
import { Person } from '../fixtures/person.js'

const SIGN_OUT = '__Host-registrar-sign-out'
const idp = await testIdentityProvider(t)
const { app, config, pool } = await testApp(t, idp.env)
const LINK = '/claim?claim_attempt_token=cat_x'
const AGAIN = `/login?${new URLSearchParams({ return_to: LINK, prompt: 'select_account' })}`

const forward = ({ body }: Answer) =>
  /<meta http-equiv="refresh" content="0; url=([^"]*)">/.exec(body)?.[1]?.replaceAll('&amp;', '&')

async function signedIn(account = 'alice', at = app): Promise<OidcPerson> {
  const person = new OidcPerson(at, idp, account)
  await person.signIn('/')
  await person.get('/agents')
  return person
}

test('a sign-out ends the session here, then leads to the provider, and back to where it began', async (t) => {
  const person = await signedIn()
  const session = person.cookies.get('__Host-registrar-session')
  const out = await person.submit('/logout', { return_to: LINK })
  t.match(out, { statusCode: 303, headers: { location: `${ISSUER}/signed-out` } })
  const thief = new OidcPerson(app, idp, 'alice')
  thief.cookies.set('__Host-registrar-session', session!)
  t.equal(
    (await thief.get('/agents')).statusCode,
    303,
    'the session is over before the provider knows',
  )

  const page = await person.get('/signed-out')
  t.equal(page.statusCode, 200)
  const url = new URL(forward(page)!)
  t.equal(url.origin + url.pathname, `${idp.issuer}/session/end`)
  t.match(Object.fromEntries(url.searchParams), {
    client_id: idp.env.OIDC_CLIENT_ID,
    post_logout_redirect_uri: `${ISSUER}/logout/callback`,
    id_token_hint: /^eyJ/,
  })
  t.notMatch(url.href, 'cat_x', 'the link is no business of the provider')
  t.match(page.body, `href="${forward(page)!.replaceAll('&', '&amp;')}"`, 'a link too')

  const back = await idp.signOut(url.href, person.there)
  t.equal(back.split('?')[0], `${ISSUER}/logout/callback`)
  const answer = await person.get(back.slice(ISSUER.length))
  t.match(answer, { statusCode: 303, headers: { location: ISSUER + AGAIN } })
  t.equal((await person.get('/logout/callback')).headers.location, `${ISSUER}/`, 'once')
  t.equal((await person.get('/signed-out')).headers.location, `${ISSUER}/`)
  const away = new URL((await person.get(AGAIN)).headers.location!)
  t.equal(away.searchParams.get('prompt'), 'login', 'the provider asks who it is')
})

test('the wrong account is one button away from the right one, at the same claim', async (t) => {
  const { claim } = await registerFor(app, 'bob@example.com')
  const person = await signedIn('alice')
  const wrong = await person.openClaim(linkToken(claim))
  t.equal(wrong.statusCode, 403)
  const return_to = /name="return_to" value="([^"]*)"/.exec(wrong.body)![1]!
  await person.submit('/logout', { return_to })
  const there = await idp.signOut(forward(await person.get('/signed-out'))!, person.there)
  const next = await person.get(there.slice(ISSUER.length))
  const away = await person.get(next.headers.location!.slice(ISSUER.length))
  const callback = await idp.signIn(away.headers.location!, 'bob', person.there)
  const landed = await person.get(callback.slice(ISSUER.length))
  t.equal(landed.headers.location, `${ISSUER}/claim?claim_attempt_token=${linkToken(claim)}`)
  t.equal((await person.openClaim(linkToken(claim))).statusCode, 200)
})

test('a provider without a sign-out of its own is asked for another account instead', async (t) => {
  const plain = await testIdentityProvider(t, { logout: false })
  const { app: at } = await testReplica(t, config.DATABASE_URL!, plain.env)
  const person = new OidcPerson(at, plain, 'alice')
  await person.signIn('/')
  await person.get('/agents')
  const out = await person.submit('/logout', { return_to: LINK })
  t.equal(out.headers.location, ISSUER + AGAIN)
  for (const [supported, prompt] of [
    [undefined, 'login'],
    [['login', 'none'], 'login'],
    [['login', 'select_account'], 'select_account'],
  ] as const) {
    plain.document = (path, body) =>
      path.includes('openid') ? { ...body, prompt_values_supported: supported } : body
    const { app: fresh } = await testReplica(t, config.DATABASE_URL!, plain.env)
    const away = await new OidcPerson(fresh, plain, '').get(AGAIN)
    t.equal(new URL(away.headers.location!).searchParams.get('prompt'), prompt)
  }
  plain.document = (_path, body) => body
  await person.signIn('/')
  await person.get('/agents')
  t.equal((await person.submit('/logout', {})).headers.location, `${ISSUER}/`)
})

test('a provider that is away does not keep anybody signed in here', async (t) => {
  const { app: at } = await testReplica(t, config.DATABASE_URL!, idp.env)
  const person = await signedIn('alice')
  await idp.shut()
  const elsewhere = person.at(at)
  const out = await elsewhere.submit('/logout', {})
  await idp.open()
  t.match(out, { statusCode: 303, headers: { location: `${ISSUER}/` } })
  t.equal((await person.get('/agents')).statusCode, 303)
})

test('pressed twice, or for a session that ended elsewhere, Sign out leads to the one provider all the same', async (t) => {
  const person = await signedIn('alice')
  const held = new Map(person.cookies)
  for (const times of ['once', 'twice']) {
    // The second press hangs up on the first answer, and on its cookies.
    person.cookies.clear()
    for (const [name, value] of held) person.cookies.set(name, value)
    const out = await person.submit('/logout', {})
    t.match(out, { statusCode: 303, headers: { location: `${ISSUER}/signed-out` } }, times)
  }
  const page = await person.get('/signed-out')
  const back = await idp.signOut(forward(page)!, person.there)
  t.equal((await person.get(back.slice(ISSUER.length))).headers.location, `${ISSUER}/`)
})

test('a session from before providers, or of one that is gone, ends all the same', async (t) => {
  for (const issuer of [null, 'https://gone.example']) {
    const person = await signedIn('bob')
    await pool.query('update sessions set issuer = $1, id_token_sealed = null', [issuer])
    t.equal((await person.submit('/logout', {})).headers.location, `${ISSUER}/`)
  }
  const person = await signedIn('bob')
  await pool.query('update sessions set id_token_sealed = null')
  await person.submit('/logout', {})
  const url = new URL(forward(await person.get('/signed-out'))!)
  t.equal(url.searchParams.get('id_token_hint'), null, 'the client id says whose sign-out it is')
})

test('an id token that no cookie can carry is left out', async (t) => {
  idp.accounts.long = { ...verified('long'), name: 'x' }
  idp.idToken = (claims) => ({ ...claims, groups: 'g'.repeat(3000) })
  const person = await signedIn('long')
  idp.idToken = (claims) => claims
  await person.submit('/logout', { return_to: LINK })
  t.ok(person.cookies.get(SIGN_OUT)!.length < 3500)
  t.match(forward(await person.get('/signed-out')), 'client_id=')
})

test('sign out everywhere ends every session of the person at once, on all replicas, and no other', async (t) => {
  const { app: other } = await testReplica(t, config.DATABASE_URL!, idp.env)
  const [phone, laptop, stranger] = [
    await signedIn('alice'),
    await signedIn('alice', other),
    await signedIn('bob'),
  ]
  const kept = await signedIn('alice')
  await kept.submit('/logout', {})
  t.equal((await laptop.get('/agents')).statusCode, 200, 'a plain sign-out is of one browser')
  await phone.submit('/logout', { all: 'all' })
  t.equal((await laptop.get('/agents')).statusCode, 303)
  t.equal((await stranger.get('/agents')).statusCode, 200)
  const { rows } = await pool.query(
    `select details from audit_events where event = 'session.ended' order by id desc limit 1`,
  )
  t.ok(rows[0].details.sessions >= 2)
  t.equal((await stranger.submit('/logout', { all: 'yes' })).statusCode, 400)
})

test('sign out everywhere with a session that is gone ends nothing, and asks to sign in first', async (t) => {
  const [laptop, phone] = [await signedIn('alice'), await signedIn('alice')]
  const session = hashSecret(laptop.cookies.get('__Host-registrar-session')!)
  await pool.query('delete from sessions where id_hash = $1', [session])
  await laptop.submit('/logout', { all: 'all' })
  t.equal((await phone.get('/agents')).statusCode, 200, 'nobody knows whose')
  const back = await idp.signOut(forward(await laptop.get('/signed-out'))!, laptop.there)
  const next = await laptop.get(back.slice(ISSUER.length))
  t.match(next.headers.location, '/login?return_to=%2Fagents')
})

test('WEB-03: a sign-out wants the page’s token, and leads only to our own pages', async (t) => {
  const person = await signedIn('alice')
  t.equal((await person.post('/logout', {})).statusCode, 403)
  t.equal((await person.submit('/logout', {}, { 'sec-fetch-site': 'cross-site' })).statusCode, 403)
  t.equal((await person.get('/logout')).statusCode, 405)
  t.equal((await person.get('/agents')).statusCode, 200)
  await person.submit('/logout', { return_to: '//evil.example' })
  const there = await idp.signOut(forward(await person.get('/signed-out'))!, person.there)
  t.equal((await person.get(there.slice(ISSUER.length))).headers.location, `${ISSUER}/`)
})

test('the development sign-in signs out in one step', async (t) => {
  const { app: at } = await testReplica(t, config.DATABASE_URL!)
  const person = await Person.signedIn(at, 'dev@example.com')
  await person.get('/')
  t.equal((await person.submit('/logout', { return_to: LINK })).headers.location, ISSUER + LINK)
})

test('a sign-out that was begun too long ago leads nowhere, whatever the browser keeps', async (t) => {
  const person = new Person(app, '')
  const key = deriveKey(config.secrets[0]!, 'cookie')
  const value = { name: 'Example', url: 'https://idp.example/', next: '/' }
  const opened = async (until: number) => {
    const sealed = seal(key, SIGN_OUT, JSON.stringify({ until, value }))
    person.cookies.set(SIGN_OUT, sealed.toString('base64url'))
    return (await person.get('/signed-out')).statusCode
  }
  t.equal(await opened(Date.now() + 60_000), 200)
  t.equal(await opened(Date.now() - 1), 303)
})
