/** Limits on whoever guesses: secrets of resource servers, sign-ins, claim tokens, links. */
import { t, test } from 'tap'
import { insertResourceServer } from '../../src/repositories/resource-servers.js'
import { hashSecret } from '../../src/domain/secrets.js'
import type { Limits } from '../../src/domain/limits.js'
import * as agents from '../fixtures/app.js'
import { renew } from '../fixtures/assertions.js'
import { testDatabase } from '../fixtures/database.js'
import { testIdentityProvider } from '../fixtures/identity-provider.js'
import { age, counts, from, isLimited, only, statuses, tells } from '../fixtures/limits.js'
import { OidcPerson } from '../fixtures/oidc-person.js'
import { Person } from '../fixtures/person.js'

const HERE = '192.0.2.1'
const THERE = '192.0.2.2'
const COMPLETE = '/agent/identity/claim/complete'

const { url, pool } = await testDatabase(t)
const replica = async (limits: Partial<Limits>, env: NodeJS.ProcessEnv = {}) =>
  (await agents.testReplica(t, url, { ...only(limits), ...env })).app

t.beforeEach(async () => {
  await pool.query('truncate rate_limits')
})

/** The page that says so. */
const LIMITED = {
  statusCode: 429,
  headers: {
    'content-type': /^text\/html/,
    'cache-control': 'no-store',
    'retry-after': /^\d+$/,
    'ratelimit-policy': /^"[a-z-]+";q=\d+;w=3600$/,
    ratelimit: /^"[a-z-]+";r=0;t=\d+$/,
  },
  body: /<h1>Too many tries<\/h1>[^]*Try again in 1 hour\./,
}

test('B80, 7662-05: wrong secrets end in 429 before the secret is looked at, for that address only', async (t) => {
  const app = await replica({ introspection_failures_per_ip: 60 })
  await insertResourceServer(app.db, { id: 'rs', name: 'rs', secret_hash: hashSecret('right') })
  const ask = (at: agents.Sender, credentials?: string) =>
    agents.postForm(
      at,
      '/oauth2/introspect',
      { token: 'x' },
      credentials === undefined
        ? {}
        : { authorization: `Basic ${Buffer.from(credentials).toString('base64')}` },
    )
  const [here, there] = [from(app, HERE), from(app, THERE)]
  for (let times = 0; times < 3; times += 1) {
    const good = await ask(here, 'rs:right')
    t.same([good.statusCode, good.json()], [200, { active: false }])
    tells(t, good, ['introspection-failures-ip', 60], 60)
    t.equal((await ask(here)).statusCode, 401, 'no secret is no guess')
  }
  t.same(await counts(pool), {})
  const told = []
  for (let guess = 0; guess < 100; guess += 1)
    told.push(await ask(here, guess % 2 ? `rs:guess-${guess}` : `nobody-${guess}:right`))
  t.same(statuses(told), [...Array(60).fill(401), ...Array(40).fill(429)])
  tells(t, told[0]!, ['introspection-failures-ip', 60], 59)
  t.match(told[59]!.headers, { 'www-authenticate': /^Basic / })
  isLimited(t, told[60]!, ['introspection-failures-ip', 60])
  const refused = await ask(here, 'rs:right')
  isLimited(t, refused, ['introspection-failures-ip', 60])
  t.same(Object.keys(refused.json()), ['error', 'error_description'])
  t.equal((await ask(there, 'rs:right')).statusCode, 200)
  await age(pool, '1 hour')
  t.equal((await ask(here, 'rs:right')).statusCode, 200)
})

test('tries at the development sign-in are limited by address; foreign forms are none', async (t) => {
  const app = await replica({ sign_in_per_ip: 2 })
  const alice = new Person(app, 'alice@example.com')
  await alice.get('/login')
  const foreign = { 'sec-fetch-site': 'cross-site' }
  t.equal((await alice.submit('/login', { email: 'a@b.example' }, foreign)).statusCode, 403)
  t.equal((await alice.post('/login', { email: 'a@b.example' })).statusCode, 403, 'no CSRF token')
  t.equal((await alice.submit('/login', { email: 'nobody' })).statusCode, 400)
  t.equal((await alice.submit('/login', { email: alice.email })).statusCode, 303)
  const bob = new Person(app, 'bob@example.com')
  await bob.get('/login')
  t.match(await bob.submit('/login', { email: bob.email }), LIMITED)
  t.equal((await bob.get('/agents')).statusCode, 303, 'not signed in')
  t.equal((await alice.get('/agents')).statusCode, 200, 'who is signed in stays so')
})

test('sign-ins that fail on the way back from a provider are limited by address', async (t) => {
  const idp = await testIdentityProvider(t)
  const app = await replica({ sign_in_per_ip: 2 }, idp.env)
  const callback = async (person: OidcPerson) => {
    const away = await person.get('/login?return_to=%2Fagents')
    const back = await idp.signIn(away.headers.location!, person.account, person.there)
    return back.slice(agents.ISSUER.length)
  }
  const spoiled = async () => {
    const person = new OidcPerson(app, idp, 'alice')
    const back = await callback(person)
    return person.get(back.replace(/([?&]code=)[^&]*/, '$1x'))
  }
  for (let times = 0; times < 3; times += 1) {
    const stranger = await app.inject('/login/callback?state=x&code=x')
    t.equal(stranger.statusCode, 400, 'what asks nothing of the provider is no try')
    const cancelled = new OidcPerson(app, idp, 'alice')
    t.equal((await cancelled.signIn('/agents')).statusCode, 303, 'and what succeeds is none')
  }
  const late = new OidcPerson(app, idp, 'alice')
  const back = await callback(late)
  t.same(statuses([await spoiled(), await spoiled()]), [400, 400])
  t.same(await counts(pool), { 'sign_in_per_ip 127.0.0.1': 2 })
  t.match(await late.get(back), LIMITED)
  await pool.query('truncate rate_limits')
  t.equal((await late.get(back)).statusCode, 303, 'the answer was not used up')
})

test('a provider that is away is nobody’s failed sign-in', async (t) => {
  const idp = await testIdentityProvider(t)
  const app = await replica({ sign_in_per_ip: 1 }, idp.env)
  const person = new OidcPerson(app, idp, 'alice')
  const away = await person.get('/login')
  const back = await idp.signIn(away.headers.location!, 'alice', person.there)
  await idp.shut()
  for (let times = 0; times < 2; times += 1)
    t.equal((await person.get(back.slice(agents.ISSUER.length))).statusCode, 503)
  t.same(await counts(pool), {})
})

test('8628-08: unknown claim tokens are limited by address, wherever they are tried; known ones go on', async (t) => {
  const app = await replica({ unknown_claim_tokens_per_ip: 3 })
  const { claim_token } = await agents.registerFor(app, 'alice@example.com')
  const withJag = { type: 'identity_assertion', assertion: 'x' }
  const told = [
    await renew(app, 'clm_a', { login_hint: 'alice@example.com' }),
    await renew(app, 'clm_b', withJag),
    await agents.poll(app, 'clm_c'),
  ]
  t.same(statuses(told), [401, 401, 400])
  t.equal(told[2]!.json().error, 'expired_token')
  tells(t, told[2]!, ['unknown-claim-tokens-ip', 3], 0)
  for (const answer of [
    await renew(app, 'clm_d', { login_hint: 'alice@example.com' }),
    await renew(app, 'clm_e', withJag),
  ]) {
    isLimited(t, answer, ['unknown-claim-tokens-ip', 3])
    t.equal(answer.json().message, answer.json().error_description)
  }
  const polled = await agents.poll(app, 'clm_f')
  isLimited(t, polled, ['unknown-claim-tokens-ip', 3])
  t.notOk(polled.json().message)
  t.equal((await agents.poll(app, claim_token)).json().error, 'authorization_pending')
  t.equal((await renew(app, claim_token)).statusCode, 200)
  t.equal((await agents.poll(from(app, THERE), 'clm_g')).statusCode, 400)
})

test('8628-08: unknown links are limited by address; known ones, and who is not signed in, are not', async (t) => {
  const app = await replica({ unknown_links_per_ip: 2 })
  const alice = await Person.signedIn(app, 'alice@example.com')
  const { claim } = await agents.registerFor(app, alice.email)
  const link = agents.linkToken(claim)
  const stranger = new Person(app, '')
  for (let times = 0; times < 3; times += 1)
    t.equal((await stranger.openClaim('cat_x')).statusCode, 303)
  t.equal((await alice.openClaim(link)).statusCode, 200)
  t.equal((await alice.openClaim('cat_a')).statusCode, 404)
  const form = { claim_attempt_token: 'cat_b', user_code: '000000' }
  t.equal((await alice.submit(COMPLETE, form)).statusCode, 404)
  t.match(await alice.openClaim('cat_c'), LIMITED)
  t.match(await alice.submit(COMPLETE, form), LIMITED)
  t.equal((await alice.openClaim(link)).statusCode, 200)
  t.equal((await alice.confirm(link, claim.user_code)).statusCode, 303)
})
