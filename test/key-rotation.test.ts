/** JOSE-09, C26, C27: signing keys come and go while replicas serve, and every replica follows. */
import { setTimeout as sleep } from 'node:timers/promises'
import * as jose from 'jose'
import { test, type Test } from 'tap'
import { retireKey, rotateKeys } from '../src/key-store.js'
import { listSigningKeys } from '../src/repositories/signing-keys.js'
import * as agents from './fixtures/app.js'
import { testDatabase } from './fixtures/database.js'
import { blocked } from './fixtures/replicas.js'
import { testGate } from './fixtures/wire.js'

const JWKS = '/.well-known/jwks.json'
/** The max-age of our JWKS, and a minute for replicas that are slow to see a new key. */
const AHEAD_SECONDS = 360
/** Of an access token, with the skew and the same minute. */
const LIFETIME_SECONDS = 3600 + 60 + 60

type App = agents.TestApp['app']

async function two(t: Test) {
  const { url, pool } = await testDatabase(t)
  const { app: A, config } = await agents.testReplica(t, url)
  const { app: B } = await agents.testReplica(t, url)
  const rotate = (wait = AHEAD_SECONDS) => rotateKeys(A.db, config.secrets, wait)
  const look = () => Promise.all([A, B].map((app) => app.keys.check()))
  /** Moves everything that has happened to keys into the past. */
  const age = (seconds: number) =>
    pool.query(
      `update signing_keys set signs_from = signs_from - make_interval(secs => $1),
         retired_at = retired_at - make_interval(secs => $1)`,
      [seconds],
    )
  const statuses = async () => (await listSigningKeys(A.db)).map(({ kid, status }) => [kid, status])
  return { A, B, url, pool, config, rotate, look, age, statuses }
}

async function issued(app: App, expect?: string): Promise<{ token: string; kid: string }> {
  const { identity_assertion } = await agents.registerAnonymous(app)
  const { access_token } = (await agents.exchange(app, identity_assertion)).json()
  const kid = jose.decodeProtectedHeader(access_token).kid!
  if (expect !== undefined && kid !== expect) throw new Error(`signed with ${kid}`)
  return { token: access_token, kid }
}

async function accepted(t: Test, app: App, { token, kid }: { token: string; kid: string }) {
  t.equal((await agents.callApi(app, token)).statusCode, 200, kid)
}

async function refused(t: Test, app: App, { token, kid }: { token: string; kid: string }) {
  t.equal((await agents.callApi(app, token)).statusCode, 401, kid)
}

async function published(app: App): Promise<{ kids: string[]; etag: string }> {
  const { headers, body } = await app.inject(JWKS)
  const kids = JSON.parse(body).keys.map(({ kid }: { kid: string }) => kid)
  return { kids, etag: headers.etag as string }
}

test('JOSE-09, JOSE-08: a key is published, then signs, then verifies, then is gone', async (t) => {
  const { A, B, rotate, look, age, statuses } = await two(t)
  const first = await issued(A)
  const before = await published(B)
  t.same(before.kids, [first.kid])
  const second = await rotate()
  const [, row] = await listSigningKeys(A.db)
  const ahead = (Number(row!.signs_from) - Number(row!.created_at)) / 1000
  t.ok(Math.abs(ahead - AHEAD_SECONDS) < 5, 'more than the max-age of JWKS')
  t.same(await statuses(), [
    [first.kid, 'signing'],
    [second, 'waiting'],
  ])

  await look()
  for (const app of [A, B]) {
    const { kids, etag } = await published(app)
    t.same(kids, [first.kid, second], 'published before it signs')
    t.not(etag, before.etag)
    const known = (tag: string) => app.inject({ url: JWKS, headers: { 'if-none-match': tag } })
    t.same([(await known(etag)).statusCode, (await known(before.etag)).statusCode], [304, 200])
    await issued(app, first.kid)
  }
  t.equal((await published(A)).etag, (await published(B)).etag)

  await age(AHEAD_SECONDS)
  await look()
  t.same(await statuses(), [
    [first.kid, 'verifying'],
    [second, 'signing'],
  ])
  const old = (await listSigningKeys(A.db))[0]!
  t.equal((Number(old.verifies_until) - Number(old.succeeded_at)) / 1000, LIFETIME_SECONDS)
  for (const app of [A, B]) {
    await issued(app, second)
    await accepted(t, app, first)
    t.same((await published(app)).kids, [first.kid, second], 'kept for what it signed')
  }

  await age(LIFETIME_SECONDS)
  await look()
  t.same(await statuses(), [
    [first.kid, 'expired'],
    [second, 'signing'],
  ])
  for (const app of [A, B]) {
    t.same((await published(app)).kids, [second])
    await refused(t, app, first)
  }
})

test('C27: a replica that has seen nothing signs with the old key, and takes the new one', async (t) => {
  const { A, B, rotate } = await two(t)
  const old = await issued(B)
  const kid = await rotate(0)
  await A.keys.check()
  const young = await issued(A, kid)
  const late = await issued(B, old.kid)
  await accepted(t, A, late)
  t.same((await published(B)).kids, [old.kid], 'it has not looked')
  await accepted(t, B, young)
  t.same((await published(B)).kids, [old.kid, kid])
  await issued(B, kid)
})

test('replicas follow by themselves within seconds, whatever their clocks say', async (t) => {
  const { A, B, rotate } = await two(t)
  await Promise.all([A.ready(), B.ready()])
  const kid = await rotate(0)
  const real = Date.now
  // An hour behind: by its own clock the new key's turn has not come.
  Date.now = () => real() - 3_600_000
  t.teardown(() => (Date.now = real))
  for (const app of [A, B]) while (!(await published(app)).kids.includes(kid)) await sleep(100)
  const signed = await Promise.all([A, B].map((app) => app.keys.sign('at+jwt', {})))
  for (const jwt of signed) t.equal(jose.decodeProtectedHeader(jwt).kid, kid)
})

test('a compromised key dies everywhere; its successor is there first', async (t) => {
  const { A, B, rotate, look, statuses } = await two(t)
  const leaked = await issued(A)
  await t.rejects(retireKey(A.db, leaked.kid), { message: /only one that can sign/ })
  await t.rejects(retireKey(A.db, 'nobody'), { message: /There is no key nobody/ })
  const kid = await rotate(0)
  await retireKey(B.db, leaked.kid)
  await t.rejects(retireKey(A.db, leaked.kid), { message: /There is no key/ }, 'once')
  await t.rejects(retireKey(A.db, kid), { message: /only one that can sign/ })
  await look()
  t.same(await statuses(), [
    [leaked.kid, 'retired'],
    [kid, 'signing'],
  ])
  for (const app of [A, B]) {
    await refused(t, app, leaked)
    t.same((await published(app)).kids, [kid])
    await issued(app, kid)
  }
})

test('a key that waits does not pile up, and its turn falls away with it', async (t) => {
  const { A, pool, rotate, age, look, statuses } = await two(t)
  const { kid: first } = await issued(A)
  const second = await rotate()
  await t.rejects(rotate(), { message: new RegExp(`^The key ${second} waits for its turn`) })
  await retireKey(A.db, second)
  t.same(await statuses(), [
    [first, 'signing'],
    [second, 'retired'],
  ])
  await age(AHEAD_SECONDS)
  await look()
  await issued(A, first)
  t.same((await published(A)).kids, [first])

  const third = await rotate()
  const fourth = await rotate(0)
  t.same(Object.fromEntries(await statuses()), {
    [first]: 'verifying',
    [second]: 'retired',
    [third]: 'retired',
    [fourth]: 'signing',
  })
  const { rows } = await pool.query(
    `select event, details ->> 'kid' as kid from audit_events where event like 'key.%' order by id`,
  )
  t.same(
    rows.map(({ event, kid }) => [event, kid]),
    [
      ['key.created', first],
      ['key.created', second],
      ['key.retired', second],
      ['key.created', third],
      ['key.retired', third],
      ['key.created', fourth],
    ],
  )
})

test('of two operators who rotate at once one is told so; two emergencies end with one key', async (t) => {
  const { A, B, config, rotate, statuses } = await two(t)
  const results = await Promise.allSettled([rotate(), rotateKeys(B.db, config.secrets, 360)])
  t.same(results.map(({ status }) => status).toSorted(), ['fulfilled', 'rejected'])
  await Promise.all([rotate(0), rotateKeys(B.db, config.secrets, 0)])
  const words = (await statuses()).map(([, status]) => status)
  t.same(
    words.toSorted(),
    ['expired', 'retired', 'signing', 'verifying'],
    'who never signed need not verify',
  )
  await A.keys.check()
  await issued(A, (await statuses()).find(([, status]) => status === 'signing')![0])
})

test('C26: a connection that is lost while a key is made leaves none, and the next makes it', async (t) => {
  const { A, pool, rotate } = await two(t)
  const holder = await pool.connect()
  await holder.query('begin')
  await holder.query('lock table audit_events in exclusive mode')
  const lost = t.rejects(rotate(0))
  const [pid] = await blocked(pool)
  await pool.query('select pg_terminate_backend($1)', [pid])
  await lost
  await holder.query('rollback')
  holder.release()
  t.equal((await listSigningKeys(A.db)).length, 1)
  await rotate(0)
  t.equal((await listSigningKeys(A.db)).length, 2)
})

test('unknown keys cause one look in a second, however many tokens name them', async (t) => {
  const { url } = await testDatabase(t)
  const gate = await testGate(t, url)
  const { app } = await agents.testReplica(t, gate.url)
  const { privateKey } = await jose.generateKeyPair('ES256')
  const verify = async (i: number) => {
    const header = { alg: 'ES256', typ: 'at+jwt', kid: `unknown-${i}` }
    const jwt = await new jose.SignJWT({}).setProtectedHeader(header).sign(privateKey)
    return app.keys.verify(jwt, { typ: 'at+jwt', audience: agents.RESOURCE })
  }
  const looks = gate.count('from signing_keys')
  const began = performance.now()
  await Promise.all([app.keys.check(), verify(-1)])
  t.equal(looks(), 2, 'a look that was under way may have come too early')
  for (let i = 0; i < 1000; i += 100) {
    const verdicts = await Promise.all(Array.from({ length: 100 }, (_, n) => verify(i + n)))
    for (const verdict of verdicts) t.match(verdict, { reason: 'unknown_key' })
  }
  const seconds = Math.floor((performance.now() - began) / 1000)
  t.ok(looks() <= seconds + 2, `${looks()} looks in ${seconds} s`)
})

test('without its database a replica keeps its keys; a token under an unknown one must wait', async (t) => {
  const { url } = await testDatabase(t)
  const gate = await testGate(t, url)
  const { app, config } = await agents.testReplica(t, gate.url)
  const other = await agents.testReplica(t, url)
  await app.ready()
  const known = await issued(app)
  await rotateKeys(other.app.db, config.secrets, 0)
  await other.app.keys.check()
  const young = await issued(other.app)
  await gate.shut()
  // Longer than a replica goes without a look.
  await sleep(6_000)
  await t.rejects(app.keys.check(), { code: 'ECONNREFUSED' })
  t.same((await published(app)).kids, [known.kid])
  const expected = { typ: 'at+jwt', audience: agents.RESOURCE }
  t.match(await app.keys.verify(known.token, expected), { ok: true })
  const away = { code: 'ECONNREFUSED' }
  await Promise.all([
    t.rejects(app.keys.check(), away),
    t.rejects(app.keys.verify(young.token, expected), away),
  ])
  t.equal((await agents.callApi(app, young.token)).statusCode, 503, 'no verdict on it')
  await gate.open()
  while ((await agents.callApi(app, young.token)).statusCode !== 200) await sleep(100)
  t.pass('without a restart')
})

test('a key verifies as long as the longest lifetime it ever signed under', async (t) => {
  const { url } = await testDatabase(t)
  const long = await agents.testReplica(t, url, { ASSERTION_TTL_SECONDS: '7200' })
  await agents.testReplica(t, url, { ACCESS_TOKEN_TTL_SECONDS: '60' })
  const lifetime = async () => (await listSigningKeys(long.app.db))[0]!.token_lifetime_seconds
  t.equal(await lifetime(), 7200 + 120)
  await agents.testReplica(t, url, { ACCESS_TOKEN_TTL_SECONDS: '9000', CLOCK_SKEW_SECONDS: '0' })
  t.equal(await lifetime(), 9000 + 60)
})

test('of a database whose clock fell behind, or that has lost its keys, something signs', async (t) => {
  const { A, pool, look, statuses } = await two(t)
  const { kid } = await issued(A)
  await pool.query(`update signing_keys set signs_from = now() + interval '10 minutes'`)
  t.same(await look(), [undefined, undefined])
  await issued(A, kid)
  await pool.query('update signing_keys set retired_at = now()')
  t.same(await look(), [undefined, undefined])
  t.same((await statuses()).map(([, status]) => status).toSorted(), ['retired', 'signing'])
})
