/** The jwt-bearer grant (PROTOCOL §8). */
import { decodeJwt, decodeProtectedHeader, generateKeyPair, SignJWT } from 'jose'
import { test, type Test } from 'tap'
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
  type Answer,
} from '../fixtures/app.js'
import { Person } from '../fixtures/person.js'

const TOKEN = '/oauth2/token'
const JWT_BEARER = 'urn:ietf:params:oauth:grant-type:jwt-bearer'
const CLAIM_GRANT = 'urn:workos:agent-auth:grant-type:claim'
const ALICE = 'alice@example.com'
type Form = [string, string][]

test('parameters', async (t) => {
  const { app } = await testApp(t)
  const { identity_assertion: assertion, claim_token } = await registerAnonymous(app)
  const bearer: Form = [['grant_type', JWT_BEARER], ['assertion', assertion]] // prettier-ignore
  const claim: Form = [['grant_type', CLAIM_GRANT], ['claim_token', claim_token]] // prettier-ignore

  t.test(
    '6749-03, 6749-05, 6749-06, 6749-08, B68, B69: missing, empty and repeated ones are invalid_request',
    async (t) => {
      const cases: Form[] = [
      [],
      [['grant_type', '']],
      [['grant_type[]', JWT_BEARER]],
      [['__proto__', JWT_BEARER]],
      [['assertion', assertion]],
      [['grant_type', JWT_BEARER]],
      [['grant_type', JWT_BEARER], ['assertion', '']],
      [['grant_type', JWT_BEARER], ['claim_token', claim_token]],
      [['grant_type', CLAIM_GRANT]],
      [['grant_type', CLAIM_GRANT], ['claim_token', '']],
      [['grant_type', CLAIM_GRANT], ['assertion', assertion]],
      [...bearer, ['grant_type', JWT_BEARER]],
      [...bearer, ['grant_type', '']],
      [...bearer, ['assertion', assertion]],
      [...bearer, ['scope', 'api.read'], ['scope', 'api.write']],
      [...bearer, ['scope', ''], ['scope', '']],
      [...bearer, ['claim_token', 'a'], ['claim_token', 'b']],
      [...bearer, ['client_id', 'a'], ['client_id', 'b']],
      [...claim, ['claim_token', claim_token]],
    ] // prettier-ignore
      for (const form of cases) {
        const answer = await postForm(app, TOKEN, form)
        t.equal(answer.statusCode, 400, JSON.stringify(form).slice(0, 100))
        t.equal(answer.json().error, 'invalid_request', JSON.stringify(form).slice(0, 100))
        t.match(answer.headers, { 'cache-control': 'no-store', pragma: 'no-cache' })
      }
    },
  )

  t.test('6749-14: nothing in the query string counts', async (t) => {
    const url = `${TOKEN}?${new URLSearchParams(bearer)}`
    t.equal((await postForm(app, url, {})).json().error, 'invalid_request')
    const headers = { 'content-type': 'application/x-www-form-urlencoded' }
    t.equal((await app.inject({ method: 'POST', url, headers })).json().error, 'invalid_request')
    const scoped = `${TOKEN}?scope=nothing&grant_type=x`
    t.equal((await postForm(app, scoped, bearer)).statusCode, 200)
  })

  t.test(
    '6749-07, 6749-12, 9700-01: any other grant is unsupported, and not repeated to the caller',
    async (t) => {
      for (const grant of [
        'authorization_code',
        'password',
        'client_credentials',
        'refresh_token',
        'urn:ietf:params:oauth:grant-type:device_code',
        'urn:ietf:params:oauth:grant-type:token-exchange',
        JWT_BEARER.toUpperCase(),
        `${JWT_BEARER} `,
        ` ${CLAIM_GRANT}`,
        '%ZZ',
        'x"\\é\r\n\0',
        'constructor',
      ]) {
        const answer = await postForm(app, TOKEN, [['grant_type', grant], ...bearer.slice(1)])
        t.equal(answer.statusCode, 400, grant)
        t.equal(answer.json().error, 'unsupported_grant_type', grant)
        t.match(answer.json().error_description, /^[\x20-\x21\x23-\x5B\x5D-\x7E]+$/)
      }
    },
  )

  t.test(
    '6749-03, 6749-04, 7523-12, 8628-11, B75: empty and unknown ones, and credentials, are ignored',
    async (t) => {
      const headers = { authorization: 'Basic !!!' }
      const more: Form = [['foo', 'bar'], ['foo', 'baz'], ['client_id', 'x'], ['scope', ''], ['resource', '']] // prettier-ignore
      t.equal((await postForm(app, TOKEN, [...bearer, ...more], headers)).statusCode, 200)
      t.equal(
        (await postForm(app, TOKEN, [...claim, ...more], headers)).json().error,
        'authorization_pending',
      )
    },
  )

  t.test('B69: a URN counts as what it decodes to', async (t) => {
    const payload = `grant_type=${encodeURIComponent(JWT_BEARER).replaceAll('-', '%2d')}&assertion=${assertion}`
    const headers = { 'content-type': 'application/x-www-form-urlencoded' }
    t.equal((await app.inject({ method: 'POST', url: TOKEN, headers, payload })).statusCode, 200)
  })

  t.test('6749-10, 6749-11, 9700-02, B74: scope narrows and never widens', async (t) => {
    const { claim_token: claimed, claim: block } = await registerFor(app, ALICE)
    await (await Person.signedIn(app, ALICE)).confirm(linkToken(block), block.user_code)
    const whole = (await poll(app, claimed)).json().identity_assertion
    const cases: [before: boolean, scope: string, granted: string | undefined][] = [
      [true, 'api.read', 'api.read'],
      [true, 'api.read api.write admin', 'api.read'],
      [true, 'api.write', undefined],
      [false, 'api.write', 'api.write'],
      [false, 'api.write api.read api.write', 'api.read api.write'],
      [false, 'admin api.read', 'api.read'],
      [false, 'admin', undefined],
      [false, 'API.READ', undefined],
      [false, 'api.read  api.write', undefined],
      [false, ' api.read', undefined],
      [false, 'api.read\tapi.write', undefined],
      [false, 'api.read"', undefined],
      [false, 'api.read\\', undefined],
      [false, 'api.read\0', undefined],
      [false, 'é api.read', undefined],
      [false, 'x '.repeat(10_000) + 'api.read', 'api.read'],
    ]
    for (const [before, scope, granted] of cases) {
      const answer = await exchange(app, before ? assertion : whole, { scope })
      t.equal(answer.json().scope, granted, scope.slice(0, 50))
      if (!granted) t.equal(answer.json().error, 'invalid_scope', scope)
      else t.equal(decodeJwt(answer.json().access_token).scope, granted)
    }
    const grant: Form = [['grant_type', CLAIM_GRANT], ['claim_token', claimed]] // prettier-ignore
    t.equal(
      (await postForm(app, TOKEN, [...grant, ['scope', 'admin']])).json().error,
      'invalid_scope',
    )
    t.equal(
      (await postForm(app, TOKEN, [...grant, ['scope', 'api.write']])).json().scope,
      'api.write',
    )
  })

  t.test(
    '8707-01, 8707-02, 8707-03, 8707-04, 8707-05: resource is ours or invalid_target',
    async (t) => {
      for (const resources of [[RESOURCE], [RESOURCE, RESOURCE], ['', RESOURCE]]) {
        const form: Form = [
          ...bearer,
          ...resources.map((uri): [string, string] => ['resource', uri]),
        ]
        const answer = await postForm(app, TOKEN, form)
        t.equal(answer.json().resource, RESOURCE)
        t.equal(decodeJwt(answer.json().access_token).aud, RESOURCE)
      }
      t.equal((await exchange(app, assertion)).json().resource, undefined)
      for (const resources of [
        ['api'],
        [`${RESOURCE}#x`],
        [`${RESOURCE}/`],
        [RESOURCE.toUpperCase()],
        [`${RESOURCE} ${RESOURCE}`],
        [ISSUER],
        ['https://other.test/'],
        [RESOURCE, 'https://other.test/'],
      ]) {
        const form: Form = [
          ...bearer,
          ...resources.map((uri): [string, string] => ['resource', uri]),
        ]
        const answer = await postForm(app, TOKEN, form)
        t.equal(answer.json().error, 'invalid_target', resources.join())
        t.notOk(answer.json().access_token)
      }
    },
  )
})

test('the jwt-bearer grant', async (t) => {
  const { app, pool } = await testApp(t)
  const sign = (claims: object, typ = 'oauth-id-jag+jwt') => app.keys.sign(typ, claims)
  const isInvalid = (t: Test, answer: Answer, what: string) => {
    t.equal(answer.statusCode, 400, what)
    t.equal(answer.json().error, 'invalid_grant', what)
    t.equal(
      answer.json().error_description,
      'The assertion is not valid, has expired or was revoked.',
    )
  }

  t.test(
    '6749-09, 9068-01, 9068-02, 9068-03, 9068-04, 9068-05, 9068-07, 9068-08, 9068-09, 7523-07, IDJ-09, PRF-37: an assertion gets a new access token each time',
    async (t) => {
      const { registration_id, identity_assertion } = await registerAnonymous(app)
      const jtis = new Set()
      for (const _ of [1, 2, 3]) {
        const answer = await exchange(app, identity_assertion)
        t.equal(answer.statusCode, 200)
        t.match(answer.headers, { 'cache-control': 'no-store', pragma: 'no-cache' })
        const { access_token, ...rest } = answer.json()
        t.same(rest, { token_type: 'Bearer', expires_in: 3600, scope: 'api.read' })
        const { kid, ...header } = decodeProtectedHeader(access_token)
        t.same(header, { alg: 'ES256', typ: 'at+jwt' })
        t.equal(kid, app.keys.jwks.keys[0]?.kid)
        const { jti, iat, exp, ...claims } = decodeJwt(access_token)
        t.same(claims, {
          iss: ISSUER,
          aud: RESOURCE,
          sub: registration_id,
          client_id: registration_id,
          registration_id,
          generation: 1,
          scope: 'api.read',
        })
        t.equal(exp! - iat!, 3600)
        jtis.add(jti)
      }
      t.equal(jtis.size, 3)
    },
  )

  t.test(
    '7523-01, 7523-02, 7523-03, 7523-04, 7523-05, 7523-06, 7523-07, 7523-08, 7523-09, 7523-10, 7523-11, B71: whatever is wrong with an assertion, the answer is the same',
    async (t) => {
      const { identity_assertion: good } = await registerAnonymous(app)
      const claims = decodeJwt(good)
      const [header, payload, signature] = good.split('.')
      const now = Math.floor(Date.now() / 1000)
      const { sub: _sub, ...noSub } = claims
      const { exp: _exp, ...noExp } = claims
      const { jti: _jti, ...noJti } = claims
      const { iss: _iss, ...noIss } = claims
      const { aud: _aud, ...noAud } = claims
      const { generation: _generation, ...noGeneration } = claims
      const foreign = await generateKeyPair('ES256')
      const forged = (protectedHeader: object) =>
        new SignJWT(claims)
          .setProtectedHeader({ alg: 'ES256', typ: 'oauth-id-jag+jwt', ...protectedHeader })
          .sign(foreign.privateKey)
      const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url')
      const cases: Record<string, string> = {
        'no iss': await sign(noIss),
        'another iss': await sign({ ...claims, iss: 'https://idp.example' }),
        'no sub': await sign(noSub),
        'empty sub': await sign({ ...claims, sub: '' }),
        'unknown sub': await sign({ ...claims, sub: 'reg_unknown' }),
        'a NUL in sub': await sign({ ...claims, sub: 'reg_\0' }),
        'a user as sub': await sign({ ...claims, sub: 'user_x' }),
        'no aud': await sign(noAud),
        'aud with a slash': await sign({ ...claims, aud: `${ISSUER}/` }),
        'aud in another case': await sign({ ...claims, aud: ISSUER.toUpperCase() }),
        'aud with the token endpoint': await sign({ ...claims, aud: ISSUER + TOKEN }),
        'the resource as aud': await sign({ ...claims, aud: RESOURCE }),
        'no exp': await sign(noExp),
        'exp 61 s ago': await sign({ ...claims, exp: now - 61 }),
        'exp beyond its lifetime': await sign({ ...claims, exp: Number(claims.iat) + 3661 }),
        'iat in the future': await sign({ ...claims, iat: now + 70 }),
        'iat older than its lifetime': await sign({ ...claims, iat: now - 3670, exp: now + 600 }),
        'nbf in the future': await sign({ ...claims, nbf: now + 70 }),
        'no jti': await sign(noJti),
        'no generation': await sign(noGeneration),
        'an older generation': await sign({ ...claims, generation: 0 }),
        'a newer generation': await sign({ ...claims, generation: 2 }),
        'an access token': (await exchange(app, good)).json().access_token,
        'typ JWT': await sign(claims, 'JWT'),
        'a SET': await sign(claims, 'secevent+jwt'),
        'a logout token': await sign(claims, 'logout+jwt'),
        'another key': await forged({}),
        'another key, our kid': await forged({ kid: app.keys.jwks.keys[0]!.kid }),
        'another key in the header': await forged({ jwk: app.keys.jwks.keys[0] }),
        'alg none': `${encode({ alg: 'none', typ: 'oauth-id-jag+jwt' })}.${payload}.`,
        'alg none with a signature': `${encode({ alg: 'none' })}.${payload}.${signature}`,
        'alg HS256': `${encode({ alg: 'HS256', typ: 'oauth-id-jag+jwt' })}.${payload}.${signature}`,
        'a tampered sub': `${header}.${encode({ ...claims, sub: 'reg_other' })}.${signature}`,
        crit: await new SignJWT(claims)
          .setProtectedHeader({ alg: 'ES256', crit: ['b64'], b64: true })
          .sign(foreign.privateKey),
        padding: `${good}=`,
        'a line break': `${good}\n`,
        'leading white space': ` ${good}`,
        'two parts': `${header}.${payload}`,
        'four parts': `${good}.${signature}`,
        'five parts': `${header}.${payload}.${signature}.a.b`,
        'empty parts': '..',
        JSON: JSON.stringify({ payload, signatures: [{ protected: header, signature }] }),
        'a short signature': `${header}.${payload}.AAAA`,
        'no base64url': `${header}.${payload}.A`,
        'a NUL': 'a.b.\0',
        'a list as payload': `${header}.${encode([])}.${signature}`,
        'null as header': `${encode(null)}.${payload}.${signature}`,
        'numbers in the header': `${encode({ alg: 1, kid: 2, typ: 3 })}.${payload}.${signature}`,
        'a claim token': `clm_${'A'.repeat(43)}`,
      }
      for (const [what, assertion] of Object.entries(cases))
        isInvalid(t, await exchange(app, assertion), what)
      t.equal((await exchange(app, good)).statusCode, 200)
    },
  )

  t.test('7523-04, 7523-05, 7523-06: clocks may differ by a minute', async (t) => {
    const claims = decodeJwt((await registerAnonymous(app)).identity_assertion)
    const now = Math.floor(Date.now() / 1000)
    for (const shift of [
      { exp: now - 50 },
      { iat: now + 50 },
      { nbf: now + 50 },
      { iat: now - 3650, exp: now + 5 },
      { exp: Number(claims.iat) + 3659 },
    ])
      t.equal(
        (await exchange(app, await sign({ ...claims, ...shift }))).statusCode,
        200,
        JSON.stringify(shift),
      )
  })

  t.test(
    '6749-16: a registration that is revoked or past its window looks like a bad assertion',
    async (t) => {
      for (const column of ['revoked_at', 'claim_expires_at']) {
        const { registration_id, identity_assertion } = await registerAnonymous(app)
        const { access_token } = (await exchange(app, identity_assertion)).json()
        t.equal((await callApi(app, access_token)).statusCode, 200)
        await pool.query(`update registrations set ${column} = now() where id = $1`, [
          registration_id,
        ])
        isInvalid(t, await exchange(app, identity_assertion), column)
        t.equal((await callApi(app, access_token)).statusCode, 401)
      }
      const { registration_id, identity_assertion } = await registerAnonymous(app)
      await pool.query('delete from registrations where id = $1', [registration_id])
      isInvalid(t, await exchange(app, identity_assertion), 'deleted')
    },
  )

  t.test(
    'PRF-20, PRF-21: what an anonymous agent had before the claim never gets more, and ends with it',
    async (t) => {
      const alice = await Person.signedIn(app, ALICE)
      const { claim_token, identity_assertion: before } = await registerAnonymous(app)
      const { claim_attempt } = (
        await postJson(app, '/agent/identity/claim', { claim_token, login_hint: ALICE })
      ).json()
      const early = (await exchange(app, before)).json()
      t.equal(early.scope, 'api.read')
      t.equal((await callApi(app, early.access_token, 'POST')).statusCode, 403)

      await alice.confirm(linkToken(claim_attempt), claim_attempt.user_code)
      isInvalid(t, await exchange(app, before), 'an assertion from before the claim')
      t.equal((await callApi(app, early.access_token)).statusCode, 401)

      const after = (await poll(app, claim_token)).json()
      t.equal(after.scope, 'api.read api.write')
      t.equal((await callApi(app, after.access_token, 'POST')).statusCode, 200)
      const again = (await exchange(app, after.identity_assertion)).json()
      t.equal(again.scope, 'api.read api.write')
      t.match(decodeJwt(again.access_token).sub, /^user_/)
      isInvalid(t, await exchange(app, before), 'still')
    },
  )
})
