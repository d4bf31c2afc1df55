/** `registrar doctor`: what it finds of providers, of where people sign in, and of our own public URL. */
import { test } from 'tap'
import { signIn } from '../src/cli-doctor-providers.js'
import { networkFix } from '../src/cli-doctor-public.js'
import { readConfig } from '../src/config.js'
import { testIdentityProvider } from './fixtures/identity-provider.js'
import { examined, examinedApart, passedOnTo, patient, testFront } from './fixtures/patient.js'
import { operator } from './fixtures/process.js'
import { testProvider } from './fixtures/provider.js'
import * as agents from './fixtures/app.js'
import { testDatabase } from './fixtures/database.js'
import { PUBLIC } from './fixtures/settings.js'

test('each issuer in force is asked for keys that it may sign with', async (t) => {
  const { pool, env } = await patient(t)
  const provider = await testProvider(t)
  const name = `issuer ${provider.issuer}`
  const found = async (overrides?: Parameters<typeof provider.trust>[1]) => {
    await provider.trust(pool, overrides)
    return (await examined(t, env))[name]
  }
  t.match(await found(), { status: 'ok', found: `2 usable keys at ${provider.jwksUri}` })
  t.match(await found({ algorithms: ['RS256'] }), { status: 'ok', found: /^1 usable/ })
  t.match(await found({ algorithms: ['EdDSA'] }), {
    status: 'fault',
    found: /^no usable key for EdDSA/,
    fix: /--algorithm/,
  })
  provider.answer = (_, response) => response.writeHead(302, { location: '/keys' }).end()
  t.match(await found(), { status: 'fault', found: 'HTTP status 302', fix: /no redirect/ })
  provider.answer = (_, response) => response.end('\u001b[2J<html>')
  t.match(await found(), { status: 'fault', found: /JSON/ })
  const { stdout } = await operator(t, env)('doctor')
  t.match(stdout, /\\u\{1b\}/, 'what others wrote does not reach the terminal as it is')
  t.notMatch(stdout, '\u001b')

  provider.answer = () => {}
  const started = Date.now()
  t.match((await examinedApart(t, env))[name], { status: 'fault', found: /timeout/ })
  t.ok(Date.now() - started < 30_000)
  t.equal(await found({ disabled_at: new Date() }), undefined, 'its word does not count')
  await pool.query('alter table issuers rename to moved')
  t.match((await examined(t, env)).issuers, { status: 'fault', found: /"issuers" does not exist/ })
})

test('off localhost an issuer is reached by the way that the server goes: public addresses only', async (t) => {
  const { url: DATABASE_URL, pool } = await testDatabase(t)
  const provider = await testProvider(t)
  await provider.trust(pool, { jwks_uri: 'https://127.0.0.1:1/jwks.json' })
  const checks = await examined(t, {
    ISSUER: 'https://0.0.0.0:59',
    DATABASE_URL,
    SECRET: agents.SECRET,
    IDENTITY_TYPES: 'anonymous',
  })
  t.match(checks[`issuer ${provider.issuer}`], {
    status: 'fault',
    found: 'the address is not a public one',
  })
  t.match(checks['sign-in'], {
    status: 'warning',
    found: 'SIGN_IN is none: nobody can confirm an agent',
  })
  t.match(checks.proxy, { status: 'warning', found: /TRUST_PROXY is false/ })
  t.match(checks['public URL'], { status: 'fault', fix: /^start the server/ })
})

test('where people sign in is discovered as the server does it', async (t) => {
  const idp = await testIdentityProvider(t)
  const { env } = await patient(t, idp.env)
  const name = `sign-in ${idp.issuer}`
  const found = async (more = {}) => await examined(t, { ...env, ...more })
  t.match((await found())[name], { status: 'ok', found: 'its metadata and its keys answer' })
  const { document } = idp
  idp.document = (path, body) =>
    path === '/.well-known/openid-configuration'
      ? { ...body, issuer: 'https://other.example', token_endpoint: undefined }
      : body
  t.match((await found())[name], {
    status: 'fault',
    found: `the metadata of ${idp.issuer} names another issuer: https://other.example`,
    fix: /to the letter/,
  })
  idp.document = (_, body) => ({ ...body, token_endpoint: undefined })
  t.match((await found())[name], { status: 'fault', found: 'its metadata has no token_endpoint' })
  idp.document = document
  const slash = `${idp.issuer}/`
  t.match((await found({ OIDC_ISSUER: slash }))[`sign-in ${slash}`], {
    status: 'fault',
    found: /names another issuer: /,
  })
  idp.answer = (request, response) =>
    request.url === '/jwks' ? response.writeHead(500).end() : idp.serve(request, response)
  t.match((await found())[name], { status: 'fault', found: /^HTTP status 500 from its keys/ })
  for (const [body, expected] of [
    ['<html>', /JSON/],
    ['{}', /^no keys at/],
  ] as const) {
    idp.answer = (request, response) =>
      request.url === '/jwks' ? response.end(body) : idp.serve(request, response)
    t.match((await found())[name], { status: 'fault', found: expected })
  }
  idp.answer = (_, response) => response.writeHead(404).end()
  t.match((await found())[name], { status: 'fault', found: /HTTP status 404/ })
  idp.answer = (request, response) => request.url === '/jwks' || idp.serve(request, response)
  const started = Date.now()
  t.match((await examinedApart(t, env))[name], { status: 'fault', found: 'no answer within 5 s' })
  t.ok(Date.now() - started < 30_000)
  await idp.shut()
  t.match((await found())[name], { status: 'fault', found: /ECONNREFUSED/ })
})

test('off localhost each endpoint of where people sign in has to be https', async (t) => {
  const issuer = 'https://login.example.com'
  const [authorization_endpoint, token_endpoint] = [`${issuer}/authorize`, 'http://keycloak:8080/t']
  const metadata = { issuer, authorization_endpoint, token_endpoint, jwks_uri: `${issuer}/keys` }
  t.intercept(globalThis, 'fetch', { value: async () => Response.json(metadata) })
  const config = readConfig({ ...PUBLIC, OIDC_ISSUER: issuer, OIDC_CLIENT_ID: 'x' })
  const found = 'its token_endpoint is not https'
  t.match(await signIn(config), [{ status: 'fault', found, fix: /public URL/ }])
})

test('the public URL: what answers there, and whether it is us', async (t) => {
  const { front, env, app } = await patient(t)
  const found = async () => await examined(t, env)
  const good = front.answer
  for (const [answer, expected] of [
    [
      { status: 301, headers: { location: 'https://as.test/x?token=y' }, body: '' },
      { found: /answers 301, a redirect to https:\/\/as\.test\/x$/, fix: /to the letter/ },
    ],
    [
      { status: 404, headers: {}, body: '' },
      { found: /answers 404$/, fix: /something else/ },
    ],
    [
      { status: 502, headers: {}, body: '' },
      { found: /answers 502$/, fix: /no replica/ },
    ],
    [
      { status: 200, headers: {}, body: '{"issuer":"https://other.example"}' },
      { found: /answers 200 for https:\/\/other\.example$/, fix: /another ISSUER/ },
    ],
    [{ status: 200, headers: {}, body: '<html>' }, { found: /but not with our metadata$/ }],
  ] as const) {
    front.answer = (_, response) =>
      void response.writeHead(answer.status, answer.headers).end(answer.body)
    const checks = await found()
    t.match(checks['public URL'], { status: 'fault', ...expected })
    t.notOk('public keys' in checks)
  }

  for (const [status, expected] of [
    [503, { status: 'fault', found: '/readyz answers 503' }],
    [404, { status: 'warning', found: '/readyz answers 404' }],
  ] as const) {
    front.answer = (request, response) =>
      request.url === '/readyz' ? void response.writeHead(status).end() : good(request, response)
    t.match((await found())['public readiness'], expected)
  }

  const { kid } = app.keys.jwks.keys[0]!
  const elsewhere = await testDatabase(t)
  front.answer = passedOnTo(await agents.testReplica(t, elsewhere.url, { ISSUER: front.url }))
  t.match((await found())['public keys'], {
    status: 'fault',
    found: RegExp(`and not the database's signing key ${kid}$`),
  })
  const away = { ...env, DATABASE_URL: 'postgres://127.0.0.1:1/x' }
  t.match((await examined(t, away))['public keys'], { status: 'ok', found: /not compared/ })
  front.answer = (request, response) =>
    request.url!.includes('jwks') ? void response.writeHead(404).end() : good(request, response)
  t.match((await found())['public keys'], { status: 'fault', found: /jwks\.json answers 404$/ })
  front.answer = () => {}
  const silent = (await examinedApart(t, env))['public URL']
  t.match(silent, { status: 'fault', found: 'no answer within 5 s' })
})

test('an issuer with a path is looked for where its metadata is', async (t) => {
  const front = await testFront(t)
  const { url: DATABASE_URL } = await testDatabase(t)
  const env = { ISSUER: `${front.url}/agents`, DATABASE_URL, SECRET: agents.SECRET }
  front.answer = passedOnTo(await agents.testReplica(t, DATABASE_URL, env))
  const checks = await examined(t, env)
  t.match(checks['public URL'], {
    status: 'ok',
    found: /oauth-authorization-server\/agents answers/,
  })
  t.match(checks['public readiness'], { status: 'ok' })
  t.match(checks['public keys'], { status: 'ok' })
})

test('what to fix when nothing can be said there', async (t) => {
  const front = await testFront(t)
  const { url: DATABASE_URL } = await testDatabase(t)
  const env = { DATABASE_URL, SECRET: agents.SECRET, TRUST_PROXY: '1' }
  const ISSUER = front.url.replace('http:', 'https:')
  const plain = await examined(t, { ...env, ISSUER })
  t.match(plain['public URL'], { status: 'fault', fix: /does not speak TLS/ })
  t.notOk('proxy' in plain)
  t.match((await examined(t, { ...env, ISSUER: 'http://127.0.0.1:59' }))['public URL'], {
    status: 'fault',
    found: /ECONNREFUSED/,
    fix: /^start the server; .*listens at 127\.0\.0\.1:59/,
  })

  const at = new URL('https://as.test')
  for (const code of [
    'DEPTH_ZERO_SELF_SIGNED_CERT',
    'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
    'CERT_HAS_EXPIRED',
    'ERR_TLS_CERT_ALTNAME_INVALID',
  ])
    t.match(
      networkFix(Object.assign(new Error(code), { code }), at),
      /^give the proxy a certificate/,
    )
  const unknown = Object.assign(new Error('?'), { code: 'ENOTFOUND' })
  t.match(networkFix(unknown, at), /^let DNS lead as\.test to the proxy/)
  t.match(networkFix(new Error('?'), at), /^see that the proxy runs at as\.test /)
})
