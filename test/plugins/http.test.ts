/** Envelopes, methods, CORS, caching and encodings (PROTOCOL §3). */
import { once } from 'node:events'
import { connect, type AddressInfo } from 'node:net'
import { gzipSync } from 'node:zlib'
import { test, type Test } from 'tap'
import { postJson, testApp } from '../fixtures/app.js'
import { listening } from '../fixtures/wire.js'

const JSON_TYPE = { 'content-type': 'application/json' }
const FORM = { 'content-type': 'application/x-www-form-urlencoded' }
const GZIP = { 'content-encoding': 'gzip' }
const ANONYMOUS = '{"type":"anonymous"}'

test('envelopes and headers', async (t) => {
  const { app, pool } = await testApp(t)

  t.test(
    'PROTOCOL §3: errors of /agent/* say it as message too, those of /oauth2/* do not',
    async (t) => {
      const profile = await postJson(app, '/agent/identity', [])
      const description = 'The request body must be an object of the documented form.'
      t.same(profile.json(), {
        error: 'invalid_request',
        message: description,
        error_description: description,
      })
      const oauth = await app.inject({ method: 'POST', url: '/oauth2/token', headers: FORM })
      t.same(oauth.json(), {
        error: 'invalid_request',
        error_description: 'grant_type is required.',
      })
      for (const { statusCode, headers } of [profile, oauth]) {
        t.equal(statusCode, 400)
        t.match(headers['content-type'], /^application\/json/)
        t.equal(headers['cache-control'], 'no-store')
        t.equal(headers['x-content-type-options'], 'nosniff')
      }
    },
  )

  t.test('HTTP-06, 6749-01: a wrong method is 405 with Allow whatever it carries', async (t) => {
    for (const url of [
      '/agent/identity',
      '/agent/identity/claim',
      '/oauth2/token',
      '/oauth2/revoke',
    ])
      for (const method of ['GET', 'HEAD', 'PUT', 'PATCH', 'DELETE', 'TRACE'] as const) {
        const answer = await app.inject({ method, url: `${url}?x=1`, headers: { ...GZIP } })
        t.equal(answer.statusCode, 405, `${method} ${url}`)
        t.equal(answer.headers.allow, 'OPTIONS, POST')
        t.equal(answer.headers['access-control-allow-origin'], '*')
        t.equal(answer.headers.pragma, url === '/oauth2/token' ? 'no-cache' : undefined)
        if (method === 'HEAD') continue
        const description = 'Use OPTIONS, POST.'
        const message = url.startsWith('/agent') ? { message: description } : {}
        const error = { error: 'method_not_allowed', error_description: description }
        t.same(answer.json(), { ...error, ...message })
      }
  })

  t.test('B96: no header and no query overrides the method', async (t) => {
    const headers = { 'x-http-method-override': 'POST', 'x-method-override': 'POST' }
    t.equal((await app.inject({ url: '/oauth2/token?_method=POST', headers })).statusCode, 405)
  })

  t.test(
    'HTTP-06, HTTP-14: an unknown path and every variant of a known one is 404 JSON',
    async (t) => {
      for (const url of [
        '/nothing',
        '/oauth2/token/',
        '//oauth2/token',
        '/OAuth2/Token',
        '/oauth2%2ftoken',
        '/oauth2/./x',
        '/oauth2/token;a=b',
        '/auth.md%00',
        '/.well-known/oauth-authorization-server/../../etc/passwd',
        '/.well-known/%2e%2e%2fetc%2fpasswd',
      ])
        for (const method of ['GET', 'POST', 'OPTIONS'] as const) {
          const answer = await app.inject({ method, url })
          t.equal(answer.statusCode, 404, `${method} ${url}`)
          t.same(answer.json(), {
            error: 'not_found',
            error_description: 'There is nothing at this address.',
          })
          t.notOk(answer.headers['access-control-allow-origin'])
        }
    },
  )

  t.test('B02: a path that is no UTF-8 is 400', async (t) => {
    for (const url of ['/%zz', '/agent/identity%ff', '/%c0%80'])
      t.equal((await app.inject({ url })).json().error, 'invalid_request')
  })

  t.test('HTTP-09: a URL over 8 kB is 414', async (t) => {
    t.equal((await app.inject({ url: `/auth.md?${'x'.repeat(8183)}` })).statusCode, 200)
    const answer = await app.inject({ url: `/auth.md?${'x'.repeat(8184)}` })
    t.equal(answer.statusCode, 414)
    t.equal(answer.json().error, 'invalid_request')
  })

  t.test(
    'HTTP-05: preflights of the machine endpoints are granted, without credentials',
    async (t) => {
      for (const url of [
        '/agent/identity',
        '/agent/identity/claim',
        '/oauth2/token',
        '/oauth2/revoke',
      ]) {
        const { statusCode, headers } = await app.inject({
          method: 'OPTIONS',
          url,
          headers: { origin: 'https://evil.example', 'access-control-request-method': 'POST' },
        })
        t.equal(statusCode, 204)
        t.equal(headers.allow, 'OPTIONS, POST')
        t.equal(headers['access-control-allow-origin'], '*')
        t.equal(headers['access-control-allow-methods'], 'OPTIONS, POST')
        t.equal(headers['access-control-allow-headers'], 'content-type, authorization')
        t.equal(headers['access-control-max-age'], '86400')
        t.match(headers['access-control-expose-headers'], /WWW-Authenticate, Retry-After/)
        t.notOk(headers['access-control-allow-credentials'])
      }
    },
  )

  t.test('HTTP-05: no other origin may read introspection, pages, or the API', async (t) => {
    for (const url of ['/oauth2/introspect', '/login', '/claim', '/', '/api/resource', '/healthz'])
      for (const method of ['GET', 'POST', 'OPTIONS'] as const) {
        const { headers } = await app.inject({
          method,
          url,
          headers: { origin: 'https://a.example' },
        })
        t.notOk(headers['access-control-allow-origin'], `${method} ${url}`)
        t.notOk(headers['access-control-allow-methods'], `${method} ${url}`)
      }
    const complete = { method: 'OPTIONS', url: '/agent/identity/claim/complete' } as const
    t.notOk((await app.inject(complete)).headers['access-control-allow-origin'])
  })

  t.test(
    'HTTP-11, 7662-08: whatever Accept asks for, the machine endpoints say JSON',
    async (t) => {
      for (const accept of [
        'text/html',
        'application/xml',
        '*/*;q=0',
        'application/token-introspection+jwt',
      ]) {
        const answer = await app.inject({
          method: 'POST',
          url: '/agent/identity',
          headers: { ...JSON_TYPE, accept },
          payload: ANONYMOUS,
        })
        t.match(answer.headers['content-type'], /^application\/json/)
      }
    },
  )

  t.test('HTTP-13: a request id is echoed only if it is harmless', async (t) => {
    const idOf = async (id: string) =>
      (await app.inject({ url: '/healthz', headers: { 'x-request-id': id } })).headers[
        'x-request-id'
      ]
    for (const id of ['a', 'Req-1', 'x'.repeat(64)]) t.equal(await idOf(id), id)
    for (const id of ['', 'x'.repeat(65), 'a b', 'a_b', '<b>', 'é'])
      t.match(await idOf(id), /^[\da-f]{32}$/)
    const { headers } = await app.inject({ url: '/healthz' })
    t.notOk(headers.server ?? headers['x-powered-by'])
  })

  t.test('HTTP-15: ready means migrated; neither check says more than that', async (t) => {
    t.same((await app.inject({ url: '/healthz' })).json(), { status: 'ok' })
    t.same((await app.inject({ url: '/readyz' })).json(), { status: 'ready' })
    await pool.query('alter table migrations rename to migrations_away')
    const { statusCode, headers, body } = await app.inject({ url: '/readyz' })
    await pool.query('alter table migrations_away rename to migrations')
    t.equal(statusCode, 503)
    t.match(headers, { 'retry-after': /^\d+$/, 'cache-control': 'no-store' })
    t.notMatch(body, /0001/)
  })

  t.test('an unexpected failure is a 500 that explains nothing', async (t) => {
    await pool.query('alter table registrations rename to registrations_away')
    const answer = await postJson(app, '/agent/identity', { type: 'anonymous' })
    await pool.query('alter table registrations_away rename to registrations')
    t.equal(answer.statusCode, 500)
    t.equal(answer.json().error, 'server_error')
    t.notMatch(answer.body, /registrations|relation|select|\.js/)
  })
})

test('bodies', async (t) => {
  const { app } = await testApp(t)
  const post = (url: string, headers: Record<string, string>, payload?: string | Buffer) =>
    app.inject({ method: 'POST', url, headers, ...(payload === undefined ? {} : { payload }) })

  t.test('HTTP-07, B06, 6749-02: each surface takes one content type and names it', async (t) => {
    const types = [
      'text/plain',
      'multipart/form-data; boundary=x',
      'application/problem+json',
      ';;;',
    ]
    const surfaces: [url: string, accept: string, others: string[]][] = [
      ['/agent/identity', JSON_TYPE['content-type'], [FORM['content-type'], ...types]],
      ['/agent/identity/claim', JSON_TYPE['content-type'], [FORM['content-type'], ...types]],
      ['/oauth2/token', FORM['content-type'], [JSON_TYPE['content-type'], ...types]],
      ['/oauth2/revoke', FORM['content-type'], [JSON_TYPE['content-type'], ...types]],
    ]
    for (const [url, accept, others] of surfaces)
      for (const type of others) {
        const answer = await post(url, { 'content-type': type }, ANONYMOUS)
        t.equal(answer.statusCode, 415, `${type} at ${url}`)
        t.match(answer.json(), { error: 'invalid_request' })
        t.equal(answer.headers.accept, accept)
      }
    t.equal((await post('/agent/identity', {}, ANONYMOUS)).statusCode, 415)
    t.equal((await post('/oauth2/token', {}, 'grant_type=x')).statusCode, 415)
  })

  t.test('HTTP-07, B68: only UTF-8', async (t) => {
    for (const charset of ['utf-16', '"utf-16"', 'ISO-8859-1', ''])
      for (const [url, type] of Object.entries({
        '/agent/identity': 'application/json',
        '/oauth2/token': 'application/x-www-form-urlencoded',
      })) {
        const answer = await post(url, { 'content-type': `${type}; charset=${charset}` }, ANONYMOUS)
        t.equal(answer.statusCode, 415, `${url} ${charset}`)
      }
    for (const charset of ['utf-8', 'UTF-8', '"utf8"'])
      t.equal(
        (
          await post(
            '/agent/identity',
            { 'content-type': `application/json;charset=${charset}` },
            ANONYMOUS,
          )
        ).statusCode,
        200,
      )
  })

  t.test('HTTP-08, B05: what is no JSON object is 400 invalid_request', async (t) => {
    const bodies = ['{', '', 'null', '[]', '"x"', '123', '['.repeat(200), '\0', '{"type":"anonymous"',
      `${'{"a":'.repeat(20_000)}1${'}'.repeat(20_000)}`, '{"__proto__":{"type":"anonymous"}}',
      '{"type":"anonymous","constructor":{"prototype":1}}'] // prettier-ignore
    for (const url of ['/agent/identity', '/agent/identity/claim'])
      for (const body of [undefined, ...bodies]) {
        const answer = await post(url, body === undefined ? {} : JSON_TYPE, body)
        t.equal(answer.statusCode, 400, `${url} ${body?.slice(0, 40)}`)
        t.equal(answer.json().error, 'invalid_request')
      }
  })

  t.test('HTTP-09: a body over the limit is 413', async (t) => {
    const big = (bytes: number) => `{"type":"anonymous","x":"${'x'.repeat(bytes)}"}`
    t.equal((await post('/agent/identity', JSON_TYPE, big(130_000))).statusCode, 200)
    t.equal((await post('/agent/identity', JSON_TYPE, big(131_072))).statusCode, 413)
    t.equal((await post('/agent/identity/claim', JSON_TYPE, big(131_072))).statusCode, 413)
    for (const url of ['/oauth2/token', '/oauth2/revoke']) {
      const answer = await post(url, FORM, `token=${'x'.repeat(65_536)}`)
      t.equal(answer.statusCode, 413)
      t.same(answer.json(), {
        error: 'invalid_request',
        error_description: 'The request body is too large.',
      })
    }
  })

  t.test('HTTP-07, B10: gzip is understood, any other coding is 415', async (t) => {
    for (const coding of ['gzip', 'x-gzip', 'GZIP']) {
      const headers = { ...JSON_TYPE, 'content-encoding': coding }
      t.equal((await post('/agent/identity', headers, gzipSync(ANONYMOUS))).statusCode, 200)
    }
    const identity = { ...JSON_TYPE, 'content-encoding': 'identity' }
    t.equal((await post('/agent/identity', identity, ANONYMOUS)).statusCode, 200)
    for (const coding of ['br2', 'br', 'deflate', 'gzip, gzip', '']) {
      const headers = { ...JSON_TYPE, 'content-encoding': coding }
      const answer = await post('/agent/identity', headers, ANONYMOUS)
      t.equal(answer.statusCode, 415, coding)
      t.equal(answer.headers['accept-encoding'], 'gzip')
    }
  })
})

test('on the wire', async (t) => {
  const { app } = await testApp(t)
  const { url } = await listening(app)
  const send = (head: string, body: string | Buffer = '') => talk(app.server.address(), head, body)
  const upload = (path: string, type: string, body: Buffer) =>
    send(
      `POST ${path} HTTP/1.1\r\nHost: x\r\nContent-Type: ${type}\r\nContent-Encoding: gzip\r\n` +
        `Content-Length: ${body.length}\r\nConnection: close\r\n\r\n`,
      body,
    )
  /** tap fails a test in whose time an error was thrown that nothing caught. */
  const alive = async (t: Test) => t.equal((await fetch(`${url}/healthz`)).status, 200)

  const corrupt = gzipSync(Buffer.alloc(300_000, 'a'))
  corrupt.writeUInt8(corrupt.at(-6)! ^ 0xff, corrupt.length - 6)
  const bomb = gzipSync(Buffer.alloc(100_000_000, 'a'))

  t.test(
    'B10: gzip that is broken, or a bomb, or both, is refused and ends nothing else',
    async (t) => {
      const cases: [what: string, path: string, type: string, body: Buffer, status: number][] = [
      ['garbage', '/agent/identity', 'application/json', Buffer.from('no gzip'), 400],
      ['truncated', '/agent/identity', 'application/json', gzipSync(ANONYMOUS).subarray(0, 20), 400],
      ['garbage that nothing reads', '/agent/identity', 'text/plain', Buffer.from('no gzip'), 415],
      ['a bomb', '/agent/identity', 'application/json', bomb, 413],
      ['a bomb', '/oauth2/token', FORM['content-type'], bomb, 413],
      ['a bomb that nothing reads', '/agent/identity', 'text/plain', bomb, 415],
      ['too large, then corrupt', '/agent/identity', 'application/json', corrupt, 413],
      ['a bomb, then garbage', '/agent/identity', 'application/json',
        Buffer.concat([bomb.subarray(0, 2000), Buffer.alloc(3000, 255)]), 413],
    ] // prettier-ignore
      for (const [what, path, type, body, status] of cases) {
        const answer = await upload(path, type, body)
        t.match(
          answer,
          new RegExp(`^HTTP/1.1 ${status} .*"invalid_request"`, 's'),
          `${what} at ${path}`,
        )
        await alive(t)
      }
      const read = await send(
        'GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nContent-Length: 7\r\nConnection: close\r\n\r\n',
        'no gzip',
      )
      t.match(read, /^HTTP\/1.1 200/)
      await alive(t)
    },
  )

  t.test('HTTP-08: an upload that breaks off leaves nothing behind', async (t) => {
    const socket = connect((app.server.address() as AddressInfo).port, '127.0.0.1')
    socket.write(
      'POST /agent/identity HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n' +
        'Content-Encoding: gzip\r\nContent-Length: 1000\r\n\r\n',
    )
    socket.write(gzipSync(ANONYMOUS).subarray(0, 20))
    await new Promise((resolve) => setTimeout(resolve, 100))
    socket.resetAndDestroy()
    await once(socket, 'close')
    await alive(t)
  })

  t.test('after a body that nothing read the connection serves on', async (t) => {
    const answers = await send(
      `POST /agent/identity HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Encoding: gzip\r\n` +
        `Content-Length: ${bomb.length}\r\n\r\n`,
      Buffer.concat([
        bomb,
        Buffer.from('GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n'),
      ]),
    )
    t.match(answers, /^HTTP\/1.1 415 /)
    t.match(answers, /\{"status":"ok"\}$/)
  })

  t.test('HTTP-04, HTTP-12, B97: what is no proper request is refused', async (t) => {
    const cases: [head: string, status: RegExp][] = [
      ['GET /auth.md HTTP/1.1\r\n\r\n', /^HTTP\/1.1 400/],
      ['POST /oauth2/token HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n', /^HTTP\/1.1 400 .*no-store.*invalid_request/s],
      [`GET /healthz HTTP/1.1\r\nHost: x\r\nA: ${'x'.repeat(20_000)}\r\n\r\n`, /^HTTP\/1.1 431/],
      ['POST /oauth2/token HTTP/1.1\r\nHost: x\r\nExpect: magic\r\nContent-Length: 0\r\nConnection: close\r\n\r\n', /^HTTP\/1.1 400/],
      ['POST /oauth2/token HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 99999999\r\n\r\n', /HTTP\/1.1 413/],
      ['GET /healthz HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nConnection: Upgrade, close\r\n\r\n', /^HTTP\/1.1 200/],
      ['OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n', /^HTTP\/1.1 404/],
      ['PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', /^HTTP\/1.1 400/],
    ] // prettier-ignore
    for (const [head, status] of cases) t.match(await send(head), status, head.slice(0, 60))
    const elsewhere = await send(
      'GET http://evil.example/auth.md HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n',
    )
    t.notMatch(elsewhere, /evil/)
  })
})

/** Sends bytes and gives back what comes until the other side closes. */
async function talk(address: unknown, head: string, body: string | Buffer): Promise<string> {
  const socket = connect((address as AddressInfo).port, '127.0.0.1')
  let heard = ''
  socket.on('data', (chunk) => (heard += chunk))
  // A server that has said no may hang up while we still send.
  socket.on('error', () => {})
  socket.setTimeout(3000, () => socket.destroy())
  socket.write(head)
  socket.write(body)
  await once(socket, 'close')
  return heard
}
