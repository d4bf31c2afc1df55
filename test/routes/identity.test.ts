/** POST /agent/identity without a provider (PROTOCOL §5). */
import { decodeJwt, decodeProtectedHeader } from 'jose'
import { test } from 'tap'
import { ISSUER, postJson, registerFor, testApp, testReplica } from '../fixtures/app.js'
import { NO_ADDRESS } from '../fixtures/login-hints.js'
import { Person } from '../fixtures/person.js'

const IDENTITY = '/agent/identity'
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

test('POST /agent/identity', async (t) => {
  const { app, config, pool } = await testApp(t)
  const count = async (table: string): Promise<number> =>
    (await pool.query(`select count(*)::int as n from ${table}`)).rows[0].n

  t.test('RFC 8259 §8.1: JSON that is no UTF-8 is malformed', async (t) => {
    const headers = { 'content-type': 'application/json' }
    const send = (payload: Buffer) =>
      app.inject({ method: 'POST', url: '/agent/identity', headers, payload })
    const body = (bytes: number[]) =>
      Buffer.concat([
        Buffer.from('{"type":"anonymous","x":"'),
        Buffer.from(bytes),
        Buffer.from('"}'),
      ])
    t.equal((await send(body([0xc3, 0xa9]))).statusCode, 200)
    for (const bytes of [[0xff], [0xc0, 0x80], [0xed, 0xa0, 0x80], [0xc3]]) {
      const answer = await send(body(bytes))
      t.equal(answer.statusCode, 400)
      t.equal(answer.json().error, 'invalid_request')
      t.ok(answer.json().message)
    }
  })

  t.test(
    'PRF-04, PRF-23: an anonymous agent gets an assertion and a claim token at once',
    async (t) => {
      const answer = await postJson(app, IDENTITY, { type: 'anonymous' })
      t.equal(answer.statusCode, 200)
      t.equal(answer.headers['cache-control'], 'no-store')
      const body = answer.json()
      t.same(Object.keys(body).toSorted(), [
        'assertion_expires',
        'claim_token',
        'claim_token_expires',
        'claim_url',
        'identity_assertion',
        'post_claim_scopes',
        'pre_claim_scopes',
        'registration_id',
        'registration_type',
      ])
      t.match(body, {
        registration_id: /^reg_[\w-]{22}$/,
        registration_type: 'anonymous',
        claim_url: ISSUER + CLAIM,
        claim_token: /^clm_[\w-]{43}$/,
        claim_token_expires: ISO,
        assertion_expires: ISO,
      })
      t.same(body.pre_claim_scopes, ['api.read'])
      t.same(body.post_claim_scopes, ['api.read', 'api.write'])
      const window = Date.parse(body.claim_token_expires) - Date.now()
      t.ok(Math.abs(window - 86_400_000) < 60_000)

      const { kid, ...header } = decodeProtectedHeader(body.identity_assertion)
      t.same(header, { alg: 'ES256', typ: 'oauth-id-jag+jwt' })
      t.equal(kid, app.keys.jwks.keys[0]?.kid)
      const { jti, iat, exp, ...claims } = decodeJwt(body.identity_assertion)
      t.same(claims, { iss: ISSUER, aud: ISSUER, sub: body.registration_id, generation: 1 })
      t.match(jti, /^[\w-]{22}$/)
      t.equal(exp! - iat!, 3600)
      t.equal(Date.parse(body.assertion_expires), exp! * 1000)
    },
  )

  t.test(
    'PRF-05, PRF-07, 8628-06, HTTP-10: with a hint there is a ceremony and no assertion yet',
    async (t) => {
      const answer = await postJson(app, IDENTITY, { type: 'service_auth', login_hint: ALICE })
      t.equal(answer.statusCode, 200)
      t.equal(answer.headers['cache-control'], 'no-store')
      const body = answer.json()
      t.same(Object.keys(body).toSorted(), [
        'claim',
        'claim_token',
        'claim_token_expires',
        'claim_url',
        'post_claim_scopes',
        'registration_id',
        'registration_type',
      ])
      t.match(body, {
        registration_type: 'service_auth',
        claim_url: ISSUER + CLAIM,
        claim: CEREMONY,
      })
      t.same(Object.keys(body.claim).toSorted(), Object.keys(CEREMONY).toSorted())
      const { verification_uri, user_code } = body.claim
      t.notOk(verification_uri.includes(user_code) || verification_uri.includes(body.claim_token))
    },
  )

  t.test(
    'CIBA-02: a known address and an unknown one get the same answer, and no account',
    async (t) => {
      await Person.signedIn(app, 'known@example.com')
      const users = await count('users')
      const known = await registerFor(app, 'known@example.com')
      const unknown = await registerFor(app, 'unknown@example.com')
      const shape = (body: object) =>
        JSON.stringify(body).replace(/_[\w-]{43}|_[\w-]{22}|\d+/g, '#')
      t.equal(shape(known), shape(unknown))
      t.equal(await count('users'), users)
    },
  )

  t.test('CIBA-04: a hint is kept in one form', async (t) => {
    const cases: [hint: string, kept: string][] = [
      ['  Alice@EXAMPLE.com ', ALICE],
      ['alice+tag@example.com', 'alice+tag@example.com'],
      ['a.l.i.c.e@example.com', 'a.l.i.c.e@example.com'],
      ['ju\u0308rgen@b\u00FCcher.example', 'j\u00FCrgen@xn--bcher-kva.example'],
      [`${'a'.repeat(64)}@x.yy`, `${'a'.repeat(64)}@x.yy`],
    ]
    for (const [hint, kept] of cases) {
      const { registration_id } = await registerFor(app, hint)
      const { rows } = await pool.query(
        'select login_hint from claim_attempts where registration_id = $1',
        [registration_id],
      )
      t.same(rows, [{ login_hint: kept }])
    }
  })

  t.test(
    'PRF-06, B11, B13: a hint that is no address is refused, and nothing is kept',
    async (t) => {
      const before = await count('audit_events')
      for (const login_hint of NO_ADDRESS) {
        const answer = await postJson(app, IDENTITY, { type: 'service_auth', login_hint })
        t.equal(answer.statusCode, 400, JSON.stringify(login_hint).slice(0, 60))
        t.equal(answer.json().error, 'invalid_login_hint')
        t.notOk(answer.body.includes('x.yy') || answer.body.includes('alice'), 'no echo')
      }
      t.equal(await count('audit_events'), before)
    },
  )

  t.test('PRF-06, B05, B08, B14, B15: other bodies are invalid_request', async (t) => {
    const ID_JAG = 'urn:ietf:params:oauth:token-type:id-jag'
    for (const body of [
      {},
      { type: null },
      { type: 1 },
      { type: {} },
      { type: ['anonymous'] },
      { type: 'Anonymous' },
      { type: 'anonymous ' },
      { type: 'constructor' },
      { type: 'agent' },
      { type: 'service_auth' },
      { type: 'service_auth', login_hint: '' },
      { type: 'service_auth', login_hint: null },
      { type: 'service_auth', login_hint: [ALICE] },
      { type: 'service_auth', login_hint: { email: ALICE } },
      { type: 'service_auth', login_hint: 1 },
      { type: 'service_auth', email: ALICE },
      { type: 'verified_email', email: ALICE },
      { login_hint: ALICE },
      { type: 'identity_assertion' },
      { type: 'identity_assertion', assertion: 'a.b.c' },
      { type: 'identity_assertion', assertion_type: 'urn:x:jwt', assertion: 'a.b.c' },
      { type: 'identity_assertion', assertion_type: ID_JAG, assertion: '' },
      { type: 'identity_assertion', assertion_type: ID_JAG, assertion: ['a.b.c'] },
      { type: 'identity_assertion', assertion_type: ID_JAG, assertion: {} },
    ]) {
      const answer = await postJson(app, IDENTITY, body)
      t.equal(answer.statusCode, 400, JSON.stringify(body))
      t.equal(answer.json().error, 'invalid_request', JSON.stringify(body))
      t.equal(answer.json().message, answer.json().error_description)
    }
    for (const type of [null, 1, 'Anonymous', 'verified_email'])
      t.match((await postJson(app, IDENTITY, { type })).json(), { message: 'type is not valid.' })
  })

  t.test(
    'PRF-03: a type that is switched off is told as such, whatever else is wrong',
    async (t) => {
      for (const [on, ...off] of [
        ['anonymous', 'service_auth', 'identity_assertion'],
        ['service_auth', 'anonymous'],
      ]) {
        const replica = await testReplica(t, config.DATABASE_URL!, { IDENTITY_TYPES: on! })
        for (const type of off)
          for (const body of [{ type }, { type, login_hint: 5, assertion: '' }]) {
            const answer = await postJson(replica.app, IDENTITY, body)
            t.match(answer.json(), { error: `${type}_not_enabled` })
            t.equal(answer.statusCode, 400)
          }
        for (const body of ['null', '[]', '"x"', '{"type":"toString"}', '{"type":["anonymous"]}']) {
          const headers = { 'content-type': 'application/json' }
          const answer = await replica.app.inject({
            method: 'POST',
            url: IDENTITY,
            headers,
            payload: body,
          })
          t.match(answer.json(), { error: 'invalid_request' }, body)
        }
      }
    },
  )

  t.test('CIBA-01: members that are not ours are ignored', async (t) => {
    const more = {
      id_token_hint: 'x',
      login_hint_token: 'y',
      name: 'Evil',
      registration_id: 'reg_1',
    }
    const { registration_id } = (
      await postJson(app, IDENTITY, { type: 'service_auth', login_hint: ALICE, ...more })
    ).json()
    t.not(registration_id, 'reg_1')
  })
})
