/** `registrar doctor`: what it finds of settings, database and keys, and that it changes nothing. */
import { randomBytes } from 'node:crypto'
import { existsSync, mkdirSync, rmdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'tap'
import { innermost, reasonOf } from '../src/cli-doctor-check.js'
import { reachFix } from '../src/cli-doctor-database.js'
import { rotateKeys } from '../src/key-store.js'
import * as agents from './fixtures/app.js'
import { testDatabase, testRole } from './fixtures/database.js'
import { examined, examinedApart, patient } from './fixtures/patient.js'
import { NO_TLS, operator, startServer, temporaryFolder } from './fixtures/process.js'
import { testGate } from './fixtures/wire.js'

const newSecret = () => randomBytes(32).toString('base64')
const secretsOf = (text: string) => text.split(',').map((item) => Buffer.from(item, 'base64'))

test('all in good order: each check says so, in JSON and in lines for people', async (t) => {
  const { env, app } = await patient(t)
  const checks = await examinedApart(t, env)
  t.same(Object.keys(checks), [
    'settings',
    'database',
    'migrations',
    'connections',
    'clock',
    'privileges',
    'deployment',
    'keys',
    'issuers',
    'sign-in',
    'public URL',
    'public readiness',
    'public keys',
  ])
  for (const [name, { status }] of Object.entries(checks)) t.equal(status, 'ok', name)
  t.match(checks.database, { found: /^Postgres 1\d.*, database registrar_test_\w+ as \w+$/ })
  const { kid } = app.keys.jwks.keys[0]!
  t.equal(checks.keys!.found, `${kid} signs; sealed under secret 1 of 1`)

  const { code, stdout, stderr } = await operator(t, env)('doctor')
  t.same([code, stderr], [0, ''])
  t.match(stdout, /^ok +clock +this clock and the database's are 0\.\d s apart$/m)
  t.match(stdout, /^faults: 0, warnings: 0, ok: 13$/m)
  t.notOk(stdout.includes(agents.SECRET))
})

test('every faulty setting is told, and what does not need it is looked at', async (t) => {
  const { url } = await testDatabase(t)
  const env = { ISSUER: 'https://as.test/', SECRET: 'hunter2', CLOCK_SKEW_SECONDS: '301' }
  const ended = await operator(t, { ...env, DATABASE_URL: url })('doctor')
  t.equal(ended.code, 1)
  for (const line of [
    /^fault +settings +ISSUER: .*\n +fix: correct it/m,
    /^fault +settings +SECRET: at least 32/m,
    /^fault +settings +CLOCK_SKEW_SECONDS: /m,
    /^ok +database +Postgres/m,
    /^ok +migrations +all \d+ applied/m,
    /^warning +clock +not checked: it needs CLOCK_SKEW_SECONDS/m,
    /^warning +keys +not checked: it needs SECRET/m,
    /^warning +deployment +not checked: it needs ISSUER/m,
    /^warning +issuers +not checked: it needs ISSUER/m,
    /^warning +sign-in +not checked: it needs ISSUER/m,
    /^warning +public URL +not checked: it needs ISSUER/m,
    /^faults: 3, /m,
  ])
    t.match(ended.stdout, line)
  t.notMatch(ended.stdout + ended.stderr, /hunter2/)
  const checks = await examined(t, { DATABASE_URL: 'mysql://x:hunter2@127.0.0.1/x' })
  t.match(checks.database, { found: 'not checked: it needs DATABASE_URL' })
  t.notMatch(JSON.stringify(checks), /hunter2/)
})

test('a database that is away or deaf is told within seconds, without its password', async (t) => {
  const { url } = await testDatabase(t)
  const gate = await testGate(t, url)
  gate.hush()
  const deaf = new URL(gate.url)
  deaf.password = 'hunter2'
  for (const [DATABASE_URL, found] of [
    [deaf.href, /timeout/],
    ['postgres://x:hunter2@127.0.0.1:1/x', /ECONNREFUSED 127\.0\.0\.1:1/],
  ] as const) {
    const started = Date.now()
    const checks = await examinedApart(t, { DATABASE_URL, SECRET: agents.SECRET })
    t.ok(Date.now() - started < 30_000, 'in time, also on a slow machine')
    t.match(checks.database, { status: 'fault', found })
    t.notMatch(JSON.stringify(checks), /hunter2/)
  }
  const DATABASE_URL = `${url}?sslmode=verify-full`
  t.match((await examined(t, { DATABASE_URL, SECRET: agents.SECRET })).database, {
    status: 'fault',
    found: NO_TLS,
    fix: /sslrootcert/,
  })
  const checks = await examined(t, { DATABASE_URL: 'postgres://127.0.0.1:1/x' })
  t.match(checks.keys, { status: 'warning', found: 'not checked: it needs the database' })
})

test('a database that is empty, newer, read-only, unsafe, full or another time', async (t) => {
  const { pool, env } = await patient(t)
  const { url: DATABASE_URL } = await testDatabase(t, { empty: true })
  t.match(await examined(t, { ...env, DATABASE_URL }), {
    migrations: {
      status: 'fault',
      found: /lacks 0001_\w+, 0002_/,
      fix: 'run registrar migrate up',
    },
    keys: { status: 'warning', found: 'not checked: it needs the migrations' },
  })
  const other = await testRole(t, DATABASE_URL)
  t.match((await examined(t, { ...env, DATABASE_URL: other.url })).migrations, {
    status: 'fault',
    found: /^the database lacks 0001_/,
    fix: RegExp(`^The role ${other.role} may not .*; then run registrar migrate up$`),
  })

  const database = new URL(env.DATABASE_URL).pathname.slice(1)
  await pool.query(`insert into migrations (name, run_on) values ('9999_newer', now())`)
  await pool.query(`alter database ${database} connection limit 12`)
  const held = await Promise.all(Array.from({ length: 8 }, () => pool.connect()))
  t.match(await examined(t, env), {
    migrations: { status: 'warning', found: /has 9999_newer, which this version/ },
    connections: { status: 'warning', found: /^\d of 12 left; a replica opens up to 10$/ },
  })
  for (const client of held) client.release()
  await pool.query(`alter database ${database} connection limit -1`)

  const { role, url: readers } = await testRole(t, env.DATABASE_URL)
  await pool.query(`grant select on all tables in schema public to ${role}`)
  const asReader = { ...env, DATABASE_URL: readers }
  t.match(await examined(t, asReader), {
    privileges: { status: 'fault', found: /, signing_keys \(insert, update, delete\), / },
    keys: { status: 'ok' },
  })
  const all = 'all on all tables in schema public'
  await pool.query(`grant ${all} to ${role}; revoke insert on audit_events from ${role}`)
  t.match((await examined(t, asReader)).privileges, {
    status: 'fault',
    found: `${role} lacks privileges on audit_events (insert)`,
    fix: `as the owner: grant select, insert, update, delete on audit_events to ${role}; or make ${role} the owner`,
  })
  await pool.query(`grant insert on audit_events to ${role}`)
  t.match((await examined(t, asReader)).privileges, { status: 'ok' })

  await pool.query(`alter database ${database} set synchronous_commit = off`)
  t.match((await examined(t, env)).database, { status: 'warning', found: /a crash loses/ })
  await pool.query(`alter database ${database} set default_transaction_read_only = on`)
  t.match(await examined(t, env), {
    database: { status: 'fault', found: /: read-only$/ },
    keys: { status: 'ok' },
  })
})

test('what it says of a standby, an old Postgres, a clock that is off and an encoding', async (t) => {
  const { pool, env } = await patient(t)
  const database = new URL(env.DATABASE_URL).pathname.slice(1)
  // Found before those of Postgres itself.
  await pool.query('create schema lies')
  await pool.query(`alter database ${database} set search_path = lies, pg_catalog, public`)
  await pool.query(`create function lies.clock_timestamp() returns timestamptz language sql
    as $$ select pg_catalog.clock_timestamp() + interval '65 seconds' $$`)
  await pool.query(
    'create function lies.pg_is_in_recovery() returns bool language sql as $$ select true $$',
  )
  const checks = await examined(t, env)
  t.match(checks.clock, {
    status: 'fault',
    found: /database's are 6[45]\.\d s apart, and CLOCK_SKEW_SECONDS is 60$/,
  })
  t.match(checks.database, { status: 'fault', found: /: a standby$/, fix: /at the primary/ })
  await pool.query(`create function lies.current_setting(text) returns text language sql
    as $$ select case $1 when 'server_version_num' then '140009' else pg_catalog.current_setting($1) end $$`)
  t.match((await examined(t, env)).database, { status: 'fault', fix: /^upgrade Postgres: 15/ })
  await pool.query(`create or replace function lies.current_setting(text) returns text language sql
    as $$ select case $1 when 'server_encoding' then 'LATIN1' else pg_catalog.current_setting($1) end $$`)
  await pool.query('drop function lies.pg_is_in_recovery')
  t.match((await examined(t, env)).database, {
    status: 'warning',
    found: /: in LATIN1, which cannot store/,
    fix: /encoding 'UTF8'$/,
  })
})

test('keys: none yet, of another secret, sealed under another, waiting in vain, too early', async (t) => {
  const { url: DATABASE_URL, pool } = await testDatabase(t)
  const env = { ISSUER: 'http://localhost:1', DATABASE_URL, SECRET: agents.SECRET }
  const rows = async () =>
    (
      await pool.query(
        `select (select count(*)::int from signing_keys) as keys,
          (select count(*)::int from secret_fingerprints) as secrets,
          (select count(*)::int from audit_events) as events,
          (select string_agg(signing_keys::text, ',' order by kid) from signing_keys) as text`,
      )
    ).rows[0]
  t.match((await examined(t, env)).keys, { status: 'warning', found: 'none yet' })
  t.match(await rows(), { keys: 0, secrets: 0, events: 0 }, 'it made none')

  const { app } = await agents.testReplica(t, DATABASE_URL)
  const young = newSecret()
  const before = await rows()
  const stranger = { status: 'fault', found: /^SECRET is none that this database was made with/ }
  t.match((await examined(t, { ...env, SECRET: young })).keys, stranger)
  t.match(
    (await examined(t, { ISSUER: env.ISSUER, DATABASE_URL, DATA_DIR: '/nowhere' })).keys,
    stranger,
  )
  const both = { ...env, SECRET: `${young},${agents.SECRET}` }
  t.match(await examined(t, both), {
    keys: { status: 'ok', found: /sealed under secret 2 of 2$/ },
    secrets: { status: 'warning', found: /does not know yet/ },
  })
  t.same(await rows(), before, 'nothing was made, told or sealed anew')

  await agents.testReplica(t, DATABASE_URL, both)
  t.notOk('secrets' in (await examined(t, both)))
  const kid = await rotateKeys(app.db, secretsOf(both.SECRET), 360)
  await pool.query('update signing_keys set private_jwk_sealed = $1 where kid = $2', ['x', kid])
  t.match(await examined(t, both), {
    keys: { status: 'ok' },
    'waiting key': { status: 'fault', found: RegExp(`does not open ${kid}, which is to sign`) },
  })
  await pool.query(`update signing_keys set private_jwk_sealed = 'x'`)
  t.match((await examined(t, both)).keys, {
    status: 'fault',
    found: /was sealed under another one/,
  })
})

test('keys whose turn has not come by the clock of the database', async (t) => {
  const { env, pool, app } = await patient(t)
  await pool.query(`update signing_keys set signs_from = now() + interval '1 hour'`)
  const { kid } = app.keys.jwks.keys[0]!
  t.match((await examined(t, env)).keys, { status: 'warning', found: RegExp(`yet: ${kid} is due`) })
  await pool.query('drop table secret_fingerprints')
  t.match((await examined(t, env)).keys, { status: 'fault', found: /secret_fingerprints/ })
})

test('the embedded database: none is made, one that is there is looked at, running or not', async (t) => {
  const DATA_DIR = temporaryFolder(t)
  const env = { DATA_DIR, ISSUER: 'http://localhost:1' }
  t.match((await examined(t, env)).database, { status: 'warning', found: /^there is none in/ })
  t.notOk(existsSync(join(DATA_DIR, 'postgres')))
  mkdirSync(join(DATA_DIR, 'postgres'))
  t.match((await examined(t, env)).database, { status: 'warning', found: /^there is none in/ })
  rmdirSync(join(DATA_DIR, 'postgres'))
  t.notOk(existsSync(join(DATA_DIR, 'secret')))
  const server = await startServer(t, { ...env, SECRET: '' })
  t.match(await examined(t, env), { database: { status: 'ok' }, keys: { status: 'ok' } })
  server.child.kill('SIGTERM')
  await server.ended
  t.match(await examined(t, env), {
    database: { status: 'ok' },
    migrations: { status: 'ok' },
    keys: { status: 'ok' },
    'public URL': { status: 'fault', found: /bad port/ },
  })
  const registrar = operator(t, env)
  t.match(await registrar('migrate', 'down'), { code: 0 })
  t.match((await examined(t, env)).migrations, {
    status: 'warning',
    found: /^the database lacks 0010_/,
    fix: /^start the server/,
  })
})

test('an embedded database that is damaged', async (t) => {
  const DATA_DIR = temporaryFolder(t)
  mkdirSync(join(DATA_DIR, 'postgres'))
  writeFileSync(join(DATA_DIR, 'postgres', 'registrar.password'), 'x')
  const { code, stdout } = await operator(t, { DATA_DIR, ISSUER: 'http://localhost:1' })('doctor')
  t.equal(code, 1)
  t.match(stdout, /^fault +database +\S.*\n +fix: /m)
})

test('what to fix when the database cannot be reached', async (t) => {
  const coded = (code: string) => Object.assign(new Error(), { code })
  for (const code of [
    'DEPTH_ZERO_SELF_SIGNED_CERT',
    'SELF_SIGNED_CERT_IN_CHAIN',
    'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
    'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
    'CERT_HAS_EXPIRED',
    'ERR_TLS_CERT_ALTNAME_INVALID',
    'ERR_SSL_WRONG_VERSION_NUMBER',
  ])
    t.match(reachFix(coded(code)), /^make the certificate of Postgres/, code)
  for (const code of ['ECONNREFUSED', '28P01']) t.match(reachFix(coded(code)), /^start Postgres/)
})

test('a reason is told with what it came of', async (t) => {
  const refused = Object.assign(new Error('connect ECONNREFUSED ::1:1'), { code: 'ECONNREFUSED' })
  const wrapped = new TypeError('fetch failed', { cause: new AggregateError([refused]) })
  t.equal(innermost(wrapped), refused)
  t.equal(reasonOf(wrapped), 'fetch failed (connect ECONNREFUSED ::1:1)')
  t.equal(reasonOf(wrapped.cause), refused.message)
  const cause = new Response('', { status: 418 })
  t.equal(reasonOf(new Error('x', { cause })), 'x (HTTP status 418)')
})
