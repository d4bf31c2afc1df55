/** What callers are told, also those whose request never became one (RFC 9110 §15.5, RFC 6585 §5). */
import Fastify from 'fastify'
import { once } from 'node:events'
import { connect, type AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { clientError } from '../src/client-error.js'
import * as errors from '../src/errors.js'
import { testApp } from './fixtures/app.js'

const told = (error: unknown) => {
  const { statusCode, error: code, description } = errors.toOAuthError(error)
  return `${statusCode} ${code}: ${description}`
}
const AWAY = '503 temporarily_unavailable: The service cannot answer now. Try again soon.'
const OURS = '500 server_error: Something went wrong on our side.'
const NO_OBJECT = '400 invalid_request: The request body must be an object of the documented form.'
const NOT_UNDERSTOOD = '400 invalid_request: The request could not be understood.'

t.test('C31, C34: a database that is away is 503, and a bad query is not', async (t) => {
  const codes = [
    ['08006', '53300', '53100', '57P01', '57P02', '57P03', '57014', '55P03', '25006', '0A000'],
    ['40001', '40P01', 'ECONNREFUSED', 'ECONNRESET', 'EPIPE', 'ETIMEDOUT', 'ENOTFOUND'],
    ['EHOSTUNREACH', 'ENETUNREACH', 'EAI_AGAIN', 'ENOENT'],
    ['CERT_HAS_EXPIRED', 'DEPTH_ZERO_SELF_SIGNED_CERT', 'SELF_SIGNED_CERT_IN_CHAIN', 'EPROTO'],
    ['UNABLE_TO_VERIFY_LEAF_SIGNATURE', 'ERR_TLS_CERT_ALTNAME_INVALID', 'ERR_SSL_WRONG_VERSION'],
  ].flat()
  const away = codes.map((code) => Object.assign(new Error('x'), { code }))
  const messages = [
    'timeout exceeded when trying to connect',
    'Connection terminated unexpectedly',
    'Connection terminated due to connection timeout',
    'Client has encountered a connection error and is not queryable',
    'Cannot use a pool after calling end on the pool',
    'The server does not support SSL connections',
  ].map((message) => new Error(message))
  // Not allowed to connect; not allowed to do something is a fault of ours.
  const ended = ['FATAL', 'PANIC'].map((severity) =>
    Object.assign(new Error('x'), { code: '42501', severity }),
  )
  const denied = Object.assign(new Error('x'), { code: '42501', severity: 'ERROR' })
  t.equal(told(denied), OURS)
  for (const error of [...away, ...messages, ...ended]) {
    t.equal(told(error), AWAY, JSON.stringify(error))
    t.match(errors.toOAuthError(error).headers, { 'retry-after': /^\d+$/ })
  }

  const bugs = [
    '42P01',
    '22021',
    '23505',
    '23503',
    '42601',
    'X57P01',
    '57P011',
    'ERR_X',
    'ERR_JWS_INVALID',
    undefined,
  ]
  for (const code of bugs) t.equal(told(Object.assign(new Error('x'), { code })), OURS, code ?? '')
  t.equal(told(new Error('the Connection terminated')), OURS)
})

t.test('SEC-10: whatever is thrown, the caller learns nothing of it', async (t) => {
  const thrown: unknown[] = [
    new Error('select * from users'),
    new TypeError('/srv/app.js'),
    Object.assign(new Error('x'), { statusCode: 500 }),
    Object.assign(new Error('x'), { statusCode: 302 }),
    'text',
    42,
    {},
    Symbol('x'),
    null,
    undefined,
  ]
  for (const error of thrown) t.equal(told(error), OURS, String(error))

  const app = Fastify()
  t.teardown(() => app.close())
  app.setErrorHandler(errors.jsonErrors(errors.oauthBody))
  app.get('/nothing', () => Promise.reject())
  const answer = await app.inject('/nothing')
  t.equal(answer.statusCode, 500)
  t.same(answer.json(), {
    error: 'server_error',
    error_description: 'Something went wrong on our side.',
  })
})

t.test('PROTOCOL §3: the token endpoint says Pragma whatever is wrong', async (t) => {
  const { app } = await testApp(t)
  const JSON_TYPE = { 'content-type': 'application/json' }
  const FORM = { 'content-type': 'application/x-www-form-urlencoded' }
  const send = (headers: Record<string, string>, payload: string) =>
    app.inject({ method: 'POST', url: '/oauth2/token', headers, payload })
  for (const [status, answer] of [
    [415, await send(JSON_TYPE, '{}')],
    [413, await send(FORM, `scope=${'x'.repeat(100_000)}`)],
    [415, await send({ ...FORM, 'content-encoding': 'br' }, 'x')],
  ] as const) {
    t.equal(answer.statusCode, status)
    t.match(answer.headers, { 'cache-control': 'no-store', pragma: 'no-cache' })
  }
})

t.test('a 429 for wrong codes says so in the log', async (t) => {
  t.equal(errors.tooManyCodes({}).cause, 'too_many_codes')
})

t.test('HTTP-07: a refused content type comes with the one that is taken', async (t) => {
  for (const accept of [undefined, 'application/json']) {
    const app = Fastify()
    t.teardown(() => app.close())
    app.setErrorHandler(errors.jsonErrors(errors.oauthBody, accept))
    app.post('/', async () => 'never')
    const headers = { 'content-type': 'text/x' }
    const answer = await app.inject({ method: 'POST', url: '/', headers, payload: 'x' })
    t.equal(answer.statusCode, 415)
    t.equal(answer.headers.accept, accept)
    // Also for whoever sees no headers.
    const error_description = `The content type must be ${accept ?? 'another'}.`
    t.match(answer.json(), { error_description })
  }
})

t.test('what the caller did wrong is told in our words', async (t) => {
  const withStatus = (statusCode: number, more: object = {}) =>
    Object.assign(new Error('<raw input>'), { statusCode, ...more })
  const invalid = (...validation: object[]) => withStatus(400, { validation })
  const table: [unknown, string][] = [
    [errors.invalidRequest('As it is.'), '400 invalid_request: As it is.'],
    [errors.invalidLoginHint(), '400 invalid_login_hint: login_hint must be an email address.'],
    [
      errors.notEnabled('anonymous'),
      '400 anonymous_not_enabled: This server has that registration type switched off.',
    ],
    [withStatus(400), NOT_UNDERSTOOD],
    [withStatus(422), NOT_UNDERSTOOD.replace('400', '422')],
    [withStatus(499), NOT_UNDERSTOOD.replace('400', '499')],
    // A caller who hangs up is no database that is away.
    [withStatus(400, { code: 'ECONNRESET' }), NOT_UNDERSTOOD],
    [withStatus(400, { code: 'Z_DATA_ERROR' }), NOT_UNDERSTOOD],
    [
      withStatus(413, { code: 'FST_ERR_CTP_BODY_TOO_LARGE' }),
      '413 invalid_request: The request body is too large.',
    ],
    [
      invalid({ instancePath: '', params: { missingProperty: 'token' } }),
      '400 invalid_request: token is required.',
    ],
    [
      invalid({ instancePath: '/resource/0', params: {} }),
      '400 invalid_request: resource is not valid.',
    ],
    [invalid({ instancePath: '', params: {} }), NO_OBJECT],
    [invalid(), NO_OBJECT],
  ]
  for (const [error, expected] of table) t.equal(told(error), expected)

  const refusal = new errors.OAuthError(401, 'login_required', 'Why.', {}, { max_age: 3600 })
  t.same(errors.oauthBody(refusal), {
    error: 'login_required',
    error_description: 'Why.',
    max_age: 3600,
  })
  t.same(errors.profileBody(refusal), {
    error: 'login_required',
    message: 'Why.',
    error_description: 'Why.',
    max_age: 3600,
  })
})

/** Writes the pieces, and gives back what the server says until it, or at last we, hang up. */
async function exchange(port: number, pieces: (string | Buffer)[], then?: 'end' | 'reset') {
  let heard = ''
  const socket = connect(port, '127.0.0.1')
  socket.on('data', (chunk) => (heard += chunk.toString('latin1')))
  socket.on('error', () => {})
  const closed = new Promise((resolve) => socket.on('close', resolve))
  for (const piece of pieces) {
    socket.write(piece)
    await sleep(20)
  }
  if (then === 'end') socket.end()
  if (then === 'reset') socket.resetAndDestroy()
  const late = setTimeout(() => socket.destroy(), 20_000)
  await closed
  clearTimeout(late)
  return heard
}

/** One answer, whole, and ours. */
function isAnswer(t: Test, heard: string, status: string, name: string) {
  const [head, body, ...more] = heard.split('\r\n\r\n') as [string, string]
  t.same(more, [], name)
  t.equal(head.split('\r\n')[0], `HTTP/1.1 ${status}`, name)
  t.match(head, /^content-type: application\/json/im)
  t.match(head, /^cache-control: no-store$/im)
  t.match(head, /^connection: close$/im)
  t.match(head, /^date: \w{3}, \d\d \w{3} \d{4} .* GMT$/im)
  t.match(head, new RegExp(`^content-length: ${body.length}$`, 'im'))
  t.match(JSON.parse(body), { error: 'invalid_request', error_description: /^[ -~]+$/ })
}

t.test('HTTP-09, HTTP-12: what is no HTTP is refused whole', async (t) => {
  const { app, pool } = await testApp(t)
  await app.listen({ port: 0, host: '127.0.0.1' })
  const { port } = app.server.address() as AddressInfo
  const post = 'POST /agent/identity HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n'
  const json = '{"type":"anonymous"}'
  const chunked = 'Transfer-Encoding: chunked\r\n'
  const long = 'a'.repeat(100_000)
  type Row = [string, string | Buffer | (string | Buffer)[], string, 'end'?]
  const table: Row[] = [
    ['B54: a URL of 100 kB', `GET /${long} HTTP/1.1\r\nHost: x\r\n\r\n`, '414 URI Too Long'],
    ['a query of 100 kB', `GET /claim?${long} HTTP/1.1\r\nHost: x\r\n\r\n`, '414 URI Too Long'],
    [
      'a URL of 20 kB',
      `GET /${long.slice(0, 20_000)} HTTP/1.1\r\nHost: x\r\n\r\n`,
      '414 URI Too Long',
    ],
    [
      'a URL of 60 kB',
      `GET /${long.slice(0, 60_000)} HTTP/1.1\r\nHost: x\r\n\r\n`,
      '414 URI Too Long',
    ],
    [
      'a header of 100 kB',
      `GET / HTTP/1.1\r\nHost: x\r\nX: ${long}\r\n\r\n`,
      '431 Request Header Fields Too Large',
    ],
    [
      'headers of 100 kB that come piece by piece',
      ['GET / HTTP/1.1\r\nHost: x\r\n', `X: ${long.slice(0, 9000)}\r\n`, `Y: ${long}`],
      '431 Request Header Fields Too Large',
    ],
    ['length and chunks', `${post}Content-Length: 5\r\n${chunked}\r\n0\r\n\r\n`, '400 Bad Request'],
    ['chunks and length', `${post}${chunked}Content-Length: 5\r\n\r\n0\r\n\r\n`, '400 Bad Request'],
    [
      'two lengths',
      `${post}Content-Length: 20\r\nContent-Length: 21\r\n\r\n${json} `,
      '400 Bad Request',
    ],
    ['a negative length', `${post}Content-Length: -1\r\n\r\n${json}`, '400 Bad Request'],
    ['a length of no digits', `${post}Content-Length: 0x14\r\n\r\n${json}`, '400 Bad Request'],
    ['a bad chunk', `${post}${chunked}\r\n14\r\n${json}zz\r\n0\r\n\r\n`, '400 Bad Request'],
    ['a huge chunk', `${post}${chunked}\r\n${'f'.repeat(20)}\r\n${json}`, '400 Bad Request'],
    ['a space before a colon', 'GET / HTTP/1.1\r\nHost : x\r\n\r\n', '400 Bad Request'],
    ['a NUL in a header', 'GET / HTTP/1.1\r\nHost: x\r\nX: \0\r\n\r\n', '400 Bad Request'],
    ['line ends of another kind', 'GET / HTTP/1.1\nHost: x\n\n', '400 Bad Request'],
    ['another protocol', Buffer.from('16030100a5010000a10303', 'hex'), '400 Bad Request'],
    ['another version', 'GET / HTTP/3.0\r\nHost: x\r\n\r\n', '400 Bad Request'],
    ['another method', 'BREW / HTTP/1.1\r\nHost: x\r\n\r\n', '400 Bad Request'],
    [
      'B02: a URL that cannot be decoded',
      'GET /%zz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n',
      '400 Bad Request',
    ],
    ['a head that breaks off', 'GET / HTTP/1.1\r\nHos', '400 Bad Request', 'end'],
    [
      'HTTP-08: a body that breaks off after what would do',
      `${post}Content-Length: 40\r\n\r\n${json}`,
      '400 Bad Request',
      'end',
    ],
    [
      'HTTP-08: chunks that break off before the last',
      `${post}${chunked}\r\n14\r\n${json}\r\n`,
      '400 Bad Request',
      'end',
    ],
  ]
  for (const [name, bytes, status, then] of table)
    isAnswer(t, await exchange(port, [bytes].flat(), then), status, name)

  for (const head of ['', 'GET / HT', `${post}Content-Length: 40\r\n\r\n${json}`])
    t.equal(await exchange(port, [head], 'reset'), '', 'who hangs up is told nothing')
  t.equal((await app.inject('/healthz')).statusCode, 200, 'and the server lives on')
  const { rows } = await pool.query('select count(*)::int as total from registrations')
  t.same(rows, [{ total: 0 }], 'nothing was registered')
})

t.test('HTTP-12: no request is answered twice, or before another that came first', async (t) => {
  const { app } = await testApp(t)
  await app.listen({ port: 0, host: '127.0.0.1' })
  const { port } = app.server.address() as AddressInfo
  const get = 'GET /readyz HTTP/1.1\r\nHost: x\r\n'
  const unread = 'POST /readyz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n'
  const table: [name: string, bytes: string, then: string, statuses: string[]][] = [
    ['after an answer', `${get}\r\n`, 'x\r\n\r\n', ['200', '400']],
    ['beside an answer', unread, 'x\r\n\r\n', ['405']],
    ['in the place of an answer', `${get}\r\nx\r\n\r\n`, '', []],
    ['in the place of the last answer', `${get}Connection: close\r\n\r\nGET`, '', []],
    ['in the place of the first of two', `${get}\r\n${unread}x\r\n\r\n`, '', []],
  ]
  for (const [name, bytes, then, statuses] of table) {
    const socket = connect(port, '127.0.0.1')
    let heard = ''
    socket.on('data', (chunk) => {
      if (heard === '') socket.write(then)
      heard += chunk.toString()
    })
    socket.write(bytes)
    await once(socket, 'close')
    t.same(
      [...heard.matchAll(/HTTP\/1.1 (\d+)/g)].map(([, status]) => status),
      statuses,
      name,
    )
  }
})

t.test('HTTP-12, B94: who is too slow is told so and let go', async (t) => {
  const app = Fastify({
    clientErrorHandler: clientError,
    requestTimeout: 100,
    http: { headersTimeout: 50, connectionsCheckingInterval: 20 },
  })
  t.teardown(() => app.close())
  app.post('/', async () => 'never')
  await app.listen({ port: 0, host: '127.0.0.1' })
  const { port } = app.server.address() as AddressInfo
  const post = 'POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9'
  for (const bytes of ['', 'POST / HT', `${post}\r\n`, `${post}\r\n\r\n{"a"`])
    isAnswer(t, await exchange(port, [bytes]), '408 Request Timeout', bytes)
})
