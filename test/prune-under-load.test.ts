/** C49, C54: a great many rows whose time is over go while agents work, and no agent notices. */
import { test } from 'tap'
import { prune } from '../src/cli-prune.js'
import { exchange, poll, postJson, registerFor, testReplica, type Sender } from './fixtures/app.js'
import { testDatabase } from './fixtures/database.js'
import { count } from './fixtures/replicas.js'
import { listening } from './fixtures/wire.js'

const EXPIRED = 100_000

test('C49, C54: 100,000 expired registrations are told of once each, beside two replicas at work', async (t) => {
  const { url, pool } = await testDatabase(t)
  await pool.query(
    `insert into registrations (id, registration_type, claim_token_hash, claim_expires_at)
     select 'reg_' || n, 'anonymous', sha256(n::text::bytea), now() - interval '2 days' from generate_series(1, $1::int) n`,
    [EXPIRED],
  )
  await pool.query(
    `insert into spent_assertions
     select 'https://idp.example', 'id-jag', n::text, now() - interval '1 hour' from generate_series(1, $1::int) n`,
    [EXPIRED],
  )
  const [one, two] = [(await testReplica(t, url)).app, (await testReplica(t, url)).app]
  const [A, B] = [await listening(one), await listening(two)]
  const sweeping = new AbortController()
  const answers = new Map<string, number>()
  const saw = (what: string) => answers.set(what, (answers.get(what) ?? 0) + 1)
  const work = async (app: Sender, name: string) => {
    for (let round = 0; !sweeping.signal.aborted; round += 1) {
      const registered = await postJson(app, '/agent/identity', { type: 'anonymous' })
      saw(`registered ${registered.statusCode}`)
      const { identity_assertion } = registered.json()
      saw(`exchanged ${(await exchange(app, identity_assertion)).statusCode}`)
      const { claim_token } = await registerFor(app, `${name}-${round}@example.com`)
      saw(`polled ${(await poll(app, claim_token)).json().error}`)
    }
  }
  const workers = [A, B, A, B].map((app, n) => work(app, `person-${n}`))
  const recorded = () => count(pool, `audit_events where event = 'registration.expired'`)
  const left = () => count(pool, `spent_assertions`)
  // Beside the sweepers of both replicas.
  while ((await recorded()) < EXPIRED || (await left()) > 0)
    await Promise.all([prune(one.db, undefined), prune(two.db, undefined)])
  sweeping.abort()
  await Promise.all(workers)
  t.same(
    [...answers.keys()].toSorted(),
    ['exchanged 200', 'polled authorization_pending', 'registered 200'],
    'nobody was refused or had to try again',
  )
  const told = await pool.query(
    `select count(*)::int as n, count(distinct registration_id)::int as of from audit_events
     where event = 'registration.expired'`,
  )
  t.same(told.rows, [{ n: EXPIRED, of: EXPIRED }])
  t.equal(await count(pool, `registrations where claim_expires_at < now()`), EXPIRED, 'kept')
})
