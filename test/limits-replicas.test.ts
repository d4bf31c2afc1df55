/** C48: limits of several replicas on one database are those of one. */
import { test, type Test } from 'tap'
import type { Limits } from '../src/domain/limits.js'
import * as agents from './fixtures/app.js'
import { renew } from './fixtures/assertions.js'
import { testDatabase } from './fixtures/database.js'
import { counts, isLimited, only, statuses } from './fixtures/limits.js'
import { count } from './fixtures/replicas.js'
import { listening } from './fixtures/wire.js'

async function replica(t: Test, url: string, limits: Partial<Limits>) {
  const { app } = await agents.testReplica(t, url, only(limits))
  return { app, ...(await listening(app)) }
}

const register = (at: agents.Sender) =>
  agents.postJson(at, '/agent/identity', { type: 'anonymous' })
const passed = (answers: agents.Answer[]) => statuses(answers).filter((status) => status === 200)

test('C48: of twenty requests at once at two replicas five pass, and none after a restart', async (t) => {
  const { url, pool } = await testDatabase(t)
  const limits = { anonymous_per_ip: 5, anonymous: 100 }
  const [A, B] = [await replica(t, url, limits), await replica(t, url, limits)]
  const answers = await Promise.all(Array.from({ length: 20 }, (_, n) => register(n % 2 ? A : B)))
  t.equal(passed(answers).length, 5)
  for (const answer of answers)
    if (answer.statusCode !== 200) isLimited(t, answer, ['anonymous-ip', 5])
  const left = answers.map(({ headers }) => /r=(\d)/.exec(String(headers.ratelimit))![1])
  t.same(left.toSorted().slice(-5), ['0', '1', '2', '3', '4'], 'each was told what was left')
  t.equal(await count(pool, 'registrations'), 5)
  const { anonymous, 'anonymous_per_ip 127.0.0.1': own } = await counts(pool)
  t.equal(anonymous, 5, 'who is over the own limit does not count for all')
  t.ok(own! >= 5 && own! <= 20, 'those refused while it was used up may be counted, none after')

  await Promise.all([A.app.close(), B.app.close()])
  const [C, D] = [await replica(t, url, limits), await replica(t, url, limits)]
  for (const at of [C, D]) isLimited(t, await register(at), ['anonymous-ip', 5])
})

test('C48: as many at once when an hour is over, and over all', async (t) => {
  const { url, pool } = await testDatabase(t)
  const limits = { anonymous: 5 }
  const [A, B] = [await replica(t, url, limits), await replica(t, url, limits)]
  for (let round = 0; round < 5; round += 1) {
    const answers = await Promise.all(Array.from({ length: 20 }, (_, n) => register(n % 2 ? A : B)))
    t.equal(passed(answers).length, 5)
    await pool.query(`update rate_limits set started_at = started_at - interval '1 hour'`)
  }
})

test('CIBA-03: renewals at once of many registrations are counted together for the address they hint at', async (t) => {
  const { url, pool } = await testDatabase(t)
  const unlimited = await replica(t, url, {})
  const limits = { ceremonies_per_hint: 5 }
  const [A, B] = [await replica(t, url, limits), await replica(t, url, limits)]
  const tokens: string[] = []
  for (let more = 0; more < 12; more += 1)
    tokens.push((await agents.registerFor(unlimited, `alice-${more}@example.com`)).claim_token)
  const answers = await Promise.all(
    tokens.map((token, n) => renew(n % 2 ? A : B, token, { login_hint: 'victim@example.com' })),
  )
  t.equal(passed(answers).length, 5)
  t.equal(await count(pool, `claim_attempts where login_hint = 'victim@example.com'`), 5)
})
