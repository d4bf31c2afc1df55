/** `registrar issuers`: the trust list, as operators edit it while replicas serve. */
import { test } from 'tap'
import { addIssuerCommands } from '../src/cli-issuers.js'
import { exchange, ISSUER, SECRET, testApp, testReplica } from './fixtures/app.js'
import { isRefused, notify, present, someone } from './fixtures/assertions.js'
import { commands } from './fixtures/command.js'
import { operator } from './fixtures/process.js'
import { testProvider } from './fixtures/provider.js'

test('issuers are added, listed, shown, disabled and removed; replicas follow at once', async (t) => {
  const own = await testApp(t)
  const { app, config, pool } = own
  const replica = (await testReplica(t, config.DATABASE_URL!)).app
  const P = await testProvider(t)
  const env = { DATABASE_URL: config.DATABASE_URL!, SECRET }
  const run = commands(own, addIssuerCommands)
  const told = async (ended: ReturnType<ReturnType<typeof operator>>) => {
    const { code, stdout, stderr } = await ended
    t.equal(code, 0, stderr)
    return JSON.parse(stdout)
  }
  const json = (...args: string[]) => told(run('issuers', ...args))
  /** As a process, of which the replicas know nothing. */
  const apart = (...args: string[]) => told(operator(t, env)('issuers', ...args))
  const everywhere = async (error?: string) => {
    for (const at of [app, replica]) {
      const answer = await present(at, P.idJag(someone('alice')))
      if (error) isRefused(t, answer, 400, error)
      else t.equal(answer.statusCode, 200)
    }
  }
  await everywhere('invalid_issuer')
  const defaults = await apart('add', P.issuer, '--name', 'Example Agents')
  t.match(defaults, {
    issuer: P.issuer,
    name: 'Example Agents',
    jwks_uri: `${P.issuer}/.well-known/jwks.json`,
    client_ids: [],
    algorithms: ['RS256', 'ES256', 'EdDSA'],
    email_domains: [],
    audiences: [],
    required_amr: [],
    multi_tenant: false,
    disabled_at: null,
    removed_at: null,
  })
  await everywhere()
  const { identity_assertion } = (await present(app, P.idJag(someone('alice')))).json()

  const lists = ['--client-id', 'a', '--client-id', 'b', '--algorithm', 'ES256']
  const limits = ['--email-domain', 'EXAMPLE.com', '--audience', ISSUER, '--require-amr', 'mfa']
  const name = ['--name', 'Renamed', '--jwks-uri', P.jwksUri]
  const changed = await json('add', P.issuer, ...name, ...lists, ...limits)
  t.match(changed, {
    name: 'Renamed',
    jwks_uri: P.jwksUri,
    client_ids: ['a', 'b'],
    algorithms: ['ES256'],
    email_domains: ['example.com'],
    audiences: [ISSUER],
    required_amr: ['mfa'],
  })
  for (const at of [app, replica])
    isRefused(t, await present(at, P.idJag(someone('alice'))), 401, 'login_required')
  await json('add', P.issuer, '--name', 'Example Agents')

  const stop = async (verb: string, column: string) => {
    t.match(await apart(verb, P.issuer), { [column]: String })
    await everywhere('invalid_issuer')
    for (const at of [app, replica])
      t.equal((await exchange(at, identity_assertion)).json().error, 'invalid_grant')
  }
  await stop('disable', 'disabled_at')
  t.match(await json('list'), [{ issuer: P.issuer, disabled_at: String }])
  await json('add', P.issuer, '--name', 'Example Agents')
  await everywhere()
  await stop('remove', 'removed_at')
  t.equal((await notify(replica, P.securityEvent({ sub: 'alice' }))).statusCode, 202)
  t.same(await json('list'), [])
  t.match(await json('show', P.issuer), { issuer: P.issuer, removed_at: String })
  for (const args of [
    ['remove', P.issuer],
    ['disable', P.issuer],
    ['show', 'https://nobody.example'],
  ]) {
    const { code, stdout, stderr } = await run('issuers', ...args)
    t.same({ code, stdout }, { code: 1, stdout: '' })
    t.match(stderr, /^There is no issuer http\S+ in the trust list\.\n$/)
  }
  await json('add', P.issuer, '--name', 'Example Agents')
  t.equal((await exchange(app, identity_assertion)).json().error, 'invalid_grant', 'it was revoked')
  const { rows } = await pool.query(
    `select event, details from audit_events where event like 'issuer.%' order by id`,
  )
  t.same(
    rows.map(({ event }) => event),
    ['added', 'changed', 'changed', 'disabled', 'changed', 'removed', 'added'].map(
      (what) => `issuer.${what}`,
    ),
  )
  for (const { details } of rows) t.same(details, { issuer: P.issuer })
})

test('what cannot be trusted is not listed, and why is said', async (t) => {
  const own = await testApp(t)
  const { pool } = own
  const run = commands(own, addIssuerCommands)
  const add = (...args: string[]) => run('issuers', 'add', ...args)
  const named = ['--name', 'Agents']
  const cases: [string[], RegExp][] = [
    [[ISSUER, ...named], /our own issuer/],
    [['ftp://idp.example', ...named], /must be an https URL/],
    [['https://idp.example?x=1', ...named], /without query or fragment/],
    [['https://idp.example', '--name', ' '], /1 to 100 characters/],
    [['https://idp.example', ...named, '--algorithm', 'HS256'], /Unknown algorithms: HS256/],
    [['https://idp.example', ...named, '--jwks-uri', 'words'], /JWKS URI/],
    [['https://idp.example', ...named, '--email-domain', 'a b'], /bare domain/],
    [['https://idp.example'], /required option '--name <name>'/],
  ]
  for (const [args, why] of cases) {
    const { code, stdout, stderr } = await add(...args)
    t.same({ code, stdout }, { code: 1, stdout: '' })
    t.match(stderr, why)
    t.notMatch(stderr, /\n +at /)
  }
  const { rows } = await pool.query(
    `select (select count(*) from issuers)::int as issuers,
      (select count(*) from audit_events where event <> 'key.created')::int as audits`,
  )
  t.same(rows, [{ issuers: 0, audits: 0 }], 'nothing is changed by what is refused')

  t.equal((await add('https://idp.example', ...named, '--multi-tenant')).code, 0)
  const flipped = await add('https://idp.example', ...named)
  t.match(flipped, { code: 1, stderr: /--multi-tenant cannot change/ })
})

test('the issuer that the database belongs to is not listed, whatever ISSUER is here', async (t) => {
  const { config, pool } = await testApp(t)
  await pool.query(`insert into deployment (issuer) values ('https://as.test')`)
  const registrar = operator(t, { DATABASE_URL: config.DATABASE_URL!, SECRET })
  const add = (issuer: string) => registrar('issuers', 'add', issuer, '--name', 'Agents')
  t.match(await add('https://as.test'), { code: 1, stderr: /our own issuer/ })
  t.match(await add('https://idp.test'), { code: 0 })
})
