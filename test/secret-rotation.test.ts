/** C50, SEC-04, SEC-09: which secret a database was made with, and how one takes the place of another. */
import { randomBytes } from 'node:crypto'
import type pg from 'pg'
import { test, type Test } from 'tap'
import { secretFingerprint } from '../src/domain/secret-list.js'
import { openSigningKey } from '../src/domain/signing-key.js'
import { resealKeys, rotateKeys } from '../src/key-store.js'
import { listSigningKeys } from '../src/repositories/signing-keys.js'
import * as agents from './fixtures/app.js'
import { testDatabase } from './fixtures/database.js'
import { isSentence, operator, start } from './fixtures/process.js'
import { Person } from './fixtures/person.js'

const STRANGER = /^SECRET is none that this database was made with\. /
const SEALED_UNDER_ANOTHER = /^SECRET does not open the signing key in this database: /
const newSecret = () => randomBytes(32).toString('base64')
const bytes = (...secrets: string[]) => secrets.map((secret) => Buffer.from(secret, 'base64'))

async function deployment(t: Test) {
  const { url, pool } = await testDatabase(t)
  const [old, young] = [newSecret(), newSecret()] as const
  const replica = async (...secrets: string[]) =>
    (await agents.testReplica(t, url, { SECRET: secrets.join(',') })).app
  return { url, pool, old, young, replica }
}

/** As if the database had known its secrets for an hour longer. */
const settle = (pool: pg.Pool) =>
  pool.query(`update secret_fingerprints set created_at = created_at - interval '1 hour'`)

/** Which of the secrets each key is sealed under, the first to sign first. */
async function seals(app: agents.TestApp['app'], ...secrets: string[]): Promise<number[]> {
  const keys = await listSigningKeys(app.db)
  return keys.map((key) => {
    const opened = openSigningKey(bytes(...secrets), key)?.secret.toString('base64')
    return secrets.findIndex((secret) => secret === opened)
  })
}

const fingerprints = async (pool: pg.Pool) =>
  (await pool.query('select fingerprint from secret_fingerprints order by created_at')).rows.map(
    ({ fingerprint }) => fingerprint,
  )

test('C50: a replica with another secret does not start, and says so', async (t) => {
  const { url, pool, old, young, replica } = await deployment(t)
  await replica(old)
  t.same(await fingerprints(pool), [secretFingerprint(bytes(old)[0]!)])
  const env = { DATABASE_URL: url, SECRET: young, PORT: '0' }
  for (const ended of [start(t, 'server', [], env).ended, operator(t, env)('keys', 'reseal')])
    isSentence(t, await ended, STRANGER)
  t.equal((await fingerprints(pool)).length, 1)
  await t.rejects(replica(young, newSecret()), { message: STRANGER }, 'nor with two')
})

test('C50: of replicas with different secrets one kind starts on a new database', async (t) => {
  const { pool, old, young, replica } = await deployment(t)
  const started = await Promise.allSettled([old, young].map((secret) => replica(secret)))
  t.same(started.map(({ status }) => status).toSorted(), ['fulfilled', 'rejected'])
  t.match(
    started.find(({ status }) => status === 'rejected'),
    { reason: { message: STRANGER } },
  )
  t.equal((await fingerprints(pool)).length, 1)
  t.equal((await pool.query('select from signing_keys')).rowCount, 1)
})

test('C50: a replica whose database becomes another one is not ready, and keeps its keys', async (t) => {
  const { pool, old, young, replica } = await deployment(t)
  const app = await replica(old)
  const { keys } = app.keys.jwks
  await t.resolves(app.keys.check())
  await pool.query('truncate secret_fingerprints, signing_keys')
  await replica(young)
  await t.rejects(app.keys.check(), { message: STRANGER })
  await t.rejects(app.keys.check(), { message: STRANGER }, 'as long as it lasts')
  t.same(app.keys.jwks.keys, keys)
})

test('a database from before there were fingerprints gets them from who opens its keys', async (t) => {
  const { pool, old, young, replica } = await deployment(t)
  await replica(old)
  await pool.query('truncate secret_fingerprints')
  await t.rejects(replica(young), { message: STRANGER })
  await replica(young, old)
  t.same(await fingerprints(pool), bytes(old, young).map(secretFingerprint))
})

test('SEC-09: while a secret is rotated out, replicas with old and new lists serve side by side', async (t) => {
  const { pool, old, young, replica } = await deployment(t)
  const before = await replica(old)
  const both = await replica(young, old)
  t.same(await fingerprints(pool), bytes(old, young).map(secretFingerprint))
  t.same(await seals(both, young, old), [1], 'not yet: a replica that restarts may have no other')
  await rotateKeys(both.db, bytes(young, old), 0)
  t.same(await seals(both, young, old), [1, 1])
  await replica(old)
  await t.rejects(replica(young), { message: SEALED_UNDER_ANOTHER }, 'too early')
  await t.resolves(before.keys.check())

  await settle(pool)
  const other = await replica(old, young)
  t.same(await seals(both, young, old), [1, 1], 'the first of this list is the old one')
  await t.resolves(Promise.all([both, both, other].map((app) => app.keys.check())))
  t.same(await seals(both, young, old), [0, 0], 'within seconds')
  await other.keys.check()
  t.same(await seals(both, young, old), [0, 0], 'and not back')

  const after = await replica(young)
  await t.rejects(replica(old), { message: SEALED_UNDER_ANOTHER }, 'too late')
  await t.resolves(before.keys.check(), 'what it has opened stays open')
  for (const app of [before, both, other, after]) {
    const { identity_assertion } = await agents.registerAnonymous(app)
    for (const at of [before, after])
      t.equal((await agents.exchange(at, identity_assertion)).statusCode, 200)
  }

  // The next key is not for who lacks the secret that seals.
  const first = before.keys.jwks.keys.at(-1)!.kid
  const kid = await rotateKeys(after.db, bytes(young), 0)
  await t.rejects(before.keys.check(), { message: SEALED_UNDER_ANOTHER })
  const published = before.keys.jwks.keys.map((key) => key.kid)
  t.ok(published.includes(kid), 'but verifies what it signed')
  const { identity_assertion } = await agents.registerAnonymous(before)
  t.equal((await agents.exchange(after, identity_assertion)).statusCode, 200)
  t.same(published.includes(first), true)
})

test('registrar keys reseal does it now, for all keys or for none', async (t) => {
  const { url, pool, old, young, replica } = await deployment(t)
  const app = await replica(old)
  const [first] = await listSigningKeys(app.db)
  const reseal = operator(t, { DATABASE_URL: url, SECRET: `${young},${old}` })
  const { code, stdout } = await reseal('keys', 'reseal')
  t.same([code, JSON.parse(stdout)], [0, { resealed: [first!.kid] }])
  t.same(await seals(app, young, old), [0])
  t.same(await resealKeys(app.db, bytes(young)), [])
  await replica(young)

  await rotateKeys(app.db, bytes(young), 360)
  await pool.query(`update signing_keys set private_jwk_sealed = 'x' where kid <> $1`, [first!.kid])
  await t.rejects(resealKeys(app.db, bytes(old, young)), { message: SEALED_UNDER_ANOTHER })
  t.same(await seals(app, young, old), [0, -1])
  await pool.query(`update signing_keys set private_jwk_sealed = 'x'`)
  await t.rejects(rotateKeys(app.db, bytes(young), 0), { message: SEALED_UNDER_ANOTHER })
})

test('SEC-09: a form from before the rotation is taken after it, and no longer than the old secret', async (t) => {
  const { old, young, replica } = await deployment(t)
  const [before, both, after] = [
    await replica(old),
    await replica(young, old),
    await replica(young, old).then(async (app) => {
      await resealKeys(app.db, bytes(young, old))
      return replica(young)
    }),
  ]
  const alice = new Person(before, 'alice@example.com')
  await alice.get('/login')
  const form = { email: alice.email }
  t.equal((await alice.at(after).submit('/login', form)).statusCode, 403)
  t.equal((await alice.at(both).submit('/login', form)).statusCode, 303)
})

test('docs/operating.md: SECRET has leaked: after these steps it opens nothing, and only then the old one can go', async (t) => {
  const { url, pool, old, young, replica } = await deployment(t)
  const app = await replica(old)
  const { identity_assertion } = await agents.registerAnonymous(app)
  await replica(old, young)
  const both = await replica(young, old)
  const registrar = operator(t, { DATABASE_URL: url, SECRET: `${young},${old}` })
  const [before] = both.keys.jwks.keys
  t.match(await registrar('keys', 'rotate', '--now'), { code: 0 })
  await t.rejects(replica(young), { message: SEALED_UNDER_ANOTHER }, 'too early: it does not start')
  t.match(await registrar('keys', 'retire', before!.kid!), { code: 0 })
  t.match(await registrar('keys', 'reseal'), { code: 0 })
  const { stdout } = await registrar('doctor')
  t.match(stdout, /^ok +keys +\S+ signs; sealed under secret 1 of 2$/m)
  const after = await replica(young)
  const keys = (await listSigningKeys(after.db)).filter(({ status }) => status !== 'retired')
  t.same(
    keys.map((key) => openSigningKey(bytes(old), key)),
    [undefined],
  )
  t.equal((await agents.exchange(after, identity_assertion)).json().error, 'invalid_grant')
  t.equal((await pool.query('select from secret_fingerprints')).rowCount, 2)
})

test('docs/operating.md: SECRET is lost: tokens die, people stay signed in, agents that wait get a new code', async (t) => {
  const { pool, old, young, replica } = await deployment(t)
  const before = await replica(old)
  const { identity_assertion } = await agents.registerAnonymous(before)
  const { access_token } = (await agents.exchange(before, identity_assertion)).json()
  const alice = await Person.signedIn(before, 'alice@example.com')
  const { claim_token, claim } = await agents.registerFor(before, alice.email)
  await before.close()

  await t.rejects(replica(young), { message: STRANGER })
  await pool.query('truncate signing_keys, secret_fingerprints')
  const after = await replica(young)
  t.equal((await agents.callApi(after, access_token)).statusCode, 401)
  t.equal((await agents.exchange(after, identity_assertion)).json().error, 'invalid_grant')
  const person = alice.at(after)
  t.equal((await person.get('/agents')).statusCode, 200, 'still signed in')
  t.equal(
    (await person.confirm(agents.linkToken(claim), claim.user_code)).statusCode,
    422,
    'the code of before is a wrong one',
  )
  const renewed = (await agents.postJson(after, '/agent/identity/claim', { claim_token })).json()
  const { claim_attempt } = renewed
  const confirmed = person.confirm(agents.linkToken(claim_attempt), claim_attempt.user_code)
  t.equal((await confirmed).statusCode, 303)
  t.equal((await agents.poll(after, claim_token)).statusCode, 200)
})
