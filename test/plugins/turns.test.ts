/** One after the other: who waits for another's work on the same thing. */
import { mock } from 'node:test'
import { setImmediate, setTimeout as sleep } from 'node:timers/promises'
import { test, type Test } from 'tap'
import { takingTurns } from '../../src/plugins/turns.js'
import { linkToken, postJson, registerAnonymous, registerFor, testApp } from '../fixtures/app.js'
import { Person } from '../fixtures/person.js'
import { blocked, COMPLETE } from '../fixtures/replicas.js'

test('work of one key is done one by one, in order; that of another does not wait', async (t) => {
  const inTurn = takingTurns()
  const done: string[] = []
  let underWay = 0
  const work = (name: string) => async () => {
    t.equal((underWay += 1), 1, name)
    await sleep(5)
    underWay -= 1
    done.push(name)
    return name
  }
  const all = Promise.all(['1', '2', '3'].map((name) => inTurn('a', work(name))))
  t.equal(await inTurn('b', async () => done.length), 0)
  t.same(await all, ['1', '2', '3'])
  t.same(done, ['1', '2', '3'])
})

test('work that fails fails for whoever asked for it, and nothing is kept of it', async (t) => {
  const last = new Map<string, Promise<void>>()
  const inTurn = takingTurns(last)
  const away = async () => {
    throw new Error('away')
  }
  const all = [inTurn('a', away), inTurn('a', async () => 1), inTurn('b', away)]
  t.equal(last.size, 2)
  t.match(await Promise.allSettled(all), [
    { reason: { message: 'away' } },
    { value: 1 },
    { reason: { message: 'away' } },
  ])
  await setImmediate()
  t.equal(last.size, 0)
})

test('whose turn is more than three seconds away is told to try again', async (t) => {
  const now = mock.method(performance, 'now', () => 0)
  t.teardown(() => now.mock.restore())
  const inTurn = takingTurns()
  let release = () => {}
  const first = inTurn('a', () => new Promise<void>((resolve) => (release = resolve)))
  const second = Promise.allSettled([inTurn('a', async () => t.fail('too late'))])
  await setImmediate()
  now.mock.mockImplementation(() => 3_001)
  const third = inTurn('a', async () => 'in time')
  release()
  await first
  t.match(await second, [
    { reason: { statusCode: 503, headers: { 'retry-after': /^\d+$/ }, cause: 'turn_timeout' } },
  ])
  t.equal(await third, 'in time')
})

/** However slow the machine, nobody's turn comes too late. */
function patient(t: Test) {
  const now = mock.method(performance, 'now', () => 0)
  t.teardown(() => now.mock.restore())
}

test('renewals of one claim token hold one connection, and everybody else is served', async (t) => {
  const { app, pool } = await testApp(t)
  const { registration_id, claim_token } = await registerFor(app, 'alice@example.com')
  const holder = await pool.connect()
  await holder.query('begin')
  await holder.query('select from registrations where id = $1 for update', [registration_id])
  patient(t)
  const renewals = Array.from({ length: 30 }, () =>
    postJson(app, '/agent/identity/claim', { claim_token }),
  )
  await blocked(pool)
  t.ok((await registerAnonymous(app)).claim_token)
  t.equal(app.pool.totalCount - app.pool.idleCount, 1)
  await holder.query('commit')
  holder.release()
  for (const { statusCode } of await Promise.all(renewals)) t.equal(statusCode, 200)
})

test('one person’s forms, on however many links, hold one connection', async (t) => {
  const { app, pool } = await testApp(t)
  const alice = await Person.signedIn(app, 'alice@example.com')
  const links = await Promise.all(
    Array.from({ length: 12 }, async () => {
      const { claim } = await registerFor(app, alice.email)
      return { claim_attempt_token: linkToken(claim), user_code: claim.user_code }
    }),
  )
  await alice.openClaim(links[0]!.claim_attempt_token)
  const holder = await pool.connect()
  await holder.query('begin')
  await holder.query('select from users for update')
  patient(t)
  const forms = links.map((form) => alice.submit(COMPLETE, form))
  await blocked(pool)
  t.ok((await registerAnonymous(app)).claim_token)
  // Each looks the session up first.
  while (app.pool.totalCount - app.pool.idleCount > 1) await sleep(5)
  t.equal((await blocked(pool)).length, 1)
  await holder.query('commit')
  holder.release()
  for (const { statusCode } of await Promise.all(forms)) t.equal(statusCode, 303)
})
