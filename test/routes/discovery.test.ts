/** Metadata, keys and auth.md (PROTOCOL §4). */
import { readFileSync } from 'node:fs'
import { calculateJwkThumbprint, type JWK } from 'jose'
import { test, type Test } from 'tap'
import { ISSUER, RESOURCE, testApp, testReplica, type Sender } from '../fixtures/app.js'
import { testDatabase } from '../fixtures/database.js'
import { testGate } from '../fixtures/wire.js'

const SERVER = '/.well-known/oauth-authorization-server'
const PROTECTED = '/.well-known/oauth-protected-resource'
const DOCUMENTS = [SERVER, PROTECTED, `${PROTECTED}/api`, '/.well-known/jwks.json', '/auth.md']

test('the documents of a local registrar', async (t) => {
  const { app } = await testApp(t)
  const json = async (url: string) => (await app.inject({ url })).json()

  const resource = {
    resource: RESOURCE,
    resource_name: 'Example API',
    authorization_servers: [ISSUER],
    scopes_supported: ['api.read', 'api.write'],
    bearer_methods_supported: ['header'],
  }

  t.test(
    '9728-01, 9728-02, 9728-03, 9728-04, 9728-05, 9728-06: the resource is described at its own well-known URL',
    async (t) => {
      t.same(await json(`${PROTECTED}/api`), resource)
      t.same(await json(PROTECTED), resource)
    },
  )

  t.test(
    'PRF-01, PRF-02, 8414-02, 8414-03, 8414-04, 8414-05, 8414-06, 8414-07, 8414-08, 8414-09, 8414-10, 7523-14, 9207-01, 9728-08, IDJ-15: the server says what it has and nothing else',
    async (t) => {
      const { statusCode, headers } = await app.inject({ url: SERVER })
      t.equal(statusCode, 200)
      t.match(headers['content-type'], /^application\/json/)
      t.same(await json(SERVER), {
        ...resource,
        issuer: ISSUER,
        token_endpoint: `${ISSUER}/oauth2/token`,
        revocation_endpoint: `${ISSUER}/oauth2/revoke`,
        introspection_endpoint: `${ISSUER}/oauth2/introspect`,
        jwks_uri: `${ISSUER}/.well-known/jwks.json`,
        grant_types_supported: [
          'urn:ietf:params:oauth:grant-type:jwt-bearer',
          'urn:workos:agent-auth:grant-type:claim',
        ],
        token_endpoint_auth_methods_supported: ['none'],
        revocation_endpoint_auth_methods_supported: ['none'],
        introspection_endpoint_auth_methods_supported: ['client_secret_basic'],
        agent_auth: {
          skill: `${ISSUER}/auth.md`,
          identity_endpoint: `${ISSUER}/agent/identity`,
          claim_endpoint: `${ISSUER}/agent/identity/claim`,
          events_endpoint: `${ISSUER}/agent/event/notify`,
          revocation_uri: `${ISSUER}/agent/auth/revoke`,
          identity_types_supported: ['anonymous', 'identity_assertion', 'service_auth'],
          identity_assertion: {
            assertion_types_supported: ['urn:ietf:params:oauth:token-type:id-jag'],
          },
          events_supported: [
            'https://schemas.workos.com/events/agent/auth/identity/assertion/revoked',
          ],
        },
      })
      t.equal((await app.inject({ url: '/.well-known/openid-configuration' })).statusCode, 404)
    },
  )

  t.test('PRF-02: each URL that is advertised answers', async (t) => {
    const urls = urlsIn(ISSUER, JSON.stringify(await json(SERVER))).filter(
      (url) => url !== RESOURCE,
    )
    t.ok(urls.length >= 8)
    for (const url of urls) await answers(t, app, url)
  })

  t.test('JOSE-07: the JWKS has public ES256 keys named by their thumbprint', async (t) => {
    const { keys }: { keys: JWK[] } = await json('/.well-known/jwks.json')
    t.equal(keys.length, 1)
    for (const key of keys) {
      t.same(Object.keys(key).toSorted(), ['alg', 'crv', 'kid', 'kty', 'use', 'x', 'y'])
      t.match(key, {
        alg: 'ES256',
        crv: 'P-256',
        kty: 'EC',
        use: 'sig',
        x: /^[\w-]{43}$/,
        y: /^[\w-]{43}$/,
      })
      t.equal(key.kid, await calculateJwkThumbprint(key))
    }
  })

  t.test('8414-11, B03, B04: documents may be cached and read from anywhere', async (t) => {
    for (const url of DOCUMENTS) {
      const fresh = await app.inject({
        url: `${url}?x=${'<y>'}`,
        headers: { origin: 'https://evil.example' },
      })
      t.equal(fresh.statusCode, 200, url)
      t.equal(fresh.body, (await app.inject({ url })).body)
      const { etag, ...headers } = fresh.headers
      t.match(etag, /^"[\w-]{43}"$/)
      t.match(headers, {
        'cache-control': 'public, max-age=300',
        'access-control-allow-origin': '*',
      })
      t.notOk(headers['access-control-allow-credentials'] ?? headers.vary ?? headers['set-cookie'])

      for (const known of [etag, `W/${etag}`, `"a", ${etag}`, `"a" ,W/${etag},"b"`, '*']) {
        const same = await app.inject({ url, headers: { 'if-none-match': String(known) } })
        t.equal(same.statusCode, 304, `${url} ${known}`)
        t.equal(same.body, '')
        t.match(same.headers, {
          etag,
          'cache-control': 'public, max-age=300',
          'access-control-allow-origin': '*',
        })
      }
      for (const known of ['"a"', '', String(etag).slice(1, -1), `x${etag}`, '"*"']) {
        const other = await app.inject({ url, headers: { 'if-none-match': known } })
        t.equal(other.statusCode, 200, `${url} ${known}`)
      }
      const range = await app.inject({ url, headers: { range: 'bytes=0-0' } })
      t.equal(range.statusCode, 200)
    }
  })

  t.test(
    'a list of tags is read once, however long, and a tag within another is none',
    async (t) => {
      const ask = async (known: string) => {
        const url = '/.well-known/jwks.json'
        return (await app.inject({ url, headers: { 'if-none-match': known } })).statusCode
      }
      const { etag } = (await app.inject('/.well-known/jwks.json')).headers as { etag: string }
      const bare = etag.slice(1, -1)
      for (const known of [`"zz,${etag},zz"`, `"zz,${bare},zz"`, `"zz, W/${etag}`, `"zz" ${etag}`])
        t.equal(await ask(known), 200, known)
      for (const known of [`"zz,${bare}",${etag}`, `,, "a,b" , ,W/${etag} ,`, `"",${etag}`])
        t.equal(await ask(known), 304, known)
      const gap = ' '.repeat(15_000)
      t.equal(await ask(`"a"${gap},${gap}${etag}`), 304)
      // Each of them would take a second if what is long were looked at again and again.
      for (let i = 0; i < 150; i += 1)
        for (const known of [`a${gap}b`, `"a"${gap}b`, `,${gap}W/`]) t.equal(await ask(known), 200)
    },
  )

  t.test(
    'HTTP-06: HEAD is GET without a body, OPTIONS names the methods, the rest is 405',
    async (t) => {
      for (const url of DOCUMENTS) {
        const get = await app.inject({ url })
        const head = await app.inject({ method: 'HEAD', url })
        t.equal(head.statusCode, 200)
        t.equal(head.body, '')
        for (const name of ['etag', 'content-type', 'content-length'])
          t.equal(head.headers[name], get.headers[name], `${name} of ${url}`)
        const options = await app.inject({ method: 'OPTIONS', url })
        t.equal(options.statusCode, 204)
        t.equal(options.headers.allow, 'GET, HEAD, OPTIONS')
        t.equal(options.headers['access-control-allow-methods'], 'GET, HEAD, OPTIONS')
        for (const method of ['POST', 'PUT', 'DELETE', 'PATCH', 'TRACE'] as const) {
          const refused = await app.inject({
            method,
            url,
            headers: { 'content-type': 'text/plain' },
          })
          t.equal(refused.statusCode, 405)
          t.equal(refused.headers.allow, 'GET, HEAD, OPTIONS')
          t.equal(refused.headers['cache-control'], 'no-store')
          t.equal(refused.headers['access-control-allow-origin'], '*')
        }
      }
    },
  )

  t.test('HTTP-04, B01: no header changes what is said', async (t) => {
    const headers = {
      host: 'evil.example',
      'x-forwarded-host': 'evil.example',
      'x-forwarded-proto': 'https',
      'x-forwarded-prefix': '/evil',
      forwarded: 'host=evil.example;proto=https',
    }
    for (const url of [...DOCUMENTS, '/nothing', '/api/resource', '/']) {
      const plain = await app.inject({ url })
      const lured = await app.inject({ url, headers })
      t.equal(lured.headers.etag, plain.headers.etag, url)
      t.notMatch(lured.body + JSON.stringify(lured.headers), /evil/, url)
    }
    const answer = await app.inject({
      method: 'POST',
      url: '/agent/identity',
      headers,
      payload: { type: 'service_auth', login_hint: 'alice@example.com' },
    })
    for (const url of urlsIn('http', answer.body)) t.ok(url.startsWith(`${ISSUER}/`), url)
  })

  t.test('PRF-34: auth.md is Markdown that agrees with the metadata', async (t) => {
    const { headers, body } = await app.inject({ url: '/auth.md' })
    t.equal(headers['content-type'], 'text/markdown; charset=utf-8')
    const server = await json(SERVER)
    const { agent_auth } = server
    for (const url of [
      agent_auth.identity_endpoint,
      agent_auth.claim_endpoint,
      server.token_endpoint,
      server.revocation_endpoint,
      server.jwks_uri,
      ISSUER + SERVER,
    ]) {
      t.ok(body.includes(url), url)
    }
    for (const url of urlsIn('http', body)) {
      t.ok(url.startsWith(ISSUER), url)
      if (!url.startsWith(RESOURCE)) await answers(t, app, url)
    }
    for (const grant of server.grant_types_supported) t.ok(body.includes(grant), grant)
    for (const type of agent_auth.identity_types_supported)
      t.ok(body.includes(`"type": "${type}"`), type)
    for (const [scope, words] of Object.entries({
      'api.read': 'Read your data',
      'api.write': 'Change your data',
    }))
      t.match(
        body,
        new RegExp(`\`${scope}\` \\| ${words} \\| ${scope === 'api.read' ? 'yes' : 'no'} \\|`),
      )
    t.match(body, /discard the expired identity assertion and restart at Step 1/)
    t.match(body, /a link and its code last 10 minutes/)
    t.notMatch(body, /undefined|\[object|<%|&quot;|&#39;/)
  })
})

test('PRF-34: auth.md knows the errors that README lists for agents, and what to do without each type', async (t) => {
  const { app } = await testApp(t)
  const { body } = await app.inject({ url: '/auth.md' })
  const codes = (rows: string[]) =>
    new Set(rows.flatMap((row) => [...row.matchAll(/`([a-z_]+)`/g)].map(([, code]) => code!)))
  const table = (text: string) =>
    (
      text
        .split('\n## Errors\n')[1]!
        .split('\n## ')[0]!
        .match(/^\|.*$/gm) ?? []
    ).map((row) => row.split('|').slice(1, 4))
  const readme = readFileSync('README.md', 'utf8')
  const listed = table(readme).filter(([, , where]) => !/^ *(introspect|API) *$/.test(where!))
  const known = codes(table(body).map(([, , errors]) => errors!))
  const wanted = codes(listed.map(([, errors]) => errors!))
  // Told by their statuses.
  for (const code of ['not_found', 'method_not_allowed']) wanted.delete(code)
  t.ok(wanted.size > 20)
  t.same([...known].toSorted(), [...wanted].toSorted())
  const statuses = (rows: string[]) => new Set(rows.join().match(/\d{3}/g))
  t.same(
    [...statuses(table(body).map(([, status]) => status!))].toSorted(),
    [...statuses(listed.map(([status]) => status!))].toSorted(),
  )
  for (const type of ['anonymous', 'service_auth'])
    t.match(body, new RegExp(`if the answer is\\s+\`${type}_not_enabled\`, fall back`))
  t.match(body, /First check that `agent_auth\.identity_assertion\.assertion_types_supported`/)
})

test('other settings', async (t) => {
  const { url: database } = await testDatabase(t)
  const replica = async (env: NodeJS.ProcessEnv) => (await testReplica(t, database, env)).app

  t.test(
    '8414-01: an issuer with a path has its metadata beside it and everything else below it',
    async (t) => {
      const issuer = `${ISSUER}/t1`
      const app = await replica({ ISSUER: issuer })
      const server = (await app.inject({ url: `${SERVER}/t1` })).json()
      t.equal(server.issuer, issuer)
      t.equal(server.resource, `${issuer}/api`)
      t.same((await app.inject({ url: `${PROTECTED}/t1/api` })).json().authorization_servers, [
        issuer,
      ])
      for (const url of urlsIn(ISSUER, JSON.stringify(server)))
        if (url !== issuer && url !== server.resource) {
          t.ok(url.startsWith(`${issuer}/`), url)
          await answers(t, app, url)
        }
      for (const url of [
        SERVER,
        `/t1${SERVER}`,
        '/auth.md',
        '/agent/identity',
        '/.well-known/jwks.json',
      ])
        t.equal((await app.inject({ url })).statusCode, 404, url)
      const challenge = await app.inject({ url: '/t1/api/resource' })
      const metadata = `Bearer resource_metadata="${ISSUER}${PROTECTED}/t1/api"`
      t.equal(challenge.headers['www-authenticate'], metadata)
      for (const url of urlsIn('http', (await app.inject({ url: '/t1/auth.md' })).body))
        if (!url.startsWith(`${issuer}/api`)) await answers(t, app, url)
    },
  )

  t.test(
    '9728-01, 9728-07: wherever the resource is, its challenge leads to its metadata',
    async (t) => {
      const cases: [resource: string, path: string][] = [
        [`${ISSUER}/`, PROTECTED],
        ['https://api.example.com', PROTECTED],
        ['https://api.example.com/v1', `${PROTECTED}/v1`],
        ['https://api.example.com/v1/', `${PROTECTED}/v1/`],
        ['https://api.example.com/v1/a:b', `${PROTECTED}/v1/a:b`],
        ['https://api.example.com/a*', `${PROTECTED}/a*`],
      ]
      for (const [resource, path] of cases) {
        const app = await replica({ RESOURCE: resource })
        const { headers } = await app.inject({ url: '/api/resource' })
        t.equal(headers['www-authenticate'], `Bearer resource_metadata="${ISSUER}${path}"`)
        t.equal((await app.inject({ url: path })).json().resource, resource)
        t.equal((await app.inject({ url: PROTECTED })).json().resource, resource)
        t.equal((await app.inject({ method: 'POST', url: path })).statusCode, 405, path)
      }
    },
  )

  t.test('9728-06: names, a logo and scopes are the operator’s', async (t) => {
    const app = await replica({
      RESOURCE_NAME: 'Files & Folders',
      RESOURCE_LOGO_URI: 'https://example.com/logo.png',
      SCOPES: '{"files":"See files"}',
      PRE_CLAIM_SCOPES: 'files',
    })
    const said = (await app.inject({ url: PROTECTED })).json()
    t.match(said, {
      resource_name: 'Files & Folders',
      resource_logo_uri: 'https://example.com/logo.png',
    })
    t.same(said.scopes_supported, ['files'])
    t.same((await app.inject({ url: SERVER })).json().resource_logo_uri, said.resource_logo_uri)
    const { body } = await app.inject({ url: '/auth.md' })
    t.match(body, /^# Files & Folders: /)
    t.match(body, '| `files` | See files | yes |')
  })

  t.test('PRF-03: a type that is switched off is not advertised, and refused', async (t) => {
    const bodies = {
      anonymous: { type: 'anonymous' },
      service_auth: { type: 'service_auth', login_hint: 'alice@example.com' },
    }
    for (const [on, off] of [
      ['anonymous', 'service_auth'],
      ['service_auth', 'anonymous'],
    ] as const) {
      const app = await replica({ IDENTITY_TYPES: on })
      const { agent_auth } = (await app.inject({ url: SERVER })).json()
      t.same(agent_auth.identity_types_supported, [on])
      const { body } = await app.inject({ url: '/auth.md' })
      t.ok(body.includes(`"type": "${on}"`))
      t.notOk(body.includes(`"type": "${off}"`))
      const refused = await app.inject({
        method: 'POST',
        url: '/agent/identity',
        payload: bodies[off],
      })
      t.equal(refused.statusCode, 400)
      t.match(refused.json(), { error: `${off}_not_enabled`, message: /switched off/ })
      const taken = await app.inject({
        method: 'POST',
        url: '/agent/identity',
        payload: bodies[on],
      })
      t.equal(taken.statusCode, 200)
    }
  })

  t.test('C31: the documents are served while the database is away', async (t) => {
    const gate = await testGate(t, database)
    const { app } = await testReplica(t, gate.url)
    await app.ready()
    await gate.shut()
    t.equal((await app.inject({ url: '/readyz' })).statusCode, 503)
    for (const url of [...DOCUMENTS, '/healthz'])
      t.equal((await app.inject({ url })).statusCode, 200, url)
  })
})

/** What is there answers to OPTIONS, whatever its method. */
async function answers(t: Test, app: Sender, url: string) {
  const { pathname } = new URL(url)
  t.equal((await app.inject({ method: 'OPTIONS', url: pathname })).statusCode, 204, url)
}

function urlsIn(prefix: string, text: string): string[] {
  return [...text.matchAll(/https?:\/\/[^\s"`|)<>…]+/g)]
    .map(([url]) => url.replace(/[.,;:]$/, ''))
    .filter((url) => url.startsWith(prefix))
}
