/** What Prometheus reads: counts that fit what happened, labels that nobody outside chooses. */
import { createServer, type AddressInfo } from 'node:net'
import { once } from 'node:events'
import { test } from 'tap'
import { buildApp } from '../../src/app.js'
import { readConfig } from '../../src/config.js'
import {
  exchange,
  linkToken,
  postForm,
  postJson,
  registerAnonymous,
  registerFor,
  SECRET,
  testApp,
  testReplica,
} from '../fixtures/app.js'
import { present } from '../fixtures/assertions.js'
import { testDatabase } from '../fixtures/database.js'
import { testIdentityProvider } from '../fixtures/identity-provider.js'
import { scrape, scrapeUntil } from '../fixtures/metrics.js'
import { Person } from '../fixtures/person.js'
import { testProvider } from '../fixtures/provider.js'
import { faults } from '../fixtures/settings.js'
import { blocked } from '../fixtures/replicas.js'
import { listening, testGate } from '../fixtures/wire.js'

const ON = { METRICS_PORT: '0' }
const ALICE = 'alice@example.com'

test('GET /metrics on a port of its own, and nothing else there', async (t) => {
  const { app } = await testApp(t, ON)
  await app.ready()
  t.equal((await app.inject({ url: '/metrics' })).statusCode, 404, 'not where the public is')
  const answer = await fetch(app.metricsUrl!)
  t.equal(answer.status, 200)
  t.match(answer.headers.get('content-type'), /^text\/plain; version=0\.0\.4/)
  const { origin } = new URL(app.metricsUrl!)
  for (const [method, path] of [
    ['GET', '/'],
    ['GET', '/healthz'],
    ['GET', '/metrics/'],
    ['POST', '/metrics'],
    ['HEAD', '/metrics'],
  ] as const)
    t.equal((await fetch(origin + path, { method })).status, 404, `${method} ${path}`)
  await app.close()
  await t.rejects(fetch(app.metricsUrl!), 'it ends with the app')
})

test('it is off unless asked for, and a port that is taken stops the start', async (t) => {
  const { url } = await testDatabase(t)
  const { app } = await testReplica(t, url)
  await app.ready()
  t.equal(app.metricsUrl, undefined)

  const taken = createServer().listen(0, '127.0.0.1')
  t.teardown(() => taken.close())
  await once(taken, 'listening')
  const { port } = taken.address() as AddressInfo
  const other = await buildApp(
    readConfig({ DATABASE_URL: url, SECRET, LOG_LEVEL: 'silent', METRICS_PORT: String(port) }),
  )
  t.teardown(() => other.close())
  await t.rejects(other.listen({ port: 0 }), { code: 'EADDRINUSE' })

  for (const bad of ['x', '-1', '65536', '1.5'])
    t.match(faults({ METRICS_PORT: bad }), [/^METRICS_PORT: /], bad)
  t.match(faults({ PORT: '9000', METRICS_PORT: '9000' }), [/^METRICS_PORT: must differ from PORT/])
  t.same(faults({ PORT: '0', METRICS_PORT: '0' }), [])
})

test('requests and refusals by surface, outcome and reason; each app has its own', async (t) => {
  const { url } = await testDatabase(t)
  const one = await listening((await testReplica(t, url, ON)).app)
  const { app: two } = await testReplica(t, url, ON)
  const { app } = await testReplica(t, url, ON)
  await two.ready()
  const at = await listening(app)
  const { identity_assertion } = await registerAnonymous(at)
  for (const _ of [1, 2, 3]) await exchange(at, identity_assertion)
  await exchange(at, 'a.b.c')
  await postForm(at, '/oauth2/token', { grant_type: `x"}\nevil{a="b`.repeat(9) })
  await at.inject({ url: '/%zz' })
  await at.inject({ url: `/nowhere/${'x'.repeat(50)}` })
  const seen = await scrape(app)
  const requests = (labels: object) => seen.value('registrar_http_requests_total', { ...labels })
  t.equal(requests({ surface: 'identity', outcome: 'ok', status: '2xx' }), 1)
  t.equal(requests({ surface: 'token', outcome: 'ok', status: '2xx' }), 3)
  t.equal(requests({ surface: 'token', outcome: 'refused', status: '4xx' }), 2)
  t.equal(requests({ surface: 'none', outcome: 'refused' }), 2)
  const refused = (labels: object) => seen.value('registrar_refusals_total', { ...labels })
  t.equal(refused({ error: 'invalid_grant', reason: 'not_compact', surface: 'token' }), 1)
  t.equal(refused({ error: 'unsupported_grant_type', reason: '' }), 1)
  const durations = 'registrar_http_request_duration_seconds'
  t.equal(seen.value(`${durations}_count`, { surface: 'token', outcome: 'ok' }), 3)
  t.equal(seen.value(`${durations}_bucket`, { surface: 'token', outcome: 'ok', le: '+Inf' }), 3)
  t.notMatch(seen.text, /evil|nowhere|%zz/)
  t.equal((await scrape(two)).value('registrar_http_requests_total'), 0, 'another app, none of it')
  t.ok(one)
})

test('a caller that hangs up has no status', async (t) => {
  const { app, pool } = await testApp(t, ON)
  const at = await listening(app)
  const { claim_token } = await registerFor(at, ALICE)
  const lock = await pool.connect()
  await lock.query('begin; lock table registrations in access exclusive mode')
  const leave = new AbortController()
  const { signal } = leave
  const headers = { 'content-type': 'application/json' }
  const url = `${at.url}/agent/identity/claim`
  const body = JSON.stringify({ claim_token })
  const left = fetch(url, { method: 'POST', headers, body, signal }).catch(() => 'left')
  await blocked(pool)
  leave.abort()
  t.equal(await left, 'left')
  const aborted = { surface: 'claim', outcome: 'aborted', status: 'none' }
  await scrapeUntil(app, ({ value }) => value('registrar_http_requests_total', aborted) === 1)
  await lock.query('rollback')
  lock.release()
})

test('what became of registrations is counted by kind, once it is committed', async (t) => {
  const { app, pool } = await testApp(t, ON)
  await app.ready()
  const alice = await Person.signedIn(app, ALICE)
  const confirmed = await registerFor(app, ALICE)
  const wrong = confirmed.claim.user_code === '111111' ? '222222' : '111111'
  for (const _ of [1, 2]) await alice.confirm(linkToken(confirmed.claim), wrong)
  await alice.confirm(linkToken(confirmed.claim), confirmed.claim.user_code)
  await alice.confirm(linkToken(confirmed.claim), confirmed.claim.user_code)
  const declined = await registerFor(app, ALICE)
  await alice.decline(linkToken(declined.claim))
  const anonymous = await registerAnonymous(app)
  const asked = await postJson(app, '/agent/identity/claim', {
    claim_token: anonymous.claim_token,
    login_hint: ALICE,
  })
  const block = asked.json().claim_attempt
  await alice.confirm(linkToken(block), block.user_code)
  await alice.get('/agents')
  await alice.submit('/agents/revoke', { registration_id: confirmed.registration_id })

  const seen = await scrape(app)
  const events = (kind: string) =>
    Object.fromEntries(
      ['created', 'confirmed', 'declined', 'revoked', 'expired'].map((event) => [
        event,
        seen.value('registrar_registration_events_total', { kind, event }),
      ]),
    )
  const none = { created: 0, confirmed: 0, declined: 0, revoked: 0, expired: 0 }
  t.same(events('service_auth'), { ...none, created: 2, confirmed: 1, declined: 1, revoked: 1 })
  t.same(events('anonymous'), { ...none, created: 1, confirmed: 1 })
  t.same(events('identity_assertion'), none)
  t.equal(seen.value('registrar_wrong_codes_total'), 2)

  await pool.query(`create function no() returns trigger language plpgsql as
    $$ begin raise exception 'no' using errcode = '53000'; end $$`)
  await pool.query(`create constraint trigger no after insert on registrations
    deferrable initially deferred for each row execute function no()`)
  t.equal((await postJson(app, '/agent/identity', { type: 'anonymous' })).statusCode, 503)
  const after = await scrape(app)
  const created = { kind: 'anonymous', event: 'created' }
  t.equal(after.value('registrar_registration_events_total', created), 1, 'a commit that failed')
  const unavailable = { surface: 'identity', outcome: 'unavailable', status: '5xx' }
  t.equal(after.value('registrar_http_requests_total', unavailable), 1)
  const away = { error: 'temporarily_unavailable', reason: 'database_away' }
  t.equal(after.value('registrar_refusals_total', away), 1)
})

test('registrations that expire or lose their provider are counted too', async (t) => {
  const { url, pool } = await testDatabase(t)
  await pool.query(
    `insert into registrations (id, registration_type, claim_token_hash, claim_expires_at)
     select 'reg_' || n, 'anonymous', sha256(n::text::bytea), now() - interval '1 second' from generate_series(1, 7) n`,
  )
  const provider = await testProvider(t)
  await provider.trust(pool)
  const { app } = await testReplica(t, url, ON)
  await app.ready()
  t.equal((await present(app, provider.idJag())).statusCode, 200)
  const expired = { kind: 'anonymous', event: 'expired' }
  const seen = await scrapeUntil(
    app,
    ({ value }) => value('registrar_registration_events_total', expired) === 7,
  )
  const created = { kind: 'identity_assertion', event: 'created' }
  t.equal(seen.value('registrar_registration_events_total', created), 1)
  t.equal(seen.value('registrar_provider_calls_total', { purpose: 'jwks', result: 'ok' }), 1)
})

test('the database says how many registrations there are, in a bounded query', async (t) => {
  const { url, pool } = await testDatabase(t)
  await pool.query(
    `insert into registrations (id, registration_type, claim_token_hash, claim_expires_at, revoked_at, expiry_recorded_at)
     select 'reg_' || n, case when n % 3 = 0 then 'service_auth' else 'anonymous' end, sha256(n::text::bytea),
       now() + case when n % 2 = 0 then 1 else -1 end * interval '1 hour',
       case when n <= 10 then now() end, now() from generate_series(1, 1000) n`,
  )
  const { app } = await testReplica(t, url, ON)
  await app.ready()
  const registrations = 'registrar_registrations'
  const few = await scrapeUntil(app, ({ value }) => value(registrations) > 0)
  t.equal(few.value(registrations), 1000)
  t.equal(few.value(registrations, { state: 'revoked' }), 10)
  t.equal(few.value(registrations, { state: 'unclaimed', kind: 'service_auth' }), 165)
  const age = few.value('registrar_signing_key_age_seconds')
  t.ok(age > 0 && age < 300, String(age))

  await pool.query(
    `insert into registrations (id, registration_type, claim_token_hash, claim_expires_at, expiry_recorded_at)
     select 'more_' || n, 'anonymous', sha256(('m' || n)::bytea), now() + interval '1 hour', now() from generate_series(1, 120000) n`,
  )
  const { app: later } = await testReplica(t, url, ON)
  await later.ready()
  const many = await scrapeUntil(later, ({ value }) => value(registrations) > 0)
  const total = many.value(registrations)
  t.ok(total > 90_000 && total < 150_000, `about 121,000: ${total}`)
})

test('metrics are there while the database is not', async (t) => {
  const { url } = await testDatabase(t)
  const gate = await testGate(t, url)
  const { app } = await testReplica(t, gate.url, ON)
  await app.ready()
  await gate.shut()
  await registerAnonymous(app)
  await app.inject({ url: '/readyz' })
  const seen = await scrape(app)
  // The cause of an answer may be an error, whose words are no label.
  const unready = { surface: 'health', error: 'temporarily_unavailable', reason: 'database_away' }
  t.equal(seen.value('registrar_refusals_total', unready), 1)
  const unavailable = { surface: 'identity', outcome: 'unavailable' }
  t.equal(seen.value('registrar_http_requests_total', unavailable), 1)
  const again = await scrape(app)
  t.notMatch(again.text, /^registrar_(registrations|signing_key_age_seconds)\{/m, 'nothing stale')
  t.equal(again.value('registrar_database_connections_max'), 10)
  t.match(again.text, /^nodejs_eventloop_lag_p99_seconds \d/m)
  t.match(again.text, /^registrar_build_info\{version="\d+\.\d+\.\d+"\} 1$/m)
  t.match(again.text, /^process_resident_memory_bytes \d/m)
})

test('connections of the pool, and who waits for one', async (t) => {
  const { app, pool } = await testApp(t, ON)
  await app.ready()
  const registered = await Promise.all(Array.from({ length: 12 }, () => registerAnonymous(app)))
  const lock = await pool.connect()
  await lock.query('begin; lock table registrations in access exclusive mode')
  const renewals = registered.map(({ claim_token }) =>
    postJson(app, '/agent/identity/claim', { claim_token, login_hint: ALICE }),
  )
  const busy = await scrapeUntil(app, ({ value }) => value('registrar_database_waiting') >= 2)
  t.equal(busy.value('registrar_database_connections', { state: 'active' }), 10)
  await lock.query('rollback')
  lock.release()
  await Promise.all(renewals)
  const { value } = await scrape(app)
  t.equal(value('registrar_database_waiting'), 0)
})

test('calls to providers are counted by what came of them', async (t) => {
  const idp = await testIdentityProvider(t)
  const { app, pool } = await testApp(t, { ...ON, ...idp.env })
  await app.ready()
  const calls = async (labels: Record<string, string>) =>
    (await scrape(app)).value('registrar_provider_calls_total', labels)
  t.equal(await calls({}), 0)
  idp.answer = (_request, response) => void response.writeHead(502).end()
  await app.inject({ url: '/login' })
  t.equal(await calls({ purpose: 'oidc', result: 'failed' }), 1)
  idp.answer = idp.serve
  await app.inject({ url: '/login' })
  t.equal(await calls({ purpose: 'oidc', result: 'ok' }), 1)
  const provider = await testProvider(t)
  await provider.trust(pool)
  provider.answer = (_request, response) => void response.destroy()
  t.equal((await present(app, provider.idJag())).statusCode, 503)
  t.equal(await calls({ purpose: 'jwks', result: 'failed' }), 1)
})
