/** Assertions that change nothing: several are accepted in one statement, and any other leaves no trace in it. */
import { sql } from 'kysely'
import { test, type Test } from 'tap'
import { acceptSettled, type Presented } from '../../src/repositories/subject-registrations.js'
import { lockSubject } from '../../src/repositories/delegations.js'
import { exchange, ISSUER, testApp, testReplica } from '../fixtures/app.js'
import { testDatabase } from '../fixtures/database.js'
import { present, someone } from '../fixtures/assertions.js'
import { testProvider } from '../fixtures/provider.js'

const PEOPLE = ['anna', 'bert', 'cleo']
const TRACES = `
  select 'spent' as what, issuer, jti as detail from spent_assertions
  union all select 'audit', event, id::text from audit_events
  union all select 'seen', subject, last_seen_at::text from delegations
  union all select 'registration', id, xmin::text from registrations order by 1, 2, 3`

/** Everybody has registered once. */
async function settled(t: Test) {
  const { app, pool } = await testApp(t)
  const provider = await testProvider(t)
  await provider.trust(pool)
  for (const name of PEOPLE) await present(app, provider.idJag(someone(name)))
  let number = 0
  const assertion = (name: string, more: Partial<Presented> = {}): Presented => ({
    issuer: provider.issuer,
    subject: name,
    audience: ISSUER,
    scopes: null,
    jti: `jti-${(number += 1)}`,
    exp: Math.floor(Date.now() / 1000) + 300,
    address: '192.0.2.1',
    ...more,
  })
  const traces = async () => (await pool.query(TRACES)).rows
  return { app, pool, provider, assertion, traces }
}

test('each gets its own registration, in the order of the assertions', async (t) => {
  const { app, pool, assertion } = await settled(t)
  const asked = ['cleo', 'anna', 'nobody', 'bert', 'anna'].map((name) => assertion(name))
  const accepted = await acceptSettled(app.db, asked)
  t.same(
    accepted.map((bound) => bound?.email),
    ['cleo', 'anna', undefined, 'bert', 'anna'].map((name) => name && `${name}@example.com`),
  )
  const { rows } = await pool.query(
    `select registrations.id, count(*) as issued from registrations
     join audit_events on registration_id = registrations.id and event = 'assertion.issued'
       and audit_events.user_id = registrations.user_id and address = '192.0.2.1'
     group by registrations.id order by issued`,
  )
  t.same(
    rows.map(({ issued }) => issued),
    ['1', '1', '2'],
  )
  t.equal(rows[2].id, accepted[1]!.id)
  t.same(await acceptSettled(app.db, []), [])
})

test('IDJ-16: of equal ones in a statement, or in two, one is accepted', async (t) => {
  const { app, assertion, traces } = await settled(t)
  const [once, twin] = [assertion('anna'), assertion('bert')]
  const [first, second] = await acceptSettled(app.db, [once, { ...twin, jti: once.jti }])
  t.equal(first?.email, 'anna@example.com')
  t.equal(
    second,
    undefined,
    'an issuer names each of its assertions differently, whoever it is for',
  )
  const before = await traces()
  t.same(await acceptSettled(app.db, [once]), [undefined])
  t.same(await traces(), before)
  const many = await Promise.all(
    Array.from({ length: 8 }, () => acceptSettled(app.db, [twin, assertion('cleo')])),
  )
  t.equal(many.filter(([bound]) => bound).length, 1)
  t.ok(many.some(([, bound]) => bound))
})

test('what differs in anything leaves no trace', async (t) => {
  const { app, assertion } = await settled(t)
  const differing: [string, Partial<Presented>][] = [
    ['', { issuer: 'https://other.example' }],
    ['', { subject: 'other' }],
    ['', { audience: 'https://other.example' }],
    ['', { scopes: ['api.read'] }],
    ['update delegations set set_aside_at = now()', {}],
    ['update registrations set set_aside_at = now()', {}],
    ['update registrations set revoked_at = now()', {}],
    ['update registrations set claimed_at = null', {}],
    [`update registrations set scopes = '{api.read}'`, {}],
    [
      `update delegations set user_id = (select user_id from delegations where subject = 'bert')`,
      {},
    ],
    ['delete from delegations', {}],
    ['delete from registrations', {}],
  ]
  for (const [change, more] of differing) {
    const tx = await app.db.startTransaction().execute()
    const traces = async () => (await sql`${sql.raw(TRACES)}`.execute(tx)).rows
    if (change) await sql`${sql.raw(change)}`.execute(tx)
    const before = await traces()
    t.same(await acceptSettled(tx, [assertion('anna', more)]), [undefined], change)
    t.same(await traces(), before, change)
    await tx.rollback().execute()
  }
  t.match(await acceptSettled(app.db, [assertion('anna')]), [{ email: 'anna@example.com' }])
})

test('while its subject is locked an assertion waits for its turn, and no other does', async (t) => {
  const { app, provider, assertion } = await settled(t)
  const arrive = (name: string) => present(app, provider.idJag(someone(name)))
  let waiting: ReturnType<typeof arrive> | undefined
  let over = false
  await app.db.transaction().execute(async (tx) => {
    await lockSubject(tx, assertion('anna'))
    t.match(await acceptSettled(app.db, [assertion('anna'), assertion('bert')]), [
      undefined,
      { email: 'bert@example.com' },
    ])
    waiting = arrive('anna').finally(() => (over = true))
    for (const name of ['bert', 'cleo']) t.equal((await arrive(name)).statusCode, 200)
    t.notOk(over)
  })
  t.equal((await waiting)?.statusCode, 200)
})

test('C35: replicas that accept the same agents all at once get in nobody’s way', async (t) => {
  const { url, pool } = await testDatabase(t)
  const [A, B] = [await testReplica(t, url), await testReplica(t, url)]
  const provider = await testProvider(t)
  await provider.trust(pool)
  const people = Array.from({ length: 12 }, (_, i) => someone(`person-${i}`))
  for (const person of people) await present(A.app, provider.idJag(person))
  for (let round = 0; round < 5; round += 1) {
    const answers = await Promise.all(
      [...people, ...people.toReversed()].flatMap((person) => {
        const assertion = provider.idJag(person)
        return [present(A.app, assertion), present(B.app, assertion)]
      }),
    )
    const ok = answers.filter(({ statusCode }) => statusCode === 200)
    t.equal(ok.length, answers.length / 2, 'each assertion once')
    for (const answer of answers)
      if (answer.statusCode !== 200) t.equal(answer.json().error, 'replay_detected')
    const exchanged = await Promise.all(
      ok.map((answer) => exchange(B.app, answer.json().identity_assertion)),
    )
    t.ok(exchanged.every(({ statusCode }) => statusCode === 200))
  }
  const { rows } = await pool.query(
    `select (select count(*) from spent_assertions) as spent,
       (select count(*) from audit_events where event = 'assertion.issued') as issued`,
  )
  t.same(rows, [{ spent: '132', issued: '132' }])
})
