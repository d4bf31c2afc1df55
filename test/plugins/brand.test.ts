/** The deployer's name, logo and colour on every page, and nothing of them from another host. */
import Fastify from 'fastify'
import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { pathToFileURL } from 'node:url'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { t, test, type Test } from 'tap'
import { readConfig, type ConfigError } from '../../src/config.js'
import brand from '../../src/plugins/brand.js'
import documents from '../../src/plugins/documents.js'
import { SECRET, testApp, testReplica } from '../fixtures/app.js'

const { app, config } = await testApp(t)
const branded = async (t: Test, env: NodeJS.ProcessEnv) =>
  (await testReplica(t, config.DATABASE_URL!, env)).app

/** The brand by itself. */
async function alone(t: Test, env: NodeJS.ProcessEnv) {
  const at = Fastify()
  t.teardown(() => at.close())
  at.decorate('config', readConfig(env))
  await at.register(documents)
  await at.register(brand)
  return at
}

const SVG = '<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
const PNG = Buffer.from('89504e470d0a1a0a', 'hex')
const dataUri = (type: string, body: Buffer | string) =>
  `data:${type};base64,${Buffer.from(body).toString('base64')}`

function faults(env: NodeJS.ProcessEnv): string[] {
  try {
    readConfig(env)
    return []
  } catch (error) {
    return (error as ConfigError).faults
  }
}

test('without settings the name is the resource’s, and there is no logo', async (t) => {
  const page = (await app.inject('/')).body
  t.match(page, '<header><a href="http://localhost:8000/"><bdi>Example API</bdi></a></header>')
  const answer = await app.inject('/brand-logo')
  t.match(answer, { statusCode: 404, headers: { 'cache-control': 'no-store' } })
  t.notMatch((await app.inject('/style.css')).body, /} }/)
})

test('the deployer’s name is in the header and the title', async (t) => {
  const at = await branded(t, { BRAND_NAME: 'North & Wind', RESOURCE_NAME: 'Weather' })
  const { body } = await at.inject('/login')
  t.match(body, '<title>Sign in · North &amp; Wind</title>')
  t.match(body, '<bdi>North &amp; Wind</bdi></a></header>')
  t.match(body, 'your agents may do at Weather')
})

test('a logo is served from here, with an ETag, and can do nothing but be looked at', async (t) => {
  const at = await branded(t, { BRAND_LOGO_URI: dataUri('image/svg+xml;charset=utf-8', SVG) })
  const page = await at.inject('/')
  t.match(page.body, '<img src="http://localhost:8000/brand-logo" alt="">')
  t.match(page.headers['content-security-policy'], "img-src 'self'")
  const answer = await at.inject('/brand-logo')
  t.match(answer, {
    statusCode: 200,
    body: SVG,
    headers: {
      'content-type': 'image/svg+xml',
      'content-security-policy': "default-src 'none'; style-src 'unsafe-inline'; sandbox",
      'x-content-type-options': 'nosniff',
      'cross-origin-resource-policy': 'same-origin',
      'cache-control': 'public, max-age=300',
    },
  })
  const headers = { 'if-none-match': answer.headers.etag as string }
  t.match(await at.inject({ url: '/brand-logo', headers }), { statusCode: 304, body: '' })
})

test('a file is an image by the end of its name', async (t) => {
  const dir = t.testdir({
    'a b.PNG': PNG,
    'x.jpeg': PNG,
    'x.jpg': PNG,
    'x.webp': PNG,
    'x.gif': PNG,
  })
  for (const [file, type] of [
    ['a b.PNG', 'image/png'],
    ['x.jpeg', 'image/jpeg'],
    ['x.jpg', 'image/jpeg'],
    ['x.webp', 'image/webp'],
    ['x.gif', 'image/gif'],
  ] as const) {
    const at = await alone(t, { BRAND_LOGO_URI: pathToFileURL(join(dir, file)).href })
    t.match(at.brand.logo, { type, body: PNG })
  }
})

test('a file or data that cannot be shown keeps the server from starting, and says why', async (t) => {
  const dir = t.testdir({
    'big.png': Buffer.alloc(262_145, 1),
    'limit.png': Buffer.alloc(262_144, 1),
    'empty.png': '',
    'page.html': '<p>',
    none: 'x',
    'folder.png': {},
  })
  const file = (name: string) => pathToFileURL(join(dir, name)).href
  const table: [string, RegExp][] = [
    [file('gone.png'), /ENOENT: no such file/],
    [file('folder.png'), /EISDIR/],
    [file('big.png'), /larger than 262144 bytes/],
    [file('empty.png'), /empty/],
    [file('page.html'), /not an image of a type that is shown: html/],
    [file('none'), /not an image of a type that is shown: unknown/],
    ['file://elsewhere/x.png', /file URL host/i],
    [dataUri('text/html', '<p>'), /not an image of a type that is shown: text\/html/],
    [dataUri('image/bmp', 'BM'), /not an image/],
    ['data:,x', /not an image/],
    ['data:image/png;base64,', /empty/],
    ['data:image/png;base64,%%%', /a data: URL that is malformed/],
    ['data:nope', /a data: URL that is malformed/],
    [dataUri('image/png', Buffer.alloc(262_145)), /larger/],
  ]
  for (const [BRAND_LOGO_URI, told] of table)
    await t.rejects(alone(t, { BRAND_LOGO_URI }), {
      name: 'Error',
      message: new RegExp(
        `^These settings cannot be used:\n  - BRAND_LOGO_URI: cannot be used: .*${told.source}`,
        told.flags,
      ),
    })
  const limit = await alone(t, { BRAND_LOGO_URI: file('limit.png') })
  t.ok(limit.brand.logo)
})

/** Waits until the logo is there. */
async function shown(at: { brand: { logo: unknown } }): Promise<unknown> {
  for (let tries = 0; tries < 1000 && !at.brand.logo; tries += 1) await sleep(20)
  return at.brand.logo
}

test('a logo of another host is fetched in the background, again and again until it is one', async (t) => {
  const good: RequestListener = (_request, response) =>
    response.setHeader('content-type', 'image/png; x=y').end(PNG)
  const bad: [string, RequestListener][] = [
    ['an error', (_request, response) => response.writeHead(500).end()],
    ['gone for good', (_request, response) => response.writeHead(404).end('no')],
    [
      'a redirect',
      ({ url }, response) => response.writeHead(302, { location: `${url}?elsewhere` }).end(),
    ],
    ['a page', (_request, response) => response.setHeader('content-type', 'text/html').end('<p>')],
    ['no type', (_request, response) => response.end(PNG)],
    [
      'too much',
      (_request, response) =>
        response.setHeader('content-type', 'image/png').end(Buffer.alloc(262_145)),
    ],
    ['nothing', (_request, response) => response.setHeader('content-type', 'image/png').end()],
    ['a hang-up', (_request, response) => response.destroy()],
    ['silence', () => {}],
    [
      'a body without an end',
      (_request, response) => response.setHeader('content-type', 'image/png').write(PNG),
    ],
  ]
  const asked = new Map<string, number>()
  const server = createServer((request, response) => {
    const times = (asked.get(request.url!) ?? 0) + 1
    asked.set(request.url!, times)
    const [, first] = bad[Number(request.url!.slice(1).split('?')[0])]!
    void (times === 1 ? first : good)(request, response)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  setFlagsFromString('--expose-gc')
  const collecting = setInterval(runInNewContext('gc') as () => void, 200)
  t.teardown(() => clearInterval(collecting))
  await Promise.all(
    bad.map(async ([name], index) => {
      const at = await alone(t, { BRAND_LOGO_URI: `${url}/${index}` })
      const warned: unknown[] = []
      at.log.warn = ((...said: unknown[]) => void warned.push(said)) as typeof at.log.warn
      await at.ready()
      t.notOk(at.brand.logo, `${name}: nothing waits for it`)
      t.match(await shown(at), { type: 'image/png', body: PNG }, name)
      t.match(warned, [[{ err: Error, retry_in_ms: 1000 }, 'the logo cannot be loaded']], name)
    }),
  )
  t.notOk(asked.has('/2?elsewhere'), 'a redirect is not followed')
})

test('a stop waits for no logo, neither while it is fetched nor between two tries', async (t) => {
  let asked = () => {}
  const requested = () => new Promise<void>((resolve) => (asked = resolve))
  let answer: RequestListener = () => {}
  const server = createServer((request, response) => {
    answer(request, response)
    asked()
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  const BRAND_LOGO_URI = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`
  for (const manner of [
    () => {},
    (_: unknown, response: { destroy(): void }) => response.destroy(),
  ]) {
    answer = manner as RequestListener
    const at = await alone(t, { BRAND_LOGO_URI })
    const warned = new Promise<void>((resolve) => {
      at.log.warn = (() => resolve()) as typeof at.log.warn
    })
    const request = requested()
    await at.ready()
    await request
    if (answer.length > 0) await warned
    const before = performance.now()
    await at.close()
    t.ok(performance.now() - before < 900)
  }
})

test('the settings are checked: what a logo’s address may be, and a colour that can be read', async (t) => {
  const open = { ISSUER: 'https://as.test', SECRET, DATABASE_URL: 'postgres://db.test/registrar' }
  const address = 'BRAND_LOGO_URI: a data:, file: or https: URL without user'
  for (const [env, told] of [
    [{ BRAND_LOGO_URI: 'https://cdn.test/logo.png' }, []],
    [{ BRAND_LOGO_URI: 'http://cdn.test/logo.png' }, []],
    [{ ...open, BRAND_LOGO_URI: 'https://cdn.test/logo.png' }, []],
    [
      { ...open, BRAND_LOGO_URI: 'http://cdn.test/logo.png' },
      ['BRAND_LOGO_URI: https is required off localhost'],
    ],
    [{ BRAND_LOGO_URI: 'javascript:alert(1)' }, [address]],
    [{ BRAND_LOGO_URI: '/logo.png' }, [address]],
    [{ BRAND_LOGO_URI: 'ftp://cdn.test/logo.png' }, [address]],
    [{ BRAND_LOGO_URI: 'https://user:hunter2@cdn.test/logo.png' }, [address]],
    [{ BRAND_LOGO_URI: 'https://user@cdn.test/logo.png' }, [address]],
    [{ BRAND_COLOR: '#0F766E' }, []],
    [
      { BRAND_COLOR: '#FFD500' },
      [
        'BRAND_COLOR: #FFD500 on white has a contrast of 1.42:1, and text needs 4.5:1; the nearest colour that works is #8c7500',
      ],
    ],
  ] as const)
    t.same(faults(env), told, JSON.stringify(env))
  for (const color of ['teal', '#fff', '#12345', '#1234567', '0f766e', '#0f766e;}'])
    t.match(faults({ BRAND_COLOR: color }).join(), /^BRAND_COLOR: /, color)
})

test('the colour is the accent of both themes, at the end of the stylesheet', async (t) => {
  const at = await branded(t, { BRAND_COLOR: '#0F766E' })
  const [plain, own] = [(await app.inject('/style.css')).body, (await at.inject('/style.css')).body]
  t.ok(own.startsWith(plain))
  t.match(
    own.slice(plain.length),
    /^:root { --accent: #0F766E; --on-accent: #ffffff; }\n@media \(prefers-color-scheme: dark\) { :root { --accent: #[0-9a-f]{6}; --on-accent: #000000; } }\n$/,
  )
})
