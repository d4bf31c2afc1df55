/** How the keys of a provider are fetched. */
import type { KeyObject } from 'node:crypto'
import type { LookupAddress } from 'node:dns'
import { once } from 'node:events'
import { createServer, type AddressInfo } from 'node:net'
import { gzipSync } from 'node:zlib'
import type { JWK } from 'jose'
import { test } from 'tap'
import { fetchJwks, isInside, publicLookup } from '../../src/plugins/jwks-fetch.js'
import { testApp } from '../fixtures/app.js'
import { present } from '../fixtures/assertions.js'
import { ecKeyPair, ed25519KeyPair, rsaKeyPair } from '../fixtures/key-pair.js'
import {
  base64url,
  publicJwk,
  testProvider,
  type Members,
  type TestProvider,
} from '../fixtures/provider.js'

type Answerer = TestProvider['answer']

const FORGED = '400 invalid_signature'
const AWAY = '503 temporarily_unavailable'
const LIMIT = 65_536

const json =
  (jwks: unknown): Answerer =>
  (_request, response) =>
    response.end(typeof jwks === 'string' ? jwks : JSON.stringify(jwks))
const status =
  (code: number, headers: Record<string, string> = {}): Answerer =>
  (_request, response) =>
    response.writeHead(code, headers).end()

test('B40, IDJ-17: a provider that publishes nonsense is refused within 5 s, and breaks nothing', async (t) => {
  const { app, pool } = await testApp(t)
  const provider = await testProvider(t)
  await provider.trust(pool)
  const short = rsaKeyPair(1024)
  const p521 = ecKeyPair('P-521')
  const ed = ed25519KeyPair()
  const [es256, rs256] = provider.jwks.keys as [JWK, JWK]
  const shortJwk = publicJwk(short.publicKey, { kid: 'p2', alg: 'RS256' })
  const modulus = Buffer.from(shortJwk.n!, 'base64url')
  const padded = base64url(Buffer.concat([Buffer.alloc(128), modulus]))
  const good = JSON.stringify(provider.jwks)
  const only = (members: object) => json({ keys: [{ ...es256, ...members }] })
  const rsa = (members: object) => json({ keys: [{ ...rs256, ...members }] })

  const rows: [string, Answerer, string, KeyObject?, Members?][] = [
    ['500', status(500), AWAY],
    ['404 with the keys', (_, response) => response.writeHead(404).end(good), AWAY],
    ['204', status(204), AWAY],
    ['a redirect to the keys', status(302, { location: provider.jwksUri }), AWAY],
    ['a permanent redirect', status(308, { location: provider.jwksUri }), AWAY],
    ['a change of protocol', status(101, { upgrade: 'x', connection: 'upgrade' }), AWAY],
    ['no answer', () => {}, AWAY],
    ['a cut connection', (request) => request.socket.destroy(), AWAY],
    ['a cut body', cutBody, AWAY],
    ['a body that drips', drip, AWAY],
    ['what is not HTTP', (request) => request.socket.end('SSH-2.0-OpenSSH\r\n'), AWAY],
    ['HTML', json('<!doctype html><title>Sign in</title>'), AWAY],
    ['an empty body', json(''), AWAY],
    ['null', json('null'), AWAY],
    ['an array', json(provider.jwks.keys), AWAY],
    ['no keys member', json({}), AWAY],
    ['keys that are no list', json({ keys: { 0: es256, length: 1 } }), AWAY],
    ['a byte order mark', json(`\uFEFF${good}`), AWAY],
    ['gzip that nobody asked for', json(gzipSync(good).toString('latin1')), AWAY],
    ['a firewall that refuses who does not say what it is', firewall(good), '200'],
    ['64 kB', json(good.padEnd(LIMIT)), '200'],
    ['more than 64 kB', json(good.padEnd(LIMIT + 1)), AWAY],
    ['10 MB', json(good.padEnd(10_000_000)), AWAY],
    ['100,000 levels of nesting', json('{"keys":'.repeat(7000)), AWAY],
    ['no keys', json({ keys: [] }), FORGED],
    ['keys that are none', json({ keys: [null, 1, 'x', [], {}, { kty: 1 }, es256] }), '200'],
    ['a private key', only({ d: 'AAAA' }), FORGED],
    ['a private member of an RSA key', rsa({ dp: 'AAAA' }), FORGED, provider.p2],
    ['a symmetric key', json({ keys: [{ kty: 'oct', k: 'AAAA', kid: 'p1' }] }), FORGED],
    ['an encryption key', only({ use: 'enc' }), FORGED],
    ['8725-02 a key for signing only', only({ key_ops: ['sign'] }), FORGED],
    ['8725-02 key_ops that is no list', only({ key_ops: 'verify' }), FORGED],
    ['8725-02 a key of another algorithm', only({ alg: 'ES384' }), FORGED],
    ['8725-02 an RSA key for PS256', rsa({ alg: 'PS256' }), FORGED, provider.p2],
    ['a key without use and alg', only({ use: undefined, alg: undefined }), '200'],
    ['a kid that is a number', only({ kid: 1 }), FORGED],
    [
      'a key without kid, a token without kid',
      only({ kid: undefined }),
      '200',
      provider.p1,
      { kid: undefined },
    ],
    ['a key with kid, a token without', only({}), '200', provider.p1, { kid: undefined }],
    ['a key without kid, a token with', only({ kid: undefined }), FORGED],
    ['two keys of a name', json({ keys: [es256, { ...es256 }] }), FORGED],
    ['a point off the curve', only({ y: es256.x }), FORGED],
    ['a key without point', only({ x: undefined }), FORGED],
    [
      'a P-521 key for ES256',
      json({ keys: [publicJwk(p521.publicKey, { kid: 'p1', alg: 'ES256' })] }),
      FORGED,
      p521.privateKey,
    ],
    ['JOSE-06 an RSA key of 1024 bits', json({ keys: [shortJwk] }), FORGED, short.privateKey],
    [
      'JOSE-06 the same behind zeros',
      json({ keys: [{ ...shortJwk, n: padded }] }),
      FORGED,
      short.privateKey,
    ],
    ['an RSA modulus that is no string', rsa({ n: 5 }), FORGED, provider.p2],
    [
      'an Ed25519 key',
      json({ keys: [publicJwk(ed.publicKey, { kid: 'p1', alg: 'EdDSA' })] }),
      '200',
      ed.privateKey,
      { alg: 'EdDSA' },
    ],
    [
      'an X25519 key',
      json({ keys: [{ ...publicJwk(ed.publicKey), kid: 'p1', crv: 'X25519' }] }),
      FORGED,
      ed.privateKey,
      { alg: 'EdDSA' },
    ],
  ]
  provider.answer = (request, response) => {
    const row = rows[Number(request.url!.slice(1))]
    if (row) row[1](request, response)
    else provider.serve(request, response)
  }
  await Promise.all(
    rows.map(async ([name, , expected, key = provider.p1, header = {}], index) => {
      const issuer = `${provider.issuer}/${index}`
      await provider.trust(pool, { issuer, jwks_uri: issuer })
      const claims = { iss: issuer, client_id: issuer, sub: name, email: `a${index}@example.com` }
      const since = performance.now()
      const answer = await present(app, provider.idJag(claims, { key, header }))
      const { error = '' } = answer.json()
      t.equal(`${answer.statusCode} ${error}`.trim(), expected, name)
      t.ok(performance.now() - since < 5_000, `${name}: within 5 s`)
    }),
  )
  t.notOk(provider.requests.includes('/jwks.json'), 'no redirect was followed')
  t.equal((await present(app, provider.idJag())).statusCode, 200, 'the good one is served')
})

const firewall =
  (body: string): Answerer =>
  ({ headers }, response) => {
    const agent = headers['user-agent'] && headers['accept-encoding'] === 'identity'
    response.writeHead(agent ? 200 : 403).end(body)
  }

const cutBody: Answerer = (request, response) => {
  response.writeHead(200, { 'content-length': '1000' })
  response.write('{"keys":[', () => request.socket.destroy())
}

const drip: Answerer = (request, response) => {
  const timer = setInterval(() => response.write(' '), 100)
  request.socket.on('close', () => clearInterval(timer))
}

test('8725-06: addresses that only we can reach are inside, all others are not', (t) => {
  const inside = [
    '0.0.0.0',
    '0.255.255.255',
    '10.0.0.0',
    '10.255.255.255',
    '100.64.0.0',
    '100.127.255.255',
    '127.0.0.1',
    '127.255.255.255',
    '169.254.169.254',
    '172.16.0.0',
    '172.31.255.255',
    '192.0.0.8',
    '192.0.2.1',
    '192.88.99.1',
    '192.168.0.0',
    '192.168.255.255',
    '198.18.0.0',
    '198.19.255.255',
    '198.51.100.7',
    '203.0.113.7',
    '224.0.0.1',
    '239.255.255.255',
    '240.0.0.0',
    '255.255.255.255',
    '::',
    '::1',
    '::127.0.0.1',
    '::ffff:10.0.0.1',
    '::ffff:a00:1',
    '::ffff:127.0.0.1',
    '::ffff:169.254.169.254',
    '::ffff:0:10.0.0.1',
    '64:ff9b::a00:1',
    '64:ff9b:1::a00:1',
    '100::1',
    '1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff',
    '2001::1',
    '2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff',
    '2001:db8::1',
    '2002:a00:1::1',
    '3fff::1',
    '4000::',
    '5f00::1',
    'fc00::1',
    'fd00:ec2::254',
    'fe80::1',
    'fe80::1%eth0',
    'fec0::1',
    'ff02::1',
    'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff',
  ]
  const outside = [
    '1.0.0.0',
    '8.8.8.8',
    '9.255.255.255',
    '11.0.0.0',
    '100.63.255.255',
    '100.128.0.0',
    '126.255.255.255',
    '128.0.0.0',
    '169.253.255.255',
    '169.255.0.0',
    '172.15.255.255',
    '172.32.0.0',
    '192.0.1.0',
    '192.167.255.255',
    '192.169.0.0',
    '198.17.255.255',
    '198.20.0.0',
    '223.255.255.255',
    '2000::1',
    '2001:200::1',
    '2001:4860:4860::8888',
    '2001:db7::1',
    '2001:db9::1',
    '2003::1',
    '2606:4700::1111',
    '3ffe::1',
  ]
  t.same(outside.filter(isInside), [])
  t.same(
    inside.filter((address) => !isInside(address)),
    [],
  )
  t.end()
})

const looked = (host: string, all: boolean) =>
  new Promise<string | LookupAddress[]>((resolve, reject) =>
    publicLookup(host, { all }, (error, address) => (error ? reject(error) : resolve(address))),
  )

test('8725-06: a name is only resolved to public addresses', async (t) => {
  t.equal(await looked('8.8.8.8', false), '8.8.8.8')
  t.same(await looked('8.8.8.8', true), [{ address: '8.8.8.8', family: 4 }])
  t.same(await looked('2606:4700::1111', true), [{ address: '2606:4700::1111', family: 6 }])
  for (const all of [true, false])
    for (const host of ['localhost', '10.0.0.1', '::1', '::ffff:10.0.0.1'])
      await t.rejects(looked(host, all), { message: 'the address is not a public one' }, host)
  await t.rejects(looked('x'.repeat(300), true), 'no such name')
})

test('8725-06, IDJ-17: off this machine keys are fetched by https and from outside only', async (t) => {
  let connections = 0
  const server = createServer((socket) => {
    connections += 1
    socket.on('error', () => {}).end('HTTP/1.1 200 OK\r\n\r\n{"keys":[]}')
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  const { port } = server.address() as AddressInfo
  const urls = [
    `http://127.0.0.1:${port}/`,
    `http://8.8.8.8:${port}/`,
    `https://127.0.0.1:${port}/`,
    `https://localhost:${port}/`,
    `https://2130706433:${port}/`,
    `https://0x7f.1:${port}/`,
    `https://0177.0.0.1:${port}/`,
    `https://127.1:${port}/`,
    `https://0:${port}/`,
    `https://１２７.0.0.1:${port}/`,
    `https://[::1]:${port}/`,
    `https://[::]:${port}/`,
    `https://[::ffff:127.0.0.1]:${port}/`,
    `https://[::ffff:a00:1]:${port}/`,
    'https://169.254.169.254/latest/meta-data/',
    'ftp://8.8.8.8/',
    'file:///etc/passwd',
    'data:application/json,{"keys":[]}',
  ]
  for (const url of urls)
    await t.rejects(fetchJwks(url, false), { message: 'the address is not a public one' }, url)
  t.equal(connections, 0)
  t.same(await fetchJwks(`http://127.0.0.1:${port}/`, true), { keys: [] })
  await t.rejects(fetchJwks(`https://127.0.0.1:${port}/`, true), 'https is https here, too')
  await t.rejects(fetchJwks('file:///etc/passwd', true), { code: 'ERR_INVALID_PROTOCOL' })
})
