/** `registrar revoke-all`: what an incident hits ends everywhere, and nothing else does. */
import type pg from 'pg'
import { test, type Test } from 'tap'
import { endAll, retried } from '../src/cli-revocations.js'
import { addRevokeAllCommand } from '../src/cli-revoke-all.js'
import { beginning, targets } from '../src/repositories/revocation-targets.js'
import {
  exchange,
  ISSUER,
  poll,
  registerAnonymous,
  registerFor,
  SECRET,
  testApp,
  testReplica,
} from './fixtures/app.js'
import { confirm, introspector, present, someone } from './fixtures/assertions.js'
import { commands } from './fixtures/command.js'
import { Person } from './fixtures/person.js'
import { isSentence, start } from './fixtures/process.js'
import { testProvider } from './fixtures/provider.js'
import { blocked, count } from './fixtures/replicas.js'

const DETAILS = { reason: 'in a test' }

/** A provider's agent, one that a person confirmed with a code, and one of nobody; each with its tokens. */
async function someAgents(t: Test) {
  const own = await testApp(t)
  const { app, pool, config } = own
  const replica = (await testReplica(t, config.DATABASE_URL!)).app
  const [P, Q] = [await testProvider(t), await testProvider(t, { kids: ['q1', 'q2'] })]
  await P.trust(pool)
  await Q.trust(pool)
  const alice = await Person.signedIn(app, 'alice@example.com')
  const hinted = await registerFor(app, alice.email)
  await confirm(alice, hinted.claim)
  const of = {
    P: (await present(app, P.idJag(someone('bob')))).json(),
    Q: (await present(app, Q.idJag(someone('carol')))).json(),
    alice: (await poll(app, hinted.claim_token)).json(),
    nobody: await registerAnonymous(app),
  }
  const introspect = await introspector({ app })
  const tokens = new Map<string, { assertion: string; token: string }>()
  for (const [name, { identity_assertion: assertion }] of Object.entries(of))
    tokens.set(name, { assertion, token: (await exchange(app, assertion)).json().access_token })
  /** Whose tokens still count; both replicas agree. */
  const alive = async () => {
    const names = []
    for (const [name, { assertion, token }] of tokens) {
      const answers = await Promise.all([app, replica].map((at) => exchange(at, assertion)))
      const { active } = await introspect(token, replica)
      const each = [...answers.map(({ statusCode }) => statusCode === 200), active]
      t.equal(new Set(each).size, 1, name)
      if (active) names.push(name)
    }
    return names
  }
  return { ...own, P, Q, alive, revokeAll: commands(own, addRevokeAllCommand) }
}

const revocations = (pool: pg.Pool) =>
  count(pool, `audit_events where event = 'registration.revoked'`)

test('it wants one selector, and a yes', async (t) => {
  const { alive, revokeAll, pool, P } = await someAgents(t)
  const refused: [string[], RegExp][] = [
    [[], /exactly one of/],
    [['--all', '--user', 'user_x'], /exactly one of/],
    [['--all', '--since', '2026-01-01', '--yes'], /exactly one of/],
    [['--user', 'nobody@example.com', '--yes'], /^There is no such user\.$/m],
    [['--issuer', `${P.issuer}/`, '--yes'], /never was an issuer/],
  ]
  for (const [args, text] of refused) isSentence(t, await revokeAll('revoke-all', ...args), text)
  const counted = await revokeAll('revoke-all', '--all')
  isSentence(t, counted, /add --yes/)
  t.same(JSON.parse(counted.stdout), { would_end: 4 })
  t.equal((await alive()).length, 4)
  t.equal(await revocations(pool), 0)
})

test('10027-04: a provider, a person, a time, or all: each ends its own and no other', async (t) => {
  const { alive, revokeAll, pool, app, P, Q } = await someAgents(t)
  const end = async (...args: string[]) => {
    const { code, stdout, stderr } = await revokeAll('revoke-all', '--yes', ...args)
    t.equal(code, 0, stderr)
    return { ended: JSON.parse(stdout), stderr }
  }
  t.same((await end('--since', '2100-01-01')).ended, { registrations: 0, delegations: 0 })
  t.match(await end('--issuer', P.issuer), {
    ended: { registrations: 1, delegations: 1 },
    stderr: /^Ending 1 registrations\.\n1 of 1 \(100 %\)\n$/,
  })
  t.same(await alive(), ['Q', 'alice', 'nobody'])
  t.equal((await present(app, P.idJag(someone('bob')))).statusCode, 401, 'asked again')

  t.same((await end('--user', 'alice@example.com')).ended, { registrations: 1, delegations: 0 })
  t.same(await alive(), ['Q', 'nobody'])

  await pool.query(`update registrations set created_at = now() - interval '2 days'`)
  await pool.query(
    `update registrations set created_at = now() - interval '1 day' where issuer = $1`,
    [Q.issuer],
  )
  const { rows } = await pool.query(
    `select to_char(created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as at from registrations where issuer = $1`,
    [Q.issuer],
  )
  t.same((await end('--since', rows[0].at)).ended, { registrations: 1, delegations: 1 })
  t.same(await alive(), ['nobody'])
  t.equal((await present(app, Q.idJag(someone('carol')))).statusCode, 401)
  // The two that asked again wait for their people.
  t.same((await end('--all')).ended, { registrations: 3, delegations: 0 })
  t.same(await alive(), [])
  t.same((await end('--all')).ended, { registrations: 0, delegations: 0 })
  t.equal(await revocations(pool), await count(pool, 'registrations'))
  const told = await pool.query(
    `select distinct details, address from audit_events where event = 'registration.revoked'`,
  )
  t.same(told.rows, [
    { details: { reason: 'revoked by the operator, with others' }, address: null },
  ])
})

/** So many live registrations, every other one a provider's with a delegation. */
async function fill(pool: pg.Pool, many: number): Promise<void> {
  await pool.query(
    `insert into users (id) select 'user_' || n from generate_series(1, $1::int) n`,
    [many],
  )
  await pool.query(
    `insert into registrations (id, registration_type, claimed_at, user_id, issuer, subject, audience)
     select 'reg_' || n, case n % 2 when 0 then 'identity_assertion' else 'service_auth' end, now(), 'user_' || n,
       case n % 2 when 0 then 'https://idp.example' end, case n % 2 when 0 then 's' || n end, case n % 2 when 0 then 'x' end
     from generate_series(1, $1::int) n`,
    [many],
  )
  await pool.query(
    `insert into delegations (issuer, subject, user_id) select issuer, subject, user_id from registrations where issuer is not null`,
  )
}

test('thousands end batch by batch on two machines at once, while others register', async (t) => {
  const { app, config, pool } = await testApp(t)
  const other = (await testReplica(t, config.DATABASE_URL!)).app
  await fill(pool, 11_000)
  const done = new AbortController()
  const traffic = (async () => {
    const statuses = new Set<number>()
    while (!done.signal.aborted) {
      const { identity_assertion } = await registerAnonymous(app)
      statuses.add((await exchange(app, identity_assertion)).statusCode)
    }
    return statuses
  })()
  const issuer = { issuer: 'https://idp.example' }
  const half = await Promise.all(
    [app, other].map(async ({ db }) => {
      const began = await beginning(db)
      return await endAll(db, () => targets(db, issuer, began), DETAILS)
    }),
  )
  t.equal(half[0]!.registrations + half[1]!.registrations, 5_500)
  t.equal(half[0]!.delegations + half[1]!.delegations, 5_500)
  t.equal(
    await count(
      pool,
      `registrations where revoked_at is null and issuer is null and user_id is not null`,
    ),
    5_500,
  )
  const began = await beginning(app.db)
  const rest = await Promise.all(
    [app, other].map(({ db }) => endAll(db, () => targets(db, { since: null }, began), DETAILS)),
  )
  done.abort()
  t.same([...(await traffic)], [200])
  const ended = await count(pool, 'registrations where revoked_at is not null')
  t.equal(rest[0]!.registrations + rest[1]!.registrations, ended - 5_500)
  t.equal(await count(pool, 'delegations'), 0)
  t.equal(
    await count(pool, 'registrations where revoked_at is null and created_at <= $1', began),
    0,
  )
  t.equal(
    (await count(pool, 'registrations where revoked_at is null and created_at > $1', began)) > 0,
    true,
  )
  t.equal(await revocations(pool), ended)
  t.equal(await count(pool, `registrations where revoked_at is not null and generation <> 2`), 0)
})

const LOCKS = {
  'a registration': `select from registrations where id = 'reg_1' for update`,
  'a registration of a subject': `select from registrations where id = 'reg_2' for update`,
  'a delegation': `select from delegations where subject = 's2' for update`,
  'a subject': `select pg_advisory_xact_lock(hashtextextended('s2', hashtextextended('https://idp.example', 0)))`,
}

test('what others hold is left for later, then waited for, and at last said to live on', async (t) => {
  const { app, pool, config } = await testApp(t)
  const holding = async (lock: string) => {
    await pool.query('truncate users, registrations, delegations, audit_events cascade')
    await fill(pool, 4)
    const holder = await pool.connect()
    await holder.query('begin')
    await holder.query(lock)
    return async () => {
      await holder.query('rollback')
      holder.release()
    }
  }
  for (const [name, lock] of Object.entries(LOCKS)) {
    const release = await holding(lock)
    const began = await beginning(app.db)
    const ending = endAll(app.db, () => targets(app.db, { since: null }, began), DETAILS)
    await blocked(pool)
    t.equal(
      await count(pool, 'registrations where revoked_at is null'),
      1,
      `${name}: all others ended`,
    )
    await release()
    t.same(await ending, { registrations: 4, delegations: 2 }, name)
    t.equal(await revocations(pool), 4)
  }
  const release = await holding(LOCKS['a delegation'])
  const env = { DATABASE_URL: config.DATABASE_URL!, ISSUER, SECRET }
  const { code, stdout, stderr } = await start(t, 'cli', ['revoke-all', '--all', '--yes'], env)
    .ended
  t.match({ code, stdout }, { code: 1, stdout: '' })
  t.match(
    stderr,
    /^Some stayed locked by other transactions and are still alive\. Run it again\.$/m,
  )
  t.equal(await count(pool, 'registrations where revoked_at is null'), 1)
  await release()
})

test('what fails for another reason than that somebody holds it is not tried again', async (t) => {
  const { app, pool } = await testApp(t)
  const { registration_id: id } = await registerAnonymous(app)
  const holder = await pool.connect()
  await holder.query('begin')
  await holder.query('select from registrations where id = $1 for update', [id])
  let passes = 0
  const batches = async function* () {
    passes += 1
    // Held, until each is taken in turn.
    yield { ids: [passes <= 3 ? id : '\0'], subjects: [] }
  }
  await t.rejects(endAll(app.db, batches, DETAILS), { code: '22021' })
  t.equal(passes, 4)
  await holder.query('rollback')
  holder.release()

  let tries = 0
  const failing = (code: string) => () => {
    tries += 1
    return Promise.reject(Object.assign(new Error(code), { code }))
  }
  await t.rejects(retried(failing('22021')), { code: '22021' })
  t.equal(tries, 1)
  await t.rejects(retried(failing('55P03')), { code: '55P03' })
  t.equal(tries, 6)
})
