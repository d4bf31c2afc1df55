/** Revocation, introspection, and the API that tokens are for (PROTOCOL §9, RFC 6750). */
import { request } from 'node:http'
import { decodeJwt } from 'jose'
import { test } from 'tap'
import { hashSecret } from '../../src/domain/secrets.js'
import {
  callApi,
  exchange,
  ISSUER,
  linkToken,
  poll,
  postForm,
  postJson,
  registerAnonymous,
  registerFor,
  RESOURCE,
  testApp,
  type Sender,
} from '../fixtures/app.js'
import { Person } from '../fixtures/person.js'
import { listening } from '../fixtures/wire.js'

const REVOKE = '/oauth2/revoke'
const INTROSPECT = '/oauth2/introspect'
const FORM = { 'content-type': 'application/x-www-form-urlencoded' }
const RS = { id: 'rs_1', secret: 'rss_a:b+c %é' }

const basic = (id: string, secret: string) =>
  `Basic ${Buffer.from(`${encodeURIComponent(id)}:${encodeURIComponent(secret)}`).toString('base64')}`
const AUTHORIZED = { authorization: basic(RS.id, RS.secret) }

/** A registrar with a resource server that may introspect. */
async function registrar(t: Parameters<typeof testApp>[0]) {
  const { app, pool } = await testApp(t)
  await pool.query('insert into resource_servers (id, name, secret_hash) values ($1, $1, $2)', [
    RS.id,
    hashSecret(RS.secret),
  ])
  const isActive = async (token: string): Promise<boolean> =>
    (await postForm(app, INTROSPECT, { token }, AUTHORIZED)).json().active
  return { app, pool, isActive }
}

async function tokens(app: Sender) {
  const { registration_id, identity_assertion } = await registerAnonymous(app)
  const { access_token } = (await exchange(app, identity_assertion)).json()
  return { registration_id, assertion: identity_assertion as string, token: access_token as string }
}

/** The other signature over the same text that the curve's arithmetic allows: (r, n − s). */
function twinOf(token: string): string {
  const [header, payload, signature] = token.split('.') as [string, string, string]
  const order = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n
  const bytes = Buffer.from(signature, 'base64url')
  const s = order - BigInt(`0x${bytes.subarray(32).toString('hex')}`)
  const twin = Buffer.concat([
    bytes.subarray(0, 32),
    Buffer.from(s.toString(16).padStart(64, '0'), 'hex'),
  ])
  return `${header}.${payload}.${twin.toString('base64url')}`
}

test('POST /oauth2/revoke', async (t) => {
  const { app, isActive } = await registrar(t)
  const revoke = (form: Record<string, string> | [string, string][]) => postForm(app, REVOKE, form)

  t.test(
    '7009-01, 7009-02, 7009-03, 7009-04, 7009-09, 7009-11, B79: an access token dies whatever its hint says, and its assertion lives',
    async (t) => {
      for (const hint of [undefined, 'access_token', 'refresh_token', 'foo', 'access_token ', '']) {
        const { token, assertion } = await tokens(app)
        t.equal(await isActive(token), true)
        const answer = await revoke({
          token,
          callback: 'alert',
          ...(hint === undefined ? {} : { token_type_hint: hint }),
        })
        t.equal(answer.statusCode, 200)
        t.equal(answer.body, '')
        t.equal(answer.headers['cache-control'], 'no-store')
        t.equal(await isActive(token), false, String(hint))
        t.equal((await callApi(app, token)).statusCode, 401)
        t.equal((await exchange(app, assertion)).statusCode, 200)
      }
    },
  )

  t.test('an assertion that still exchanges, within the skew, can be revoked', async (t) => {
    const { token, assertion } = await tokens(app)
    const iat = Math.floor(Date.now() / 1000) - 3630
    const old = app.keys.sign('oauth-id-jag+jwt', { ...decodeJwt(assertion), iat, exp: iat + 3600 })
    t.equal((await exchange(app, old)).statusCode, 200)
    await revoke({ token: old })
    t.equal((await exchange(app, old)).json().error, 'invalid_grant')
    t.equal(await isActive(token), false)
  })

  t.test('7009-08: nobody authenticates to revoke, and who does is not asked who', async (t) => {
    const { token } = await tokens(app)
    const credentials = { authorization: `Basic ${btoa('example:wrong')}` }
    t.equal((await postForm(app, REVOKE, { token }, credentials)).statusCode, 200)
    t.equal(await isActive(token), false)
  })

  t.test(
    '7009-07: an assertion dies with everything derived from it, and nothing else does',
    async (t) => {
      const { token, assertion } = await tokens(app)
      const other = await tokens(app)
      const { access_token: second } = (await exchange(app, assertion)).json()
      t.equal((await revoke({ token: assertion })).statusCode, 200)
      t.same([await isActive(token), await isActive(second)], [false, false])
      t.equal((await exchange(app, assertion)).json().error, 'invalid_grant')
      t.equal(await isActive(other.token), true)
      t.equal((await exchange(app, other.assertion)).statusCode, 200)
    },
  )

  t.test(
    '7009-02, B78: what is not a living token of ours gets the same 200 and changes nothing',
    async (t) => {
      const { registration_id, token, assertion } = await tokens(app)
      const { claim_token, claim: block } = await registerFor(app, 'alice@example.com')
      const now = Math.floor(Date.now() / 1000)
      const expired = { ...decodeJwt(token), iat: now - 7200, exp: now - 3600 }
      const [header, payload] = token.split('.')
      const dead = (await revoke({ token: (await tokens(app)).token })).headers
      for (const other of [
        'x',
        'a.b.c',
        '..',
        '\0',
        `${token}=`,
        `${token}\n`,
        ` ${token}`,
        `${assertion}=`,
        `${header}.${payload}.`,
        registration_id,
        claim_token,
        linkToken(block),
        app.keys.sign('at+jwt', expired),
        app.keys.sign('at+jwt', { ...decodeJwt(token), iss: 'https://idp.example' }),
        app.keys.sign('at+jwt', { ...decodeJwt(token), aud: ISSUER }),
        app.keys.sign('JWT', decodeJwt(token)),
        app.keys.sign('oauth-id-jag+jwt', { ...decodeJwt(assertion), exp: now - 3600 }),
        app.keys.sign('oauth-id-jag+jwt', { ...decodeJwt(assertion), generation: 7 }),
      ]) {
        const answer = await revoke({ token: other })
        t.equal(answer.statusCode, 200, other)
        t.equal(answer.body, '')
        t.same(Object.keys(answer.headers), Object.keys(dead))
      }
      t.equal(await isActive(token), true)
      t.equal((await exchange(app, assertion)).statusCode, 200)
      t.equal((await poll(app, claim_token)).json().error, 'authorization_pending')
    },
  )

  t.test('7009-10: no other spelling of a revoked token is alive', async (t) => {
    const { token } = await tokens(app)
    t.equal(await isActive(twinOf(token)), true, 'the twin verifies')
    await revoke({ token })
    for (const spelling of [token, twinOf(token), `${token}=`, `${token}\n`])
      t.equal(await isActive(spelling), false)
    const other = (await tokens(app)).token
    await revoke({ token: twinOf(other) })
    t.equal(await isActive(other), false)
  })

  t.test('7009-05: token is required, once', async (t) => {
    const { token } = await tokens(app)
    for (const form of [
      [],
      [['token', '']],
      [
        ['token', token],
        ['token', token],
      ],
      [['token[]', token]],
      [
        ['token', token],
        ['token_type_hint', 'access_token'],
        ['token_type_hint', 'refresh_token'],
      ],
    ] as [string, string][][]) {
      const answer = await revoke(form)
      t.equal(answer.statusCode, 400)
      t.equal(answer.json().error, 'invalid_request')
    }
    t.equal(
      (await app.inject({ method: 'POST', url: `${REVOKE}?token=${token}`, headers: FORM }))
        .statusCode,
      400,
    )
    t.equal(await isActive(token), true)
  })
})

test('POST /oauth2/introspect', async (t) => {
  const { app, pool } = await registrar(t)
  const introspect = (token: string, headers: Record<string, string> = AUTHORIZED) =>
    postForm(app, INTROSPECT, { token }, headers)

  t.test('7662-02: an active token is its claims', async (t) => {
    const alice = await Person.signedIn(app, 'alice@example.com')
    const { claim_token, claim: block } = await registerFor(app, 'alice@example.com')
    await alice.confirm(linkToken(block), block.user_code)
    const { access_token } = (await poll(app, claim_token)).json()
    for (const token of [access_token, (await tokens(app)).token]) {
      const answer = await introspect(token)
      t.equal(answer.statusCode, 200)
      t.match(answer.headers, { 'cache-control': 'no-store', 'content-type': /^application\/json/ })
      const claims = decodeJwt(token)
      const { username: _name, sub_id: _account, ...told } = answer.json()
      t.same(told, { active: true, token_type: 'Bearer', ...claims })
    }
  })

  t.test('7662-03, 7662-06: anything else is exactly {"active":false}', async (t) => {
    const { registration_id, token, assertion } = await tokens(app)
    const claims = decodeJwt(token)
    const now = Math.floor(Date.now() / 1000)
    const others: Record<string, string> = {
      garbage: 'x',
      NUL: '\0',
      'an assertion': assertion,
      expired: app.keys.sign('at+jwt', { ...claims, exp: now - 1 }),
      'another iss': app.keys.sign('at+jwt', { ...claims, iss: 'https://idp.example' }),
      'another aud': app.keys.sign('at+jwt', { ...claims, aud: 'https://other.test' }),
      'no typ of ours': app.keys.sign('JWT', claims),
      'an unknown registration': app.keys.sign('at+jwt', {
        ...claims,
        registration_id: 'reg_0',
      }),
      'another generation': app.keys.sign('at+jwt', { ...claims, generation: 2 }),
    }
    for (const [what, other] of Object.entries(others)) {
      const answer = await introspect(other)
      t.equal(answer.statusCode, 200, what)
      t.equal(answer.body, '{"active":false}', what)
    }
    const hinted = await postForm(app, INTROSPECT, { token, token_type_hint: 'foo' }, AUTHORIZED)
    t.equal(hinted.json().active, true)
    await pool.query('update registrations set revoked_at = now() where id = $1', [registration_id])
    t.equal((await introspect(token)).body, '{"active":false}')
  })

  t.test('7662-01, 6749-13, B80: only resource servers are answered', async (t) => {
    const { token } = await tokens(app)
    const raw = (text: string) => `Basic ${Buffer.from(text, 'latin1').toString('base64')}`
    for (const authorization of [
      '',
      'Basic',
      'Basic !',
      `Bearer ${token}`,
      raw('rs_1'),
      raw(':'),
      raw(`:${RS.secret}`),
      raw('rs_1:%'),
      raw('rs_1:%00'),
      raw('rs_1%00:x'),
      raw('rs_\0:x'),
      raw('\xff\xfe:\xff'),
      basic(RS.id, ''),
      basic(RS.id, `${RS.secret} `),
      basic('rs_2', RS.secret),
      basic(RS.secret, RS.id),
      basic("' or 1=1 --", RS.secret),
      basic('x'.repeat(5000), RS.secret),
    ]) {
      const answer = await introspect(token, { authorization })
      t.equal(answer.statusCode, 401, authorization.slice(0, 60))
      t.equal(answer.json().error, 'invalid_client')
      t.match(answer.headers['www-authenticate'], /^Basic realm="[^"]+"/)
    }
    t.equal((await introspect(token, {})).statusCode, 401)
    t.equal((await introspect(token)).json().active, true)
  })

  t.test('7662-04, B82: token is required, once, and in the form', async (t) => {
    const { token } = await tokens(app)
    for (const form of [
      [],
      [['token', '']],
      [
        ['token', token],
        ['token', token],
      ],
    ] as [string, string][][]) {
      const answer = await postForm(app, INTROSPECT, form, AUTHORIZED)
      t.equal(answer.statusCode, 400)
      t.equal(answer.json().error, 'invalid_request')
    }
    const url = `${INTROSPECT}?token=${token}`
    t.equal((await app.inject({ url, headers: AUTHORIZED })).statusCode, 405)
    const json = {
      method: 'POST',
      url: INTROSPECT,
      headers: AUTHORIZED,
      payload: { token },
    } as const
    t.equal((await app.inject(json)).statusCode, 415)
  })
})

test('the example API, as a resource server', async (t) => {
  const { app } = await testApp(t)
  const METADATA = `resource_metadata="${ISSUER}/.well-known/oauth-protected-resource/api"`
  const { token, assertion } = await tokens(app)
  const get = (headers: Record<string, string> = {}) =>
    app.inject({ url: '/api/resource', headers })

  t.test('6750-07: a token opens what its scope says, the scheme in any case', async (t) => {
    for (const scheme of ['Bearer', 'bearer', 'BEARER', 'Bearer  ']) {
      const answer = await get({ authorization: `${scheme} ${token}` })
      t.equal(answer.statusCode, 200)
      t.match(answer.json(), { scope: 'api.read', sub: /^reg_/ })
    }
    const alice = await Person.signedIn(app, 'alice@example.com')
    const { claim_token, claim: block } = await registerFor(app, 'alice@example.com')
    await alice.confirm(linkToken(block), block.user_code)
    const { access_token } = (await poll(app, claim_token)).json()
    t.match((await callApi(app, access_token, 'POST')).json(), { sub: /^user_/ })
  })

  t.test(
    '6750-01, 6750-06: without a token in the header the challenge has no error',
    async (t) => {
      for (const answer of [
        await get(),
        await get({ authorization: '' }),
        await get({ authorization: 'Basic eDp5' }),
        await get({ authorization: `Bearerx ${token}` }),
        await app.inject({ url: `/api/resource?access_token=${token}` }),
        await postForm(app, '/api/resource', { access_token: token }),
        await postJson(app, '/api/resource', { access_token: token }),
        await postJson(app, '/api/resource', 'x'.repeat(1_000_000)),
      ]) {
        t.equal(answer.statusCode, 401)
        t.equal(answer.headers['www-authenticate'], `Bearer ${METADATA}`)
        t.equal(answer.headers['cache-control'], 'no-store')
      }
    },
  )

  t.test('6750-02, 6750-05, 9068-06: a token that does not count is invalid_token', async (t) => {
    const claims = decodeJwt(token)
    for (const authorization of [
      'Bearer',
      'Bearer ',
      'Bearer a b',
      `Bearer ${token} x`,
      `Bearer ${token},`,
      'Bearer "',
      `Bearer ${token}=`,
      `Bearer ${assertion}`,
      `Bearer ${app.keys.sign('JWT', claims)}`,
      `Bearer ${app.keys.sign('at+jwt', { ...claims, aud: `${RESOURCE}/` })}`,
      `Bearer ${app.keys.sign('at+jwt', { ...claims, exp: Math.floor(Date.now() / 1000) })}`,
      `Bearer ${'x'.repeat(8000)}`,
    ]) {
      const answer = await get({ authorization })
      t.equal(answer.statusCode, 401, authorization.slice(0, 60))
      t.equal(answer.headers['www-authenticate'], `Bearer ${METADATA}, error="invalid_token"`)
      t.equal(answer.json().error, 'invalid_token')
    }
  })

  t.test('6750-03: a token that lacks a scope is insufficient', async (t) => {
    const answer = await callApi(app, token, 'POST')
    t.equal(answer.statusCode, 403)
    t.equal(
      answer.headers['www-authenticate'],
      `Bearer ${METADATA}, error="insufficient_scope", scope="api.write"`,
    )
    t.equal(answer.json().error, 'insufficient_scope')
  })

  t.test(
    '6750-04: two Authorization headers are refused, a header that mentions one is not',
    async (t) => {
      const { url } = await listening(app)
      const status = (headers: string[]) =>
        new Promise((resolve, reject) => {
          const sent = request(`${url}/api/resource`, {
            headers: ['Host', 'x', 'Connection', 'close', ...headers],
          })
          sent
            .on('error', reject)
            .on('response', (answer) => resolve(answer.resume().statusCode))
            .end()
        })
      const one = ['Authorization', `Bearer ${token}`]
      t.equal(await status(one), 200)
      t.equal(await status([...one, 'X-Wanted', 'authorization']), 200)
      t.equal(await status([...one, 'authorization', `Bearer ${token}`]), 400)
      t.equal(await status([...one, 'AUTHORIZATION', 'Basic eDp5']), 400)
    },
  )
})
