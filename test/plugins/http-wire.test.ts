/** What HTTP asks of requests that few send, on the wire: each is answered as the plain one would be (PROTOCOL §3). */
import { once } from 'node:events'
import { connect, type AddressInfo } from 'node:net'
import { t, test } from 'tap'
import { testApp } from '../fixtures/app.js'

const { app } = await testApp(t)
await app.listen({ port: 0, host: '127.0.0.1' })
const { port } = app.server.address() as AddressInfo
const FORM = 'Content-Type: application/x-www-form-urlencoded\r\n'

const say = (start: string, headers = '', body = '') =>
  tell(`${start} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n${headers}\r\n${body}`)

/** The status and the lines of the head, and the body. */
async function tell(bytes: string) {
  const socket = connect(port, '127.0.0.1')
  let heard = ''
  socket.on('data', (chunk) => (heard += chunk.toString()))
  socket.write(bytes)
  await once(socket, 'close')
  const [head, ...rest] = heard.split('\r\n\r\n') as [string, ...string[]]
  return { status: Number(head.split(' ')[1]), head, body: rest.join('\r\n\r\n') }
}

test('9110: an answer without content has no length, also to HEAD', async (t2) => {
  const { etag } = (await app.inject('/auth.md')).headers as { etag: string }
  for (const method of ['GET', 'HEAD'])
    for (const path of ['/auth.md', '/.well-known/jwks.json', '/style.css']) {
      const answer = await say(`${method} ${path}`, `If-None-Match: *\r\n`)
      t2.match(answer, { status: 304, body: '' }, `${method} ${path}`)
      t2.notMatch(answer.head, /content-length/i)
    }
  const length = /^content-length: [1-9]\d+$/im
  t2.match(await say('HEAD /auth.md', `If-None-Match: "x"\r\n`), { status: 200, head: length })
  t2.match((await say('HEAD /auth.md', `If-None-Match: ${etag}\r\n`)).head, `etag: ${etag}`)
  t2.notMatch((await say('OPTIONS /oauth2/token')).head, /content-length/i)
})

test('HTTP-06, HTTP-07: GET and HEAD have no body whose form could be wrong', async (t2) => {
  for (const header of [
    'Content-Type: application/json; charset=latin1',
    'Content-Encoding: br',
    'Content-Encoding: gzip',
  ])
    for (const method of ['GET', 'HEAD']) {
      t2.equal(
        (await say(`${method} /healthz`, `${header}\r\n`)).status,
        200,
        `${method} ${header}`,
      )
      const long = await say(`${method} /auth.md?${'x'.repeat(8200)}`, `${header}\r\n`)
      t2.equal(long.status, 414)
    }
})

test('B97: what a request expects besides 100-continue is ignored', async (t2) => {
  const body = 'grant_type=x'
  const headers = `${FORM}Content-Length: ${body.length}\r\n`
  const plain = await say('POST /oauth2/token', headers, body)
  t2.match(plain, { status: 400, body: /unsupported_grant_type/ })
  for (const what of ['tea', '200-ok', '']) {
    const { status, body: told } = await say(
      'POST /oauth2/token',
      `${headers}Expect: ${what}\r\n`,
      body,
    )
    t2.same({ status, told }, { status: plain.status, told: plain.body }, what)
  }
  t2.match(await say('GET /auth.md', 'Expect: tea\r\n'), { status: 200, body: /^#/ })
  const patient = await say('POST /oauth2/token', `${headers}Expect: 100-continue\r\n`, body)
  t2.match(patient, { status: 100, body: /^HTTP\/1.1 400 .*unsupported_grant_type/s })
})

test('HTTP-06: a path in another spelling that is routed has the same methods', async (t2) => {
  for (const target of [
    '/oauth2/tok%65n',
    '/oauth2/token?x=%zz#y',
    'http://x/oauth2/token',
    'HTTPS://x:1/oauth2/tok%65n?x=y',
  ]) {
    t2.match(await say(`OPTIONS ${target}`), { status: 204, head: /^allow: OPTIONS, POST$/im })
    t2.equal((await say(`GET ${target}`)).status, 405, target)
    const post = await say(`POST ${target}`, `${FORM}Content-Length: 0\r\n`)
    t2.match(post, { status: 400, body: /grant_type/ }, target)
  }
  for (const target of ['/oauth2%2Ftoken', '/oauth2/%2574oken', 'http://x//oauth2/token', '*'])
    for (const method of ['OPTIONS', 'TRACE'])
      t2.equal((await say(`${method} ${target}`)).status, 404, `${method} ${target}`)
  for (const method of ['OPTIONS', 'TRACE', 'POST', 'PATCH'])
    for (const target of ['/oauth2/%zz', 'http://x/%ff', 'http:///oauth2/token'])
      t2.equal((await say(`${method} ${target}`)).status, 400, `${method} ${target}`)
})

test('HTTP-04: a request names one host, which can be one', async (t2) => {
  const ask = async (target: string, hosts: string[]) => {
    const lines = hosts.map((host) => `hOST:${host}\r\n`).join('')
    return await tell(`${target} HTTP/1.1\r\n${lines}Connection: close\r\n\r\n`)
  }
  const targets: [target: string, status: number][] = [
    ['GET /auth.md', 200],
    ['GET /auth.md?x', 200],
    ['OPTIONS /oauth2/token', 204],
    ['GET /oauth2/token', 405],
    ['GET /nothing', 404],
  ]
  for (const [target, status] of targets) {
    for (const host of [
      '',
      ' ',
      ' a_b.example:',
      ' a.example:80',
      ' [::1]:80',
      ' 127.0.0.1',
      ' %41',
    ])
      t2.equal((await ask(target, [host])).status, status, `${target} ${host}`)
    for (const hosts of [['x', 'x'], ['x', ''], ['x y'], ['x/y'], ['u@x'], ['x:y'], ['é'], ['[x']])
      t2.match(await ask(target, hosts), { status: 400, body: /invalid_request/ }, `${hosts}`)
  }
  t2.equal((await tell('GET /auth.md HTTP/1.0\r\n\r\n')).status, 200)
})
