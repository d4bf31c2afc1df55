/** Two replicas as processes on one database, one of which dies under load or has the wrong time (CONFORMANCE §14). */
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { test, type Test } from 'tap'
import * as agents from './fixtures/app.js'
import { testDatabase } from './fixtures/database.js'
import { Person } from './fixtures/person.js'
import { startServer } from './fixtures/process.js'
import { count } from './fixtures/replicas.js'
import { over } from './fixtures/wire.js'

const COMPLETE = '/agent/identity/claim/complete'
const MAIN = join(import.meta.dirname, '../bench/chaos/main.js')
const CLOCK = pathToFileURL(join(import.meta.dirname, 'fixtures/clock.js')).href

/** Through the first that answers with anything but 503, again and again. */
function insistent(urls: () => string[]): agents.Sender {
  let turn = 0
  return {
    async inject(options) {
      for (;;) {
        const alive = urls()
        const answer = await over(alive[turn++ % alive.length]!)
          .inject(options)
          .catch(() => undefined)
        if (answer && answer.statusCode !== 503) return answer
        await sleep(20)
      }
    },
  }
}

test('C37, C38: what was acknowledged holds when a replica is killed under load, again and again', async (t) => {
  const { url: DATABASE_URL, pool } = await testDatabase(t)
  const one = await startServer(t, { DATABASE_URL })
  let two = await startServer(t, { DATABASE_URL })
  const app = insistent(() => [one.url, two.url])
  const person = await Person.signedIn(app, 'alice@example.com')
  const told = {
    registered: [] as string[],
    claimed: [] as { registration_id: string; identity_assertion: string }[],
    revoked: [] as string[],
  }
  const load = { over: false }

  async function registerAndRevoke(): Promise<void> {
    while (!load.over) {
      const { identity_assertion: token } = await agents.registerAnonymous(app)
      if (told.registered.length % 2) {
        told.registered.push(token)
        continue
      }
      const revoked = await agents.postForm(app, '/oauth2/revoke', { token })
      t.equal(revoked.statusCode, 200)
      told.revoked.push(token)
      told.registered.push((await agents.registerAnonymous(app)).identity_assertion)
    }
  }

  async function confirmAndPoll(): Promise<void> {
    while (!load.over) {
      const { registration_id, claim, claim_token } = await agents.registerFor(app, person.email)
      const form = { claim_attempt_token: agents.linkToken(claim), user_code: claim.user_code }
      const confirmed = await person.submit(COMPLETE, form)
      t.ok([200, 303].includes(confirmed.statusCode), 'now, or already')
      const polled = await agents.poll(app, claim_token)
      t.equal(polled.statusCode, 200)
      told.claimed.push({
        registration_id,
        identity_assertion: polled.json().identity_assertion,
      })
    }
  }

  await person.get('/')
  const workers = [registerAndRevoke(), registerAndRevoke(), confirmAndPoll()]
  for (let kills = 1; kills <= 3; kills += 1) {
    const goal = told.claimed.length + 3
    while (told.claimed.length < goal) await sleep(10)
    two.child.kill('SIGKILL')
    await two.ended
    two = await startServer(t, { DATABASE_URL })
  }
  load.over = true
  await Promise.all(workers)

  for (const assertion of told.registered)
    t.equal((await agents.exchange(app, assertion)).statusCode, 200, 'every registration')
  for (const assertion of told.revoked)
    t.equal((await agents.exchange(app, assertion)).statusCode, 400, 'every revocation')
  for (const { registration_id, identity_assertion } of told.claimed) {
    const { scope } = (await agents.exchange(app, identity_assertion)).json()
    t.equal(scope, 'api.read api.write', 'every claim')
    const claims = `audit_events where event = 'claim.confirmed' and registration_id = $1`
    t.equal(await count(pool, claims, registration_id), 1)
  }
})

for (const minutes of [5, -5])
  test(`C42: a replica whose clock is ${minutes} minutes off is unready, and revives nothing`, async (t) => {
    const { url: DATABASE_URL, pool } = await testDatabase(t)
    const { app } = await agents.testReplica(t, DATABASE_URL)
    const wrong = await startServer(t, {
      DATABASE_URL,
      NODE_OPTIONS: `--import=${CLOCK}`,
      CLOCK_OFFSET_SECONDS: String(minutes * 60),
    })
    const off = over(wrong.url)
    t.equal((await off.inject({ url: '/readyz' })).statusCode, 503)
    while (!/clock and the database's are (299|300|301) s apart/.test(wrong.said.stdout))
      await sleep(10)
    t.equal((await app.inject('/readyz')).statusCode, 200)
    await decidesByTheDatabase(t, pool, app, off)
  })

/** Codes, links, claim windows and graces, at the replica whose clock is off: they go by the database's clock. */
async function decidesByTheDatabase(
  t: Test,
  pool: Awaited<ReturnType<typeof testDatabase>>['pool'],
  app: Awaited<ReturnType<typeof agents.testReplica>>['app'],
  off: agents.Sender,
) {
  const alice = await Person.signedIn(app, 'alice@example.com')
  const there = alice.at(off)
  await there.get('/')
  const ceremony = async (seconds: number) => {
    const registration = await agents.registerFor(app, alice.email)
    const { registration_id, claim } = registration
    await pool.query(
      `update claim_attempts set expires_at = now() + make_interval(secs => $2)
       where registration_id = $1`,
      [registration_id, seconds],
    )
    const form = { claim_attempt_token: agents.linkToken(claim), user_code: claim.user_code }
    return { ...registration, form }
  }
  const late = await ceremony(-30)
  t.equal((await there.submit(COMPLETE, late.form)).statusCode, 410, 'over for half a minute')
  t.equal((await agents.poll(off, late.claim_token)).json().error, 'expired_token')
  const soon = await ceremony(120)
  t.equal((await there.submit(COMPLETE, soon.form)).statusCode, 303, 'for two minutes more')
  t.equal((await agents.poll(off, soon.claim_token)).statusCode, 200)
  await pool.query(
    `update registrations set claim_token_used_at = now() - interval '61 s' where id = $1`,
    [soon.registration_id],
  )
  t.equal((await agents.poll(off, soon.claim_token)).json().error, 'expired_token')

  const anonymous = await agents.registerAnonymous(app)
  await pool.query(
    `update registrations set claim_expires_at = now() - interval '30 s' where id = $1`,
    [anonymous.registration_id],
  )
  const started = await agents.postJson(off, '/agent/identity/claim', {
    claim_token: anonymous.claim_token,
    login_hint: alice.email,
  })
  t.equal(started.statusCode, 410)
}

test('npm run chaos says what it can be told, and what it does not understand', async (t) => {
  const chaos = (...args: string[]) =>
    promisify(execFile)(process.execPath, [MAIN, ...args]).then(
      ({ stdout }) => ({ code: 0, stdout, stderr: '' }),
      (error) => error as { code: number; stdout: string; stderr: string },
    )
  for (const option of ['--help', '-h'])
    t.match(await chaos(option), { code: 0, stdout: /^Usage: .*--seconds N.*--no-nginx/s })
  for (const [args, why] of [
    [['--sceonds', '5'], /Unknown option '--sceonds'/],
    [['--seconds', '1.5'], /^--seconds: a whole number, from 1$/m],
    [['--seconds'], /argument missing/],
    [['60'], /Unexpected argument '60'/],
  ] as const) {
    const { code, stdout, stderr } = await chaos(...args)
    t.same([code, stdout], [2, ''])
    t.match(stderr, why)
    t.notMatch(stderr, /^ +at |\.js:\d/m, 'no stack')
    t.match(stderr, /--help/)
  }
})
