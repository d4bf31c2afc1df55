/** `registrar keys`, as operators run it while a replica serves. */
import * as jose from 'jose'
import { test } from 'tap'
import { addKeyCommands } from '../src/cli-keys.js'
import * as agents from './fixtures/app.js'
import { commands } from './fixtures/command.js'
import { isSentence, operator } from './fixtures/process.js'

test('keys are rotated, retired and listed; what cannot be is said', async (t) => {
  const own = await agents.testApp(t)
  const { app, config, pool } = own
  const env = { DATABASE_URL: config.DATABASE_URL!, SECRET: agents.SECRET }
  const told = async (ended: ReturnType<ReturnType<typeof operator>>) => {
    const { code, stdout, stderr } = await ended
    t.equal(code, 0, stderr)
    return { told: JSON.parse(stdout), stderr }
  }
  const run = commands(own, addKeyCommands)
  const json = (...args: string[]) => told(run('keys', ...args))
  const first = app.keys.jwks.keys[0]!.kid!

  const { told: second, stderr } = await told(operator(t, env)('keys', 'rotate'))
  t.equal(stderr, '')
  t.same(Object.keys(second), [
    'kid',
    'status',
    'created_at',
    'signs_from',
    'succeeded_at',
    'retired_at',
    'verifies_until',
  ])
  t.match(second, { status: 'waiting', succeeded_at: null, verifies_until: null })
  t.ok(Date.parse(second.signs_from) - Date.parse(second.created_at) > 300_000)

  const { told: third, stderr: warning } = await json('rotate', '--now')
  t.match(warning, /signs from now on\. .* 5 minutes/)
  t.equal(third.status, 'signing')
  await app.keys.check()
  const signed = app.keys.sign('at+jwt', {})
  t.equal(jose.decodeProtectedHeader(signed).kid, third.kid)

  const retired = await json('retire', first)
  t.match(retired, { told: { kid: first, status: 'retired' }, stderr: /register again/ })
  t.equal(retired.told.verifies_until, retired.told.retired_at)
  await app.keys.check()
  const published = app.keys.jwks.keys.map(({ kid }) => kid)
  t.same(published, [third.kid])

  t.match((await json('list')).told, [
    { kid: first, status: 'retired', succeeded_at: third.signs_from },
    { kid: third.kid, status: 'signing' },
    { kid: second.kid, status: 'retired' },
  ])
  const registrar = operator(t, { DATABASE_URL: env.DATABASE_URL, DATA_DIR: t.testdir() })
  const nobody = await registrar('keys', 'retire', 'nobody')
  isSentence(t, nobody, /^There is no key nobody that verifies/)
  // Without SECRET a local registrar makes one of its own.
  isSentence(t, await registrar('keys', 'rotate', '--now'), /^SECRET /)
  const { rows } = await pool.query(
    `select event, details ->> 'kid' as kid from audit_events where event like 'key.%' order by id`,
  )
  t.same(rows.slice(-3), [
    { event: 'key.retired', kid: second.kid },
    { event: 'key.created', kid: third.kid },
    { event: 'key.retired', kid: first },
  ])
})
