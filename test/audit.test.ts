/** The audit trail, what is in no table and no log, and whose address a request has. */
import { setTimeout as sleep } from 'node:timers/promises'
import type pg from 'pg'
import { test } from 'tap'
import { hashSecret } from '../src/domain/secrets.js'
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
  type Answer,
  type Sender,
  type TestApp,
} from './fixtures/app.js'
import { testCollector } from './fixtures/collector.js'
import { testDatabase } from './fixtures/database.js'
import { Person } from './fixtures/person.js'
import { startServer } from './fixtures/process.js'
import { over } from './fixtures/wire.js'

const ALICE = 'alice@example.com'

test('PRF-36: each change is told once, with who and from where', async (t) => {
  const { app, pool } = await testApp(t)
  const alice = await Person.signedIn(app, ALICE)
  const [{ id: alicesId }] = (await pool.query('select id from users')).rows
  const { registration_id, claim_token, identity_assertion } = await registerAnonymous(app)
  const trail = async () => {
    const { rows } = await pool.query(
      `select event, user_id, host(address) as address, details from audit_events where registration_id = $1 order by id`,
      [registration_id],
    )
    return rows
  }
  let told = 0
  /** What was told since the last look. */
  const news = async () => {
    const rows = await trail()
    const fresh = rows.slice(told)
    told = rows.length
    for (const { address } of fresh) t.equal(address, '127.0.0.1')
    return fresh.map(({ event }) => event)
  }

  t.same(await news(), ['registration.created', 'assertion.issued'])
  t.same((await trail())[0].details, { registration_type: 'anonymous' })

  const { access_token } = (await exchange(app, identity_assertion)).json()
  t.same(await news(), ['token.issued'])
  t.match((await trail()).at(-1).details, { scope: 'api.read', jti: String })

  await exchange(app, `${identity_assertion}=`)
  await exchange(app, identity_assertion, { scope: 'admin' })
  await exchange(app, identity_assertion, { resource: 'https://other.test' })
  t.same(await news(), [], 'refusals change nothing')

  for (const _ of [1, 2]) await postForm(app, '/oauth2/revoke', { token: access_token })
  t.same(await news(), ['token.revoked'])

  const { claim_attempt: block } = (
    await postJson(app, '/agent/identity/claim', { claim_token, login_hint: ALICE })
  ).json()
  t.same(await news(), ['claim.requested', 'user_code.minted'])
  await postJson(app, '/agent/identity/claim', { claim_token, login_hint: 'nobody' })
  await poll(app, claim_token)
  t.same(await news(), [])

  for (const _ of [1, 2]) await alice.confirm(linkToken(block), block.user_code)
  t.same(await news(), ['claim.confirmed'])
  t.equal((await trail()).at(-1).user_id, alicesId)

  const claimed = (await poll(app, claim_token)).json()
  t.same(await news(), ['assertion.issued', 'token.issued'])
  await postForm(app, '/oauth2/revoke', { token: identity_assertion })
  t.same(await news(), [], 'an assertion from before the claim is dead already')
  for (const _ of [1, 2])
    await postForm(app, '/oauth2/revoke', { token: claimed.identity_assertion })
  t.same(await news(), ['assertion.revoked'])
})

test('PRF-36, C49: an expiry is told once, whoever looks', async (t) => {
  const { url, pool } = await testDatabase(t)
  await pool.query(
    `insert into registrations (id, registration_type, claim_token_hash, claim_expires_at)
     select 'reg_' || n, 'anonymous', sha256(n::text::bytea), now() - interval '1 second' from generate_series(1, 700) n`,
  )
  await pool.query(
    `insert into poll_states select id, now(), 5, false from registrations where id in ('reg_1', 'reg_2', 'reg_3')`,
  )
  await pool.query(`update registrations set revoked_at = now() where id = 'reg_1'`)
  await pool.query(
    `update registrations set claim_expires_at = now() + interval '1 hour' where id = 'reg_2'`,
  )
  const replicas = await Promise.all([testReplica(t, url), testReplica(t, url)])
  await Promise.all(replicas.map(({ app }) => app.ready()))
  const told = async () =>
    (
      await pool.query(
        `select registration_id, event from audit_events where event <> 'key.created'`,
      )
    ).rows
  while ((await told()).length < 698) await sleep(20)
  await Promise.all(replicas.map(({ app }) => app.close()))
  const rows = await told()
  t.equal(rows.length, 698)
  t.equal(new Set(rows.map(({ registration_id }) => registration_id)).size, 698)
  t.ok(rows.every(({ event }) => event === 'registration.expired'))
  const waits = await pool.query('select registration_id as id from poll_states order by 1')
  t.same(waits.rows, [{ id: 'reg_1' }, { id: 'reg_2' }], 'who waited for it waits no more')
})

test('PRF-33, SEC-04: no secret is in a table or in the log', async (t) => {
  const { url: DATABASE_URL, pool } = await testDatabase(t)
  const collector = await testCollector(t)
  const server = await startServer(t, {
    DATABASE_URL,
    LOG_LEVEL: 'trace',
    METRICS_PORT: '0',
    OTEL_EXPORTER_OTLP_ENDPOINT: collector.endpoint,
  })
  const app = over(server.url)
  const secrets = await everythingThatMints(app, pool)
  const [, metricsUrl] = /Metrics are at (http\S+\/metrics)/.exec(server.said.stdout)!
  const metrics = await (await fetch(metricsUrl!)).text()
  server.child.kill('SIGTERM')
  const { stdout, stderr } = await server.ended
  const traces = collector.bodies.join()
  const log = stdout + stderr
  const places: Record<string, string> = { log, metrics, traces, ...(await dump(pool)) }

  t.match(places.log, /"url":"\/claim"/)
  t.match(places.registrations, /reg_/)
  t.match(places.audit_events, /claim\.confirmed/)
  t.match(places.log, /"msg":"request failed"/)
  // Nor in the metrics and the traces of the same requests.
  t.match(metrics, /^registrar_refusals_total\{/m)
  t.match(traces, /POST \/oauth2\/revoke/)
  // Six digits may be part of any time: their name must not be there.
  for (const text of [places.log, places.audit_events]) t.notMatch(text, /user_code["=]/)
  for (const [what, secret] of Object.entries(secrets)) {
    t.ok(secret.length >= 32, what)
    const { body, forms } = spellings(secret)
    for (const [place, text] of Object.entries(places))
      for (const form of [body, ...forms]) t.notOk(text.includes(form), `${what} in ${place}`)
  }
})

test('HTTP-03: the address of a request', async (t) => {
  const { url, pool } = await testDatabase(t)
  const seen = async (
    { app }: Pick<TestApp, 'app'>,
    forwarded: string,
    remoteAddress = '10.0.0.9',
  ) => {
    const answer: Answer = await app.inject({
      method: 'POST',
      url: '/agent/identity',
      headers: { 'x-forwarded-for': forwarded },
      payload: { type: 'service_auth', login_hint: 'alice@example.com' },
      remoteAddress,
    })
    const { rows } = await pool.query(
      `select distinct host(address) as address from audit_events where registration_id = $1
       union select host(created_from) from registrations where id = $1
       union select host(requested_from) from claim_attempts where registration_id = $1`,
      [answer.json().registration_id],
    )
    return rows.map(({ address }) => address).join()
  }
  const behind = (proxies: string) => testReplica(t, url, { TRUST_PROXY: proxies })

  const CLIENT = '203.0.113.7'
  const cases: [proxies: string, forwarded: string, from: string, seen: string][] = [
    ['', CLIENT, '198.51.100.1', '198.51.100.1'],
    ['0', CLIENT, '198.51.100.1', '198.51.100.1'],
    ['1', `1.2.3.4, ${CLIENT}`, '10.0.0.9', CLIENT],
    ['2', `1.2.3.4, ${CLIENT}, 10.0.0.8`, '10.0.0.9', CLIENT],
    ['10.0.0.0/8', `1.2.3.4, ${CLIENT}, 10.0.0.8`, '10.0.0.9', CLIENT],
    ['10.0.0.0/8', CLIENT, '198.51.100.1', '198.51.100.1'],
    ['10.0.0.0/8,192.0.2.1', `1.2.3.4, ${CLIENT}, 192.0.2.1`, '::ffff:10.0.0.9', CLIENT],
    ['1', `${CLIENT}:4711`, '10.0.0.9', CLIENT],
    ['1', '2001:db8::7', '10.0.0.9', '2001:db8::7'],
    ['1', '[2001:db8::7]', '10.0.0.9', '2001:db8::7'],
    ['1', '[2001:db8::7]:4711', '10.0.0.9', '2001:db8::7'],
    ['1', 'fe80::7%eth0', '10.0.0.9', 'fe80::7'],
    ['1', `::ffff:${CLIENT}`, '10.0.0.9', CLIENT],
    ['', '', 'fe80::7%eth0', 'fe80::7'],
    ['', '', `::ffff:${CLIENT}`, CLIENT],
    // Not an address at all: the proxy that says so is what is known.
    ['1', 'unknown', '10.0.0.9', '10.0.0.9'],
    ['1', '', '10.0.0.9', '10.0.0.9'],
    ['2', "'; drop table users --, \0", '10.0.0.9', '10.0.0.9'],
    ['1', '1.2.3.4.5', '10.0.0.9', '10.0.0.9'],
    ['1', `${CLIENT}/8`, '10.0.0.9', '10.0.0.9'],
    ['9', 'x'.repeat(8000), '10.0.0.9', '10.0.0.9'],
  ]
  const replicas = new Map<string, Pick<TestApp, 'app'>>()
  for (const [proxies, forwarded, from, expected] of cases) {
    const replica = replicas.get(proxies) ?? (await behind(proxies))
    replicas.set(proxies, replica)
    t.equal(
      await seen(replica, forwarded, from),
      expected,
      `${proxies} | ${forwarded.slice(0, 60)} | ${from}`,
    )
  }
})

/** Goes through all that makes or takes a secret, and returns each by its name. */
async function everythingThatMints(app: Sender, pool: pg.Pool): Promise<Record<string, string>> {
  const secret = 'rss_'.padEnd(47, 'a1B2c3D4')
  await pool.query(
    `insert into resource_servers (id, name, secret_hash) values ('rs_1', 'one', $1)`,
    [hashSecret(secret)],
  )
  const authorization = `Basic ${Buffer.from(`rs_1:${secret}`).toString('base64')}`
  const alice = await Person.signedIn(app, ALICE)
  const anonymous = await registerAnonymous(app)
  const hinted = await registerFor(app, ALICE)
  const renewed = (
    await postJson(app, '/agent/identity/claim', {
      claim_token: anonymous.claim_token,
      login_hint: ALICE,
    })
  ).json().claim_attempt
  const early = (await exchange(app, anonymous.identity_assertion)).json().access_token
  for (const token of [early, hinted.claim_token]) {
    await postForm(app, '/oauth2/introspect', { token }, { authorization })
    await app.inject({
      url: `/api/resource?access_token=${token}`,
      headers: { authorization: `Bearer ${token}` },
    })
    await app.inject({ url: `/oauth2/introspect?token=${token}` })
    await postForm(app, '/oauth2/token', {
      grant_type: token,
      assertion: token,
      claim_token: token,
    })
    for (const broken of [
      `{"claim_token":"${token}"`,
      `["${token}"]`,
      `{"claim_token":["${token}"]}`,
    ])
      await app.inject({
        method: 'POST',
        url: '/agent/identity/claim',
        payload: broken,
        headers: { 'content-type': 'application/json' },
      })
  }
  for (const block of [hinted.claim, renewed]) {
    await alice.get(
      new URL(block.verification_uri).pathname + new URL(block.verification_uri).search,
    )
    await alice.confirm(linkToken(block), block.user_code)
  }
  const claimed = (await poll(app, anonymous.claim_token)).json()
  for (const token of [early, claimed.access_token, claimed.identity_assertion, secret])
    await postForm(app, '/oauth2/revoke', { token })
  for (const token of [linkToken(renewed), hinted.claim_token, early])
    for (const url of changed(token)) await app.inject({ url, headers: { referer: url } })
  // A failure, with its stack.
  const { claim_token } = await registerFor(app, ALICE)
  await pool.query('alter table poll_states rename to poll_states_away')
  await poll(app, claim_token)
  await pool.query('alter table poll_states_away rename to poll_states')
  return {
    'a resource server’s secret': secret,
    'an anonymous claim token': anonymous.claim_token,
    'a claim token with a hint': hinted.claim_token,
    'the claim token of a failed request': claim_token,
    'a link’s token': linkToken(hinted.claim),
    'a renewed link’s token': linkToken(renewed),
    'an assertion': anonymous.identity_assertion,
    'an assertion after the claim': claimed.identity_assertion,
    'an access token': early,
    'an access token after the claim': claimed.access_token,
    'a session': alice.cookies.get('__Host-registrar-session')!,
  }
}

/** Where a link that was changed on its way may have its token. */
function changed(token: string): string[] {
  const query = `claim_attempt_token=${token}`
  const encoded = [`%3F${query}`, `%253F${encodeURIComponent(query)}`, `;${query}`, `&${query}`]
  return [...encoded, `/${token}`, `/X${token}?a=b`].map((rest) => `/claim${rest}`)
}

/** A secret without its prefix, and the forms in which a database or a URL may show it. For a JWT its signature. */
function spellings(secret: string): { body: string; forms: string[] } {
  const body = secret.replace(/^(clm|cat|rss)_/, '').replace(/^.*\./, '')
  const hex = Buffer.from(secret).toString('hex')
  return {
    body,
    forms: [hex, Buffer.from(body, 'base64url').toString('hex'), encodeURIComponent(secret)],
  }
}

/** Each table as text. */
async function dump(pool: pg.Pool): Promise<Record<string, string>> {
  const { rows } = await pool.query(
    `select table_name from information_schema.tables where table_schema = 'public'`,
  )
  const tables = rows.map(({ table_name }) => table_name as string)
  const texts = await Promise.all(
    tables.map(async (name) => {
      const all = await pool.query(`select string_agg(x::text, ' ') as text from ${name} x`)
      return [name, all.rows[0].text ?? ''] as const
    }),
  )
  return Object.fromEntries(texts)
}
