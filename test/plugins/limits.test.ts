/** Limits on registrations and ceremonies. */
import { setTimeout as sleep } from 'node:timers/promises'
import { t, test } from 'tap'
import type { Limits } from '../../src/domain/limits.js'
import * as agents from '../fixtures/app.js'
import {
  claimWith,
  ID_JAG_TYPE,
  isRefused,
  present,
  renew,
  someone,
} from '../fixtures/assertions.js'
import { testDatabase } from '../fixtures/database.js'
import { age, counts, from, isLimited, only, statuses, tells } from '../fixtures/limits.js'
import { Person } from '../fixtures/person.js'
import { testProvider } from '../fixtures/provider.js'
import { blocked, count } from '../fixtures/replicas.js'
import { testGate } from '../fixtures/wire.js'

const HERE = '192.0.2.1'
const THERE = '192.0.2.2'
const ANONYMOUS = { type: 'anonymous' }
const register = (at: agents.Sender, body: unknown = ANONYMOUS) =>
  agents.postJson(at, '/agent/identity', body)
const hinted = (login_hint: string) => ({ type: 'service_auth', login_hint })

const { url, pool } = await testDatabase(t)
const replica = async (limits: Partial<Limits>, env: NodeJS.ProcessEnv = {}) =>
  (await agents.testReplica(t, url, { ...only(limits), ...env })).app

t.beforeEach(async () => {
  await pool.query('truncate rate_limits, registrations, users cascade')
})

test('HTTP-01, PRF-35: registrations are limited by address and over all, and answers say how', async (t) => {
  const app = await replica({ anonymous_per_ip: 2, anonymous: 3 })
  const [here, there] = [from(app, HERE), from(app, THERE)]
  const first = await register(here)
  t.equal(first.statusCode, 200)
  t.equal(tells(t, first, ['anonymous-ip', 2], 1), 3600)
  tells(t, await register(here), ['anonymous-ip', 2], 0)
  for (let more = 0; more < 3; more += 1) {
    const refused = await register(here)
    isLimited(t, refused, ['anonymous-ip', 2])
    isRefused(t, refused, 429, 'rate_limited')
    t.match(refused.headers['access-control-expose-headers'], 'RateLimit, RateLimit-Policy')
  }
  t.equal((await register(there)).statusCode, 200, 'what was refused here is not missing there')
  isLimited(t, await register(there), ['anonymous', 3])
  t.equal(await count(pool, 'registrations'), 3)

  await age(pool, '59 minutes')
  const waiting = await register(here)
  t.ok(Number(waiting.headers['retry-after']) <= 60, 'less than a minute is left')
  await age(pool, '1 minute')
  t.equal((await register(here)).statusCode, 200, 'and after the hour all are back')
  t.same(await counts(pool), {
    anonymous: 1,
    [`anonymous_per_ip ${HERE}`]: 1,
    [`anonymous_per_ip ${THERE}`]: 2,
  })
})

test('what could not register anything uses nothing up', async (t) => {
  const limits = { anonymous_per_ip: 1, service_auth_per_ip: 1, ceremonies_per_hint: 1 }
  const app = await replica({ ...limits, identity_assertion_per_ip: 1, identity_assertion: 1 })
  const off = await replica(limits, { IDENTITY_TYPES: 'identity_assertion' })
  const P = await testProvider(t)
  const bodies: unknown[] = [{}, { type: 'x' }, hinted(''), hinted('nobody'), []]
  const jag = { type: 'identity_assertion', assertion_type: ID_JAG_TYPE }
  for (const assertion of ['', 'x', P.idJag()]) bodies.push({ ...jag, assertion })
  for (const body of bodies) t.equal((await register(app, body)).statusCode, 400)
  for (const type of [ANONYMOUS, hinted('alice@example.com')])
    t.equal((await register(off, type)).statusCode, 400)
  const broken = { method: 'POST', url: '/agent/identity' } as const
  const json = { 'content-type': 'application/json' }
  t.equal((await app.inject({ ...broken, payload: '{', headers: json })).statusCode, 400)
  t.equal((await agents.postForm(app, '/agent/identity', { type: 'anonymous' })).statusCode, 415)
  t.same(await counts(pool), {})
})

test('with a local issuer nothing is limited until it is asked for', async (t) => {
  const { app } = await agents.testReplica(t, url)
  for (let times = 0; times < 7; times += 1) {
    const answer = await register(app)
    t.equal(answer.statusCode, 200)
    t.notOk(answer.headers.ratelimit)
    t.notOk(answer.headers['ratelimit-policy'])
  }
  t.same(await counts(pool), {})
})

test('C42: a clock that is set back neither freezes a limit nor opens it', async (t) => {
  const app = await replica({ anonymous_per_ip: 1 })
  t.equal((await register(app)).statusCode, 200)
  await age(pool, '-30 seconds')
  const refused = await register(app)
  isLimited(t, refused, ['anonymous-ip', 1])
  await age(pool, '-1 hour')
  const after = await register(app)
  t.equal(after.statusCode, 200)
  tells(t, after, ['anonymous-ip', 1], 0)
  isLimited(t, await register(app), ['anonymous-ip', 1])
})

test('a count that another connection makes at the same moment counts', async (t) => {
  const app = await replica({ anonymous_per_ip: 2 })
  const client = await pool.connect()
  await client.query('begin')
  await client.query(`insert into rate_limits values ('anonymous_per_ip', $1, 2, now())`, [HERE])
  const waiting = register(from(app, HERE))
  await blocked(pool)
  await client.query('commit')
  client.release()
  isLimited(t, await waiting, ['anonymous-ip', 2])
})

test('HTTP-02, HTTP-03, 9700-07: an IPv6 /64 is one caller, and only the proxies that are trusted say who calls', async (t) => {
  const send = (at: agents.Sender, forwarded: string) =>
    at.inject({
      method: 'POST',
      url: '/agent/identity',
      payload: ANONYMOUS,
      headers: {
        'x-forwarded-for': forwarded,
        forwarded: `for=${forwarded}`,
        'x-real-ip': forwarded,
      },
    })
  const answers = async (at: agents.Sender, list: string[]) => {
    await pool.query('truncate rate_limits')
    const told = []
    for (const forwarded of list) told.push((await send(at, forwarded)).statusCode)
    return told
  }
  const bare = from(await replica({ anonymous_per_ip: 1 }), HERE)
  t.same(await answers(bare, ['1.2.3.4', '1.2.3.5', HERE, 'x']), [200, 429, 429, 429])
  t.same(await counts(pool), { [`anonymous_per_ip ${HERE}`]: 1 })

  const one = from(await replica({ anonymous_per_ip: 1 }, { TRUST_PROXY: '1' }), HERE)
  const spoofed = ['1.1.1.1, 9.9.9.9', '2.2.2.2, 9.9.9.9', '9.9.9.9, 8.8.8.8', '::ffff:9.9.9.9']
  t.same(await answers(one, spoofed), [200, 429, 200, 429], 'the last hop counts')
  t.same(
    await answers(one, ['2001:db8::1', '2001:DB8:0:0:ffff::2', '2001:db8:0:1::1', '::1']),
    [200, 429, 200, 200],
  )
  const two = from(await replica({ anonymous_per_ip: 1 }, { TRUST_PROXY: '2' }), HERE)
  const hops = [
    '1.1.1.1, 9.9.9.9, 10.0.0.1',
    '2.2.2.2, 9.9.9.9, 10.0.0.2',
    '9.9.9.9, 8.8.8.8, 10.0.0.1',
  ]
  t.same(await answers(two, hops), [200, 429, 200], 'the hop before the last counts')
  const nets = from(await replica({ anonymous_per_ip: 1 }, { TRUST_PROXY: '192.0.2.0/24' }), HERE)
  t.same(await answers(nets, ['1.1.1.1, 9.9.9.9', '9.9.9.9, 192.0.2.7']), [200, 429])
})

test('a flood of forged ID-JAGs ends before the signature is looked at, and uses up only its own budget', async (t) => {
  const P = await testProvider(t)
  const { p1: forger } = await testProvider(t)
  await P.trust(pool)
  const app = await replica({ identity_assertion_per_ip: 2, identity_assertion: 2 })
  const [here, there] = [from(app, HERE), from(app, THERE)]
  const forged = () => P.idJag({}, { key: forger, header: { kid: 'p1' } })
  const told = [await present(here, forged()), await present(here, forged())]
  for (const answer of told) isRefused(t, answer, 400, 'invalid_signature')
  tells(t, told[1]!, ['identity-assertion-ip', 2], 0)
  const asked = P.requests.length
  isLimited(t, await present(here, forged()), ['identity-assertion-ip', 2])
  const { claim_token } = await agents.registerAnonymous(app)
  isLimited(t, await claimWith(here, claim_token, P.idJag()), ['identity-assertion-ip', 2])
  t.equal(P.requests.length, asked)

  t.equal((await present(there, P.idJag(someone('bob')))).statusCode, 200)
  t.equal((await claimWith(there, claim_token, P.idJag(someone('eve')))).statusCode, 200)
  const unspent = P.idJag(someone('carol'))
  const elsewhere = from(app, '192.0.2.3')
  isLimited(t, await present(elsewhere, unspent), ['identity-assertion', 2])
  await pool.query(`delete from rate_limits where name = 'identity_assertion'`)
  t.equal((await present(elsewhere, unspent)).statusCode, 200, 'and may be presented later')
})

test('CIBA-03, 10027-05: ceremonies are limited for each hinted address, whoever starts them and has it or not', async (t) => {
  const app = await replica({ service_auth_per_ip: 5, ceremonies_per_hint: 2 })
  await Person.signedIn(app, 'alice@example.com')
  const told: string[] = []
  for (const [local, address] of [
    ['alice', HERE],
    ['nobody', THERE],
  ] as const) {
    const at = from(app, address)
    const names = [`${local}@example.com`, ` ${local.toUpperCase()}@Example.COM `]
    for (const name of names) {
      const answer = await register(at, hinted(name))
      t.equal(answer.statusCode, 200)
      t.match(answer.headers['ratelimit-policy'], '"service-auth-ip";q=5', 'its own alone')
    }
    const refused = await register(from(app, '192.0.2.3'), hinted(names[0]!))
    isLimited(t, refused, ['ceremonies-hint', 2])
    told.push(refused.body)
    t.equal((await register(at, hinted(`${local}+x@example.com`))).statusCode, 200)
  }
  t.equal(told[0], told[1], 'CIBA-02')
  t.equal(await count(pool, 'registrations'), 6)
})

test('service_auth registrations are limited by address and over all', async (t) => {
  const app = await replica({ service_auth_per_ip: 1, service_auth: 2, ceremonies_per_hint: 5 })
  const a = hinted('a@example.com')
  t.equal((await register(from(app, HERE), a)).statusCode, 200)
  isLimited(t, await register(from(app, HERE), hinted('b@example.com')), ['service-auth-ip', 1])
  t.equal((await register(from(app, THERE), a)).statusCode, 200)
  isLimited(t, await register(from(app, '192.0.2.3'), a), ['service-auth', 2])
  t.match(await counts(pool), { service_auth: 2, 'ceremonies_per_hint a@example.com': 2 })
})

test('CIBA-03: a renewal counts for the hint it ends up with, given again or not', async (t) => {
  const app = await replica({ ceremonies_per_hint: 2 })
  const { claim, claim_token } = await agents.registerFor(app, 'alice@example.com')
  const renewed = await renew(app, claim_token)
  t.equal(renewed.statusCode, 200)
  isLimited(t, await renew(app, claim_token), ['ceremonies-hint', 2])
  isLimited(t, await renew(app, claim_token, { email: 'alice@example.com' }), [
    'ceremonies-hint',
    2,
  ])
  const alice = await Person.signedIn(app, 'alice@example.com')
  t.equal((await alice.openClaim(agents.linkToken(claim))).statusCode, 404)
  const live = agents.linkToken(renewed.json().claim_attempt)
  t.equal((await alice.openClaim(live)).statusCode, 200, 'a refused renewal ends no link')

  t.equal((await renew(app, claim_token, { login_hint: 'bob@example.com' })).statusCode, 200)
  t.equal((await renew(app, 'clm_x', { login_hint: 'bob@example.com' })).statusCode, 401)
  const key = 'ceremonies_per_hint '
  t.same(await counts(pool), { [`${key}alice@example.com`]: 2, [`${key}bob@example.com`]: 1 })
})

test('10027-05: one registration cannot ask everybody: its ceremonies are limited by address too', async (t) => {
  const P = await testProvider(t)
  await P.trust(pool)
  await Person.signedIn(await replica({}), 'alice@example.com')
  const app = await replica({ claims_per_ip: 2, ceremonies_per_hint: 1 })
  const [here, there] = [from(app, HERE), from(app, THERE)]
  const { claim_token } = await agents.registerAnonymous(app)
  const ask = (at: agents.Sender, name: string) =>
    renew(at, claim_token, { login_hint: `${name}@example.com` })
  tells(t, await ask(here, 'a'), ['claims-ip', 2], 1)
  isLimited(t, await ask(here, 'a'), ['ceremonies-hint', 1])
  t.equal((await renew(here, 'clm_x')).statusCode, 401, 'what is refused is not counted')
  tells(t, await ask(here, 'b'), ['claims-ip', 2], 0)
  isLimited(t, await ask(here, 'c'), ['claims-ip', 2])
  const stepUp = (await present(app, P.idJag(someone('alice')))).json()
  isLimited(t, await renew(here, stepUp.claim_token), ['claims-ip', 2])
  t.equal((await ask(there, 'c')).statusCode, 200, 'its agent is elsewhere by now')
  const names = { 'ceremonies_per_hint a@example.com': 1, [`claims_per_ip ${HERE}`]: 2 }
  t.match(await counts(pool), names)
})

test('a step-up, whose person a provider named, is not in the way of that limit', async (t) => {
  const P = await testProvider(t)
  await P.trust(pool)
  const app = await replica({ ceremonies_per_hint: 1 })
  await Person.signedIn(app, 'alice@example.com')
  const stepUp = await present(app, P.idJag(someone('alice')))
  t.equal(stepUp.json().error, 'interaction_required')
  const { claim_token } = stepUp.json()
  t.same(statuses([await renew(app, claim_token), await renew(app, claim_token)]), [200, 200])
  t.same(await counts(pool), {})
})

test('CIBA-03: a ceremony for an address that a provider vouches for counts for it like any other', async (t) => {
  const P = await testProvider(t)
  await P.trust(pool)
  const env = { IDENTITY_ASSERTION_FIRST_CONTACT: 'confirm' }
  const app = await replica({ ceremonies_per_hint: 2 }, env)
  t.equal((await present(app, P.idJag(someone('zoe')))).json().error, 'interaction_required')
  const { claim_token } = await agents.registerAnonymous(app)
  t.equal((await claimWith(app, claim_token, P.idJag(someone('zoe')))).statusCode, 200)
  const idJag = P.idJag(someone('zoe'))
  isLimited(t, await present(app, idJag), ['ceremonies-hint', 2])
  isLimited(t, await register(app, hinted('zoe@example.com')), ['ceremonies-hint', 2])
  const other = (await agents.registerAnonymous(app)).claim_token
  isLimited(t, await claimWith(app, other, idJag), ['ceremonies-hint', 2])
})

test('C35: a renewal and a presentation that count for one address at once are no deadlock', async (t) => {
  // Whoever waits in a circle is not told so by Postgres, and gives up: 503.
  await pool.query(`alter database ${new URL(url).pathname.slice(1)} set deadlock_timeout = '1min'`)
  const P = await testProvider(t)
  await P.trust(pool)
  const env = { IDENTITY_ASSERTION_FIRST_CONTACT: 'confirm' }
  const app = await replica({ ceremonies_per_hint: 9 }, env)
  const { claim_token } = (await present(app, P.idJag(someone('zoe')))).json()
  const holder = await pool.connect()
  await holder.query('begin')
  await holder.query('select from rate_limits for update')
  const presenting = present(app, P.idJag(someone('zoe')))
  await blocked(pool)
  const renewing = renew(app, claim_token)
  await blocked(pool, 2)
  await holder.query('commit')
  holder.release()
  t.equal((await presenting).json().error, 'interaction_required')
  t.equal((await renewing).json().error, 'invalid_claim_token', 'it has a new one')
})

test('C32: while counts cannot be had registrations go on, and codes and sign-ins do not', async (t) => {
  const app = await replica({
    anonymous_per_ip: 1,
    service_auth_per_ip: 1,
    ceremonies_per_hint: 1,
    sign_in_per_ip: 1,
  })
  const person = new Person(app, 'alice@example.com')
  await person.get('/login')
  const client = await pool.connect()
  await client.query('begin; lock table rate_limits in access exclusive mode')
  const [open, hint, signIn] = await Promise.all([
    Promise.all([register(app), register(app)]),
    register(app, hinted('alice@example.com')),
    person.submit('/login', { email: person.email }),
  ])
  await client.query('rollback')
  client.release()
  for (const answer of open) t.match(answer, { statusCode: 200, headers: { ratelimit: undefined } })
  for (const answer of [hint, signIn])
    t.match(answer, { statusCode: 503, headers: { 'retry-after': /^\d+$/ } })
  t.equal(await count(pool, 'users'), 0)

  await pool.query('alter table rate_limits rename to elsewhere')
  t.equal((await register(app)).statusCode, 500, 'a fault of ours is not taken for an absence')
  await pool.query('alter table elsewhere rename to rate_limits')
})

test('C31: a connection that breaks while it counts lets a registration pass, without waiting twice', async (t) => {
  const gate = await testGate(t, url)
  const limits = only({ anonymous_per_ip: 1, anonymous: 1 })
  const { app } = await agents.testReplica(t, gate.url, limits)
  gate.breakAt('insert into rate_limits', 'before')
  t.equal((await register(app)).statusCode, 200)
  t.same(await counts(pool), {})
  t.equal((await register(app)).statusCode, 200)
  await gate.shut()
  t.equal((await register(app)).statusCode, 503)
  await gate.open()
  isLimited(t, await register(app), ['anonymous-ip', 1])
})

test('counts whose hour is over are removed', async (t) => {
  const app = await replica({ anonymous_per_ip: 5 })
  await register(app)
  await age(pool, '61 minutes')
  await register(from(app, THERE))
  const sweeping = await replica({})
  await sweeping.ready()
  while ((await count(pool, 'rate_limits')) > 1) await sleep(20)
  t.same(await counts(pool), { [`anonymous_per_ip ${THERE}`]: 1 })
})
