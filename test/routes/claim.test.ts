/** POST /agent/identity/claim, and the claim grant that waits for its end (PROTOCOL §6, §8). */
import { decodeJwt } from 'jose'
import type pg from 'pg'
import { setTimeout as sleep } from 'node:timers/promises'
import { test } from 'tap'
import {
  callApi,
  exchange,
  linkToken,
  poll,
  postForm,
  postJson,
  registerAnonymous,
  registerFor,
  testApp,
  testReplica,
} from '../fixtures/app.js'
import { NO_ADDRESS } from '../fixtures/login-hints.js'
import { Person } from '../fixtures/person.js'

const CLAIM = '/agent/identity/claim'
const ALICE = 'alice@example.com'
const ISO = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/
const CEREMONY = {
  user_code: /^\d{6}$/,
  expires_in: 600,
  interval: 5,
  verification_uri:
    /^http:\/\/localhost:8000\/login\?return_to=%2Fclaim%3Fclaim_attempt_token%3Dcat_[\w-]{43}$/,
}

test('POST /agent/identity/claim', async (t) => {
  const { app, config, pool } = await testApp(t)
  const alice = await Person.signedIn(app, ALICE)
  const bob = await Person.signedIn(app, 'bob@example.com')
  const claim = (body: object) => postJson(app, CLAIM, body)
  const age = (id: string, column: string) =>
    pool.query(`update registrations set ${column} = now() - interval '1 second' where id = $1`, [
      id,
    ])

  t.test(
    'PROTOCOL §6: a ceremony is started under each of the names that the hint has',
    async (t) => {
      for (const body of [
        { type: 'login_hint', login_hint: ALICE },
        { login_hint: ALICE },
        { email: ALICE },
        { type: 'login_hint', email: ALICE },
      ]) {
        const { registration_id, claim_token } = await registerAnonymous(app)
        const answer = await claim({ ...body, claim_token })
        t.equal(answer.statusCode, 200, JSON.stringify(body))
        t.equal(answer.headers['cache-control'], 'no-store')
        t.match(answer.json(), {
          registration_id,
          claim_attempt_id: /^cla_[\w-]{22}$/,
          status: 'initiated',
          expires_at: ISO,
          claim_attempt: CEREMONY,
        })
        t.equal(Object.keys(answer.json()).length, 5)
        const lifetime = Date.parse(answer.json().expires_at) - Date.now()
        t.ok(Math.abs(lifetime - 600_000) < 60_000)
      }
    },
  )

  t.test(
    'an anonymous registration needs a hint for its first ceremony, and keeps the last',
    async (t) => {
      const { claim_token } = await registerAnonymous(app)
      t.equal((await claim({ claim_token })).json().error, 'invalid_request')
      t.equal((await claim({ claim_token, login_hint: ALICE })).statusCode, 200)
      const { claim_attempt } = (await claim({ claim_token })).json()
      t.equal((await alice.openClaim(linkToken(claim_attempt))).statusCode, 200)
    },
  )

  t.test(
    'PRF-15, B45: a renewal kills the older link and code, and may carry a corrected hint',
    async (t) => {
      for (const register of [
        async () => registerFor(app, ALICE),
        async () => {
          const registered = await registerAnonymous(app)
          const { claim_attempt } = (
            await claim({ claim_token: registered.claim_token, login_hint: ALICE })
          ).json()
          return { ...registered, claim: claim_attempt }
        },
      ]) {
        const { claim_token, claim: first } = await register()
        const again = (await claim({ claim_token, login_hint: 'bob@example.com' })).json()
        const second = again.claim_attempt
        t.not(second.verification_uri, first.verification_uri)
        t.equal((await alice.openClaim(linkToken(first))).statusCode, 404)
        t.equal((await alice.confirm(linkToken(first), first.user_code)).statusCode, 404)
        t.equal((await alice.openClaim(linkToken(second))).statusCode, 403)
        t.equal((await bob.confirm(linkToken(second), second.user_code)).statusCode, 303)
        t.equal((await poll(app, claim_token)).statusCode, 200)
      }
    },
  )

  t.test('PRF-14, B42, B43: only a claim token that is known opens anything', async (t) => {
    const { registration_id, claim_token, claim: block } = await registerFor(app, ALICE)
    for (const wrong of [
      `clm_${'A'.repeat(43)}`,
      claim_token.slice(0, -1),
      claim_token.toUpperCase(),
      ` ${claim_token}`,
      `${claim_token}\n`,
      `${claim_token}\0`,
      '\uD800',
      registration_id,
      block.user_code,
      linkToken(block),
    ]) {
      const answer = await claim({ claim_token: wrong, login_hint: ALICE })
      t.equal(answer.statusCode, 401, JSON.stringify(wrong))
      t.match(answer.json(), { error: 'invalid_claim_token', message: /not known/ })
      // RFC 9110 §15.5.2: no 401 is without a challenge.
      t.equal(answer.headers['www-authenticate'], 'AgentAuth error="invalid_claim_token"')
    }
  })

  t.test('B42, PRF-06: other bodies are refused before the token is looked at', async (t) => {
    const { claim_token } = await registerAnonymous(app)
    for (const body of [
      {},
      { login_hint: ALICE },
      { claim_token: '' },
      { claim_token: [claim_token] },
      { claim_token: null },
      { claim_token, login_hint: '' },
      { claim_token, email: '' },
      { claim_token, login_hint: [ALICE] },
      { claim_token, login_hint: ALICE, email: ALICE },
      { claim_token, type: 'anonymous' },
      { claim_token, type: null },
    ]) {
      const answer = await claim(body)
      t.equal(answer.statusCode, 400, JSON.stringify(body))
      t.equal(answer.json().error, 'invalid_request', JSON.stringify(body))
    }
    for (const hint of NO_ADDRESS)
      for (const name of ['login_hint', 'email']) {
        const answer = await claim({ claim_token, [name]: hint })
        t.equal(answer.statusCode, 400)
        t.equal(answer.json().error, 'invalid_login_hint')
      }
  })

  t.test('PRF-14, B47: claimed is 409; past its window or revoked is 410', async (t) => {
    const claimed = await registerFor(app, ALICE)
    await alice.confirm(linkToken(claimed.claim), claimed.claim.user_code)
    const expired = await registerFor(app, ALICE)
    await age(expired.registration_id, 'claim_expires_at')
    const revoked = await registerFor(app, ALICE)
    await age(revoked.registration_id, 'revoked_at')
    for (const [{ claim_token }, status, error] of [
      [claimed, 409, 'claimed_or_in_flight'],
      [expired, 410, 'claim_expired'],
      [revoked, 410, 'claim_expired'],
    ] as const)
      for (const body of [{ claim_token }, { claim_token, login_hint: 'bob@example.com' }]) {
        const answer = await claim(body)
        t.equal(answer.statusCode, status)
        t.equal(answer.json().error, error)
      }
    await age(claimed.registration_id, 'revoked_at')
    t.equal((await claim({ claim_token: claimed.claim_token })).statusCode, 410)
  })

  t.test('PRF-17: when the ceremony is over the same claim token starts another', async (t) => {
    const { claim_token, claim: block } = await registerFor(app, ALICE)
    await alice.decline(linkToken(block))
    t.equal((await poll(app, claim_token)).json().error, 'access_denied')
    t.equal((await claim({ claim_token })).statusCode, 200)
    t.equal((await poll(app, claim_token)).json().error, 'authorization_pending')
  })

  t.test('RFC 8628 §3.2: no link and no code is said to outlive the claim window', async (t) => {
    const { claim_token, registration_id, claim_token_expires } = await registerAnonymous(app)
    await pool.query(
      `update registrations set claim_expires_at = now() + interval '9.5 seconds' where id = $1`,
      [registration_id],
    )
    const { claim_attempt, expires_at } = (await claim({ claim_token, email: ALICE })).json()
    t.ok(claim_attempt.expires_in > 0 && claim_attempt.expires_in < 10, claim_attempt.expires_in)
    t.ok(Date.parse(expires_at) < Date.now() + 10_000 && expires_at < claim_token_expires)
    const brief = await testReplica(t, config.DATABASE_URL!, { CLAIM_WINDOW_SECONDS: '60' })
    t.equal((await registerFor(brief.app, ALICE)).claim.expires_in, 60)
  })

  t.test('8628-07: renewals do not buy wrong codes without end', async (t) => {
    const { registration_id, claim_token } = await registerFor(app, ALICE)
    const set = (assignment: string) =>
      pool.query(`update claim_attempts set ${assignment} where registration_id = $1`, [
        registration_id,
      ])
    await set('wrong_codes = 14')
    t.equal((await claim({ claim_token })).statusCode, 200)
    await set('wrong_codes = 8')
    const refused = await claim({ claim_token })
    t.equal(refused.statusCode, 429)
    t.equal(refused.json().error, 'rate_limited')
    t.match(refused.headers, { 'retry-after': /^\d+$/, 'cache-control': 'no-store' })
    await set(`requested_at = now() - interval '25 hours'`)
    t.equal((await claim({ claim_token })).statusCode, 200)
  })

  t.test('PRF-12: a ceremony that nobody has confirmed gives nothing', async (t) => {
    const { claim_token, claim: block } = await registerFor(app, ALICE)
    for (const assertion of [claim_token, linkToken(block), block.user_code])
      t.equal((await exchange(app, assertion)).json().error, 'invalid_grant')
    t.equal((await postForm(app, '/oauth2/revoke', { token: claim_token })).statusCode, 200)
    t.equal((await poll(app, claim_token)).json().error, 'authorization_pending')
  })
})

test('the claim grant', async (t) => {
  const { app, pool } = await testApp(t)
  const alice = await Person.signedIn(app, ALICE)
  const errorOf = async (claimToken: string) => (await poll(app, claimToken)).json().error
  const claimed = async () => {
    const registered = await registerFor(app, ALICE)
    await alice.confirm(linkToken(registered.claim), registered.claim.user_code)
    return registered
  }
  const set = (id: string, assignment: string) =>
    pool.query(`update registrations set ${assignment} where id = $1`, [id])
  const setAttempt = (id: string, assignment: string) =>
    pool.query(`update claim_attempts set ${assignment} where registration_id = $1`, [id])
  /** As if the last poll had been that long ago. */
  const wait = (id: string, seconds: number) =>
    pool.query(
      'update poll_states set polled_at = now() - make_interval(secs => $2) where registration_id = $1',
      [id, seconds],
    )

  t.test(
    '8628-01, 8628-02, CIBA-05, B76: who polls too early is slowed down for good',
    async (t) => {
      const { registration_id: id, claim_token } = await registerFor(app, ALICE)
      t.equal(await errorOf(claim_token), 'authorization_pending', 'the first poll')
      t.equal(await errorOf(claim_token), 'slow_down', 'at once: from now on 10 s')
      const steps: [waited: number, answer: string][] = [
        [5, 'slow_down'], // 15 s
        [15, 'authorization_pending'],
        [14, 'slow_down'], // 20 s
        [19.5, 'slow_down'], // 25 s
        [25, 'authorization_pending'],
        [24.95, 'authorization_pending'],
        [3600, 'authorization_pending'],
        [24, 'slow_down'],
      ]
      for (const [waited, answer] of steps) {
        await wait(id, waited)
        t.equal(await errorOf(claim_token), answer, `after ${waited} s`)
      }
      await postJson(app, CLAIM, { claim_token })
      t.equal(await errorOf(claim_token), 'authorization_pending', 'the first poll of a renewal')
      await wait(id, 5)
      t.equal(await errorOf(claim_token), 'authorization_pending', 'at its interval')
    },
  )

  t.test('a registration without a ceremony waits for one', async (t) => {
    const { claim_token } = await registerAnonymous(app)
    const answer = await poll(app, claim_token)
    t.equal(answer.statusCode, 400)
    t.match(answer.headers, { 'cache-control': 'no-store', pragma: 'no-cache' })
    t.equal(answer.json().error, 'authorization_pending')
    t.equal(await errorOf(claim_token), 'slow_down')
  })

  t.test(
    'PRF-17, 8628-03, 8628-04: each end of a ceremony has its answer, and keeps it',
    async (t) => {
      const cases: [
        what: string,
        change: (id: string) => Promise<unknown>,
        error: string,
        renewed: number,
      ][] = [
        ['code past its time', (id) => setAttempt(id, 'expires_at = now()'), 'expired_token', 200],
        ['too many wrong codes', (id) => setAttempt(id, 'wrong_codes = 5'), 'expired_token', 200],
        ['declined', (id) => setAttempt(id, 'declined_at = now()'), 'access_denied', 200],
        ['window over', (id) => set(id, 'claim_expires_at = now()'), 'expired_token', 410],
        ['revoked', (id) => set(id, 'revoked_at = now()'), 'access_denied', 410],
        [
          'deleted',
          (id) => pool.query('delete from registrations where id = $1', [id]),
          'expired_token',
          401,
        ],
      ]
      for (const [what, change, error, renewed] of cases) {
        const { registration_id, claim_token } = await registerFor(app, ALICE)
        await change(registration_id)
        t.same([await errorOf(claim_token), await errorOf(claim_token)], [error, error], what)
        t.equal((await postJson(app, CLAIM, { claim_token })).statusCode, renewed, what)
      }
    },
  )

  t.test('B77: what is no claim token is expired', async (t) => {
    const { registration_id, claim_token, claim: block } = await registerFor(app, ALICE)
    for (const wrong of [
      `${claim_token} `,
      'x',
      '\0',
      registration_id,
      block.user_code,
      linkToken(block),
    ])
      t.equal(await errorOf(wrong), 'expired_token')
  })

  t.test(
    'PRF-18, PRF-19: a confirmed claim gives the post-claim scopes and an assertion that names the person',
    async (t) => {
      const { registration_id, claim_token } = await claimed()
      const answer = await poll(app, claim_token)
      t.equal(answer.statusCode, 200)
      t.match(answer.headers, { 'cache-control': 'no-store', pragma: 'no-cache' })
      const { access_token, identity_assertion, assertion_expires, ...rest } = answer.json()
      t.same(rest, { token_type: 'Bearer', expires_in: 3600, scope: 'api.read api.write' })
      const claims = decodeJwt(identity_assertion)
      t.match(claims, { sub: registration_id, email: ALICE, email_verified: true })
      t.equal(Date.parse(assertion_expires), claims.exp! * 1000)
      t.match(decodeJwt(access_token), { sub: /^user_/, client_id: registration_id })
      t.notOk(JSON.stringify(decodeJwt(access_token)).includes(ALICE))
      t.equal((await callApi(app, access_token, 'POST')).statusCode, 200)
      t.equal((await exchange(app, identity_assertion)).statusCode, 200)
    },
  )

  t.test('PROTOCOL §8: a claim token answers for 60 s after its first success', async (t) => {
    const { registration_id: id, claim_token } = await claimed()
    const first = (await poll(app, claim_token)).json()
    const waits = 'select from poll_states where registration_id = $1'
    t.equal((await pool.query(waits, [id])).rowCount, 0, 'nobody waits any more')
    const used = (seconds: number) =>
      set(id, `claim_token_used_at = now() - interval '${seconds} seconds'`)
    await used(55)
    const second = (await poll(app, claim_token)).json()
    t.not(second.access_token, first.access_token)
    await used(61)
    t.equal(await errorOf(claim_token), 'expired_token')
    for (const { access_token, identity_assertion } of [first, second]) {
      t.equal((await callApi(app, access_token)).statusCode, 200)
      t.equal((await exchange(app, identity_assertion)).statusCode, 200)
    }
    await set(id, 'revoked_at = now()')
    t.equal(await errorOf(claim_token), 'access_denied')
  })

  t.test('a claim that nobody fetches ends with the claim window', async (t) => {
    const { registration_id: id, claim_token } = await claimed()
    await set(
      id,
      `claimed_at = now() - interval '2 hours', claim_expires_at = now() + interval '1 hour'`,
    )
    const { rows } = await pool.query(
      'select claim_token_used_at from registrations where id = $1',
      [id],
    )
    t.same(rows, [{ claim_token_used_at: null }])
    await set(id, `claim_expires_at = now() - interval '1 hour'`)
    t.equal(await errorOf(claim_token), 'expired_token')
    await set(id, `claim_expires_at = now() + interval '1 hour'`)
    t.equal((await poll(app, claim_token)).statusCode, 200)
  })

  t.test('C20: a revocation that comes between a poll and its answer wins', async (t) => {
    const { registration_id: id, claim_token } = await claimed()
    const revocation = await pool.connect()
    await revocation.query('begin')
    await revocation.query('update registrations set revoked_at = now() where id = $1', [id])
    const answer = poll(app, claim_token)
    await untilSomebodyWaits(pool)
    await revocation.query('commit')
    revocation.release()
    t.equal((await answer).statusCode, 400)
    t.notOk((await answer).json().access_token)
  })
})

async function untilSomebodyWaits(pool: pg.Pool): Promise<void> {
  const waiting = `select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`
  while ((await pool.query(waiting)).rowCount === 0) await sleep(5)
}
