/** What the API learns of the person behind a token: introspection's username and sub_id, and the token's subject. */
import { decodeJwt } from 'jose'
import { t, test } from 'tap'
import { newId } from '../../src/domain/secrets.js'
import {
  exchange,
  linkToken,
  poll,
  postForm,
  postJson,
  registerAnonymous,
  registerFor,
  testApp,
  testReplica,
  type Sender,
} from '../fixtures/app.js'
import { confirm, introspector, present, someone } from '../fixtures/assertions.js'
import { testIdentityProvider, verified } from '../fixtures/identity-provider.js'
import { OidcPerson } from '../fixtures/oidc-person.js'
import { Person } from '../fixtures/person.js'
import { testProvider } from '../fixtures/provider.js'

const IDP = 'https://idp.test'
const OTHER = 'https://other.test/tenant'
const OIDC = { OIDC_ISSUER: IDP, OIDC_CLIENT_ID: 'registrar' }
const BOTH = {
  OIDC_PROVIDERS: JSON.stringify(
    [IDP, OTHER].map((issuer) => ({ name: issuer, issuer, client_id: 'registrar' })),
  ),
}

const { app, pool, config } = await testApp(t)
const P = await testProvider(t)
await P.trust(pool)
const introspect = await introspector({ app })
const replica = async (env: NodeJS.ProcessEnv) =>
  (await testReplica(t, config.DATABASE_URL!, env)).app

/** A person's agent, confirmed at the development sign-in. */
async function claimed(name: string) {
  const email = `${name}@example.com`
  const { claim_token, claim } = await registerFor(app, email)
  await confirm(await Person.signedIn(app, email), claim)
  const { access_token, identity_assertion } = (await poll(app, claim_token)).json()
  const { sub, registration_id } = decodeJwt(access_token)
  const ids = { user_id: sub!, registration_id: registration_id as string }
  return { email, claim_token, access_token, identity_assertion, ...ids }
}

/** An account that the user signed in with, so many minutes ago. */
async function signIn(user_id: string, issuer: string, subject: string, minutes = 0) {
  await pool.query(
    `insert into sign_ins (issuer, subject, user_id, last_seen_at)
     values ($1, $2, $3, now() - make_interval(mins => $4))
     on conflict (issuer, subject) do update set last_seen_at = excluded.last_seen_at`,
    [issuer, subject, user_id, minutes],
  )
}

const account = (iss: string, sub: string) => ({ format: 'iss_sub', iss, sub })

/** What an API is told of the person behind a token. */
async function person(token: string, at: Sender = app) {
  const { active, username, sub_id, ...claims } = await introspect(token, at)
  t.equal(active, true)
  t.equal(claims.sub, decodeJwt(token).sub, 'what introspection says is what the token says')
  return { ...(username && { username }), ...(sub_id && { sub_id }) }
}

const subjectOf = async (at: Sender, assertion: string) => {
  const { access_token } = (await exchange(at, assertion)).json()
  t.equal((await introspect(access_token, at)).sub, decodeJwt(access_token).sub)
  return decodeJwt(access_token).sub
}

test('introspection names the person who confirmed, and the account they sign in with', async (t) => {
  const alice = await claimed('alice')
  const bob = await claimed('bob')
  const told = { username: alice.email, sub_id: account('development', alice.email) }
  t.same(await person(alice.access_token), told)
  t.same(await person(bob.access_token), {
    username: bob.email,
    sub_id: account('development', bob.email),
  })
  const claims = decodeJwt(alice.access_token)
  t.same(
    await introspect(alice.access_token),
    { active: true, token_type: 'Bearer', ...claims, ...told },
    'nothing else is added',
  )
  t.same(
    Object.keys(decodeJwt(alice.access_token)).toSorted(),
    'aud client_id exp generation iat iss jti registration_id scope sub'.split(' '),
    '9068-08: nothing of it is in the token',
  )

  t.test('of an anonymous agent from the confirmation on', async (t) => {
    const { claim_token, identity_assertion } = await registerAnonymous(app)
    const before = (await exchange(app, identity_assertion)).json().access_token
    t.same(await person(before), {})
    const hint = { claim_token, login_hint: alice.email }
    const { claim_attempt } = (await postJson(app, '/agent/identity/claim', hint)).json()
    t.same(await person(before), {}, 'nor for who has been asked')
    const browser = await Person.signedIn(app, alice.email)
    await browser.confirm(linkToken(claim_attempt), claim_attempt.user_code)
    t.same(await introspect(before), { active: false })
    t.same(await person((await poll(app, claim_token)).json().access_token), told)
  })

  t.test('by the account used last, where people can sign in now', async (t) => {
    const [one, both, none] = [
      await replica(OIDC),
      await replica(BOTH),
      await replica({ ...OIDC, SIGN_IN: 'none' }),
    ]
    const { user_id, access_token: token, email: username } = await claimed('carol')
    t.same(await person(token, one), { username }, 'what the development sign-in believed')
    await signIn(user_id, IDP, 'c1', 30)
    await signIn(user_id, OTHER, 'c2', 20)
    await signIn(bob.user_id, IDP, 'b1', 10)
    await signIn(user_id, 'https://former.test', 'c3')
    t.same(await person(token, both), { username, sub_id: account(OTHER, 'c2') })
    t.same(await person(token, one), { username, sub_id: account(IDP, 'c1') })
    t.same(await person(token, none), { username })
    await signIn(user_id, IDP, 'c1', 5)
    t.same(await person(token, both), { username, sub_id: account(IDP, 'c1') })
    await signIn(user_id, OTHER, '"\\\u2028é<>', 1)
    t.same(await person(token, both), { username, sub_id: account(OTHER, '"\\\u2028é<>') })
  })

  t.test('without what is not known', async (t) => {
    await P.trust(pool)
    const provisioned = (await present(app, P.idJag(someone('dave')))).json()
    const token = (await exchange(app, provisioned.identity_assertion)).json().access_token
    t.same(await person(token), { username: 'dave@example.com' }, 'dave has never signed in')

    const phone = { sub: 'erin', phone_number: '+15550100', phone_number_verified: true }
    const erin = (
      await present(app, P.idJag({ ...phone, email: undefined, email_verified: undefined }))
    ).json()
    t.same(await person((await exchange(app, erin.identity_assertion)).json().access_token), {})

    await Person.signedIn(app, 'dave@example.com')
    t.same(await introspect(token), { active: false }, 'dave has to keep the agent first')
    await pool.query('update users set email = null where id = $1', [bob.user_id])
    t.same(await person(bob.access_token), { sub_id: account('development', bob.email) })
  })

  t.test('7662-03: of a token that does not count nothing is said', async (t) => {
    const { access_token, identity_assertion } = await claimed('frank')
    await postForm(app, '/oauth2/revoke', { token: identity_assertion })
    t.same(await introspect(access_token), { active: false })
    const { user_id, access_token: orphan } = await claimed('grace')
    await pool.query('delete from users where id = $1', [user_id])
    t.same(await introspect(orphan), { active: false })
  })
})

test('TOKEN_SUBJECT=sign_in puts the subject of the sign-in into access tokens', async (t) => {
  const development = await replica({ TOKEN_SUBJECT: 'sign_in' })
  const oidc = await replica({ ...OIDC, TOKEN_SUBJECT: 'sign_in' })
  const alone = await replica(OIDC)

  t.test('of the development sign-in, with both grants', async (t) => {
    const { email, claim_token, user_id, identity_assertion } = await claimed('heidi')
    t.equal(await subjectOf(development, identity_assertion), email)
    const { access_token } = (await poll(development, claim_token)).json()
    t.match(decodeJwt(access_token), { sub: email, client_id: /^reg_/ })
    t.equal(await subjectOf(app, identity_assertion), user_id, 'by default our own id')
  })

  t.test('of the provider, once the person has signed in there', async (t) => {
    const { claim_token, user_id, identity_assertion, registration_id } = await claimed('ivan')
    await signIn(user_id, OTHER, 'elsewhere')
    t.equal(await subjectOf(oidc, identity_assertion), user_id)
    await signIn(user_id, IDP, 'auth0|ivan', 10)
    t.equal(await subjectOf(oidc, identity_assertion), 'auth0|ivan')
    const { access_token } = (await poll(oidc, claim_token)).json()
    t.match(decodeJwt(access_token), { sub: 'auth0|ivan', registration_id })
    t.equal(await subjectOf(alone, identity_assertion), user_id, 'by default our own id')

    await signIn(user_id, IDP, 'auth0|ivan-2', 5)
    t.equal(await subjectOf(oidc, identity_assertion), 'auth0|ivan-2', 'the account used last')
    t.same(
      await person(access_token, oidc),
      { username: 'ivan@example.com', sub_id: account(IDP, 'auth0|ivan-2') },
      'a token keeps its subject; sub_id says who it is now',
    )
  })

  t.test('of nobody who is not known there', async (t) => {
    const { registration_id, identity_assertion } = await registerAnonymous(oidc)
    for (const at of [development, oidc])
      t.equal(await subjectOf(at, identity_assertion), registration_id, '9068-03')
    const judy = (await present(oidc, P.idJag(someone('judy')))).json()
    for (const at of [development, oidc])
      t.match(await subjectOf(at, judy.identity_assertion), /^user_/)
  })

  t.test('9700-08: and nobody gets to be another user or registration by it', async (t) => {
    const victim = await claimed('victim')
    const mallory = await claimed('mallory')
    t.equal(await subjectOf(oidc, victim.identity_assertion), victim.user_id)
    for (const subject of [victim.user_id, victim.registration_id, newId('user_')]) {
      await pool.query('delete from sign_ins where issuer = $1', [IDP])
      await signIn(mallory.user_id, IDP, subject)
      const { access_token } = (await exchange(oidc, mallory.identity_assertion)).json()
      t.equal(decodeJwt(access_token).sub, mallory.user_id, subject)
      t.match(await introspect(access_token, oidc), {
        sub: mallory.user_id,
        sub_id: account(IDP, subject),
      })
    }
  })
})

test('with a real provider: whose agent it is at the API, whatever becomes of their address', async (t) => {
  const idp = await testIdentityProvider(t)
  const at = (await testApp(t, { ...idp.env, TOKEN_SUBJECT: 'sign_in' })).app
  const ask = await introspector({ app: at })
  /** Signs in at the provider and confirms an agent that asked for the address. */
  const confirmed = async (subject: string, email: string) => {
    const { claim, claim_token } = await registerFor(at, email)
    const browser = new OidcPerson(at, idp, subject)
    await browser.signIn('/')
    t.equal((await confirm(browser, claim)).statusCode, 303)
    return (await poll(at, claim_token)).json()
  }
  const address = 'alice@example.com'
  const alice = await confirmed('alice', address)
  const sub_id = account(idp.issuer, 'alice')
  t.match(await ask(alice.access_token), { sub: 'alice', username: address, sub_id })

  idp.accounts.heir = verified('alice')
  const heir = await confirmed('heir', address)
  t.match(await ask(heir.access_token), { sub: 'heir', username: address })
  const { access_token } = (await exchange(at, alice.identity_assertion)).json()
  for (const token of [alice.access_token, access_token]) {
    t.match(await ask(token), { sub: 'alice', sub_id }, 'the address went on, the agent did not')
    t.equal((await ask(token)).username, undefined)
  }

  const { registration_id } = await registerAnonymous(at)
  idp.accounts[registration_id] = verified('mallory')
  const mallory = await confirmed(registration_id, 'mallory@example.com')
  t.match(await ask(mallory.access_token), {
    sub: /^user_/,
    sub_id: account(idp.issuer, registration_id),
  })
})
