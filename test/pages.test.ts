/** What all pages have in common: headers, methods, forms, and no way out by a link (CONFORMANCE §9). */
import { t, test } from 'tap'
import {
  ISSUER,
  linkToken,
  postForm,
  registerFor,
  testApp,
  testReplica,
  type Answer,
} from './fixtures/app.js'
import { escaped, HOSTILE, isWellFormed, skeleton } from './fixtures/html.js'
import { Person } from './fixtures/person.js'
import { testGate } from './fixtures/wire.js'

const COMPLETE = '/agent/identity/claim/complete'
const ALICE = 'alice@example.com'
const { app, config, pool } = await testApp(t)
const alice = await Person.signedIn(app, ALICE)

const heading = (body: string) => /<h1>([^<]*)<\/h1>/.exec(body)?.[1]

/** Every page that a person can get, by what leads to it. */
async function everyPage(): Promise<Map<string, Answer>> {
  const nobody = new Person(app, '')
  const pages = new Map<string, Answer>()
  const keep = async (name: string, answer: Promise<Answer>) => void pages.set(name, await answer)
  await keep('home', nobody.get('/'))
  await keep('login', nobody.get('/login'))
  await keep('login for a claim', nobody.get('/login?return_to=/claim'))
  await keep('login error', nobody.submit('/login', { email: 'x' }))
  await keep('home, signed in', alice.get('/'))
  const { claim } = await registerFor(app, ALICE)
  const link = { claim_attempt_token: linkToken(claim) }
  await keep('claim', alice.openClaim(link.claim_attempt_token))
  await keep('claim error', alice.submit(COMPLETE, { ...link, user_code: 'x' }))
  await alice.submit(COMPLETE, { ...link, user_code: claim.user_code })
  await keep('done', alice.openClaim(link.claim_attempt_token))
  await keep('agents', alice.get('/agents'))
  const id = /name="registration_id" value="([^"]*)"/.exec(pages.get('agents')!.body)![1]
  await keep('history', alice.get(`/agents/history?registration_id=${id}`))
  await keep('no such agent', alice.get('/agents/history?registration_id=reg_unknown'))
  const form = { registration_id: id! }
  await keep('agents, one ended', alice.follow(alice.submit('/agents/revoke', form)))
  const declined = linkToken((await registerFor(app, ALICE)).claim)
  await keep('declined', alice.follow(alice.decline(declined)))
  const other = linkToken((await registerFor(app, 'bob@example.com')).claim)
  await keep('wrong account', alice.openClaim(other))
  await keep('unknown link', alice.openClaim('cat_unknown'))
  await keep('400', alice.get('/claim?claim_attempt_token=a&claim_attempt_token=b'))
  await keep('403', alice.post('/login', {}))
  await keep('403 foreign', alice.submit('/login', {}, { origin: 'https://evil.example' }))
  await keep('413', alice.submit('/login', { email: 'a'.repeat(70_000) }))
  await keep('414', alice.get(`/claim?claim_attempt_token=${'a'.repeat(8200)}`))
  await keep('415', alice.post('/login', {}, { 'content-type': 'application/json' }))
  await keep(
    '415 charset',
    alice.post(
      '/login',
      {},
      { 'content-type': 'application/x-www-form-urlencoded; charset=utf-16' },
    ),
  )
  return pages
}

test('WEB-05, WEB-06, WEB-07, 9700-04, 9700-05, 9700-09, B65: every page, errors too, carries the security headers', async (t) => {
  const pages = await everyPage()
  for (const [name, { statusCode, headers }] of pages) {
    if (name.startsWith('4')) t.equal(statusCode, Number.parseInt(name, 10))
    t.match(headers['content-type'], 'text/html; charset=utf-8', name)
    t.match(
      headers,
      {
        'content-security-policy':
          /^default-src 'none';style-src 'self';img-src 'self';form-action 'self';frame-ancestors 'none';base-uri 'none';object-src 'none'$/,
        'x-frame-options': 'DENY',
        'x-content-type-options': 'nosniff',
        'referrer-policy': 'no-referrer',
        'cross-origin-opener-policy': 'same-origin',
        'cross-origin-resource-policy': 'same-origin',
        'cache-control': 'no-store',
      },
      name,
    )
    for (const header of Object.keys(headers))
      t.notMatch(header, /^(access-control-.*|x-powered-by|server|strict-transport-security)$/)
  }
  const headers = { origin: 'https://evil.example', 'access-control-request-method': 'POST' }
  for (const url of ['/', '/login', '/logout', '/claim', COMPLETE, '/style.css']) {
    const preflight = await app.inject({ method: 'OPTIONS', url, headers })
    t.notMatch(Object.keys(preflight.headers).join(), 'access-control', url)
    const { statusCode, headers: told } = await app.inject({ method: 'PUT', url, headers })
    t.match({ statusCode, allow: told.allow }, { statusCode: 405, allow: /OPTIONS/ })
  }
})

test('HTTP-06: who asks in the address bar for what only answers forms is told in words', async (t) => {
  const tenant = await testReplica(t, config.DATABASE_URL!, { ISSUER: `${ISSUER}/tenant` })
  for (const { at, below } of [
    { at: app, below: '' },
    { at: tenant.app, below: '/tenant' },
  ])
    for (const url of [COMPLETE, '/agents/revoke', '/logout'].map((path) => below + path))
      for (const method of ['GET', 'HEAD'] as const) {
        const { statusCode, headers, body } = await at.inject({ method, url: `${url}?x=1` })
        t.match({ statusCode, ...headers }, { statusCode: 405, allow: 'OPTIONS, POST' }, url)
        t.match(headers['content-type'], /^text\/html/)
        t.match(headers['content-security-policy'], /default-src 'none'/)
        if (method === 'GET') t.match(body, /only answers a form.+to your agents/s)
      }
  t.equal((await tenant.app.inject('/tenant/tenant/logout')).statusCode, 404)
  const { headers, body } = await app.inject({ method: 'OPTIONS', url: COMPLETE })
  t.match({ allow: headers.allow, body }, { allow: 'OPTIONS, POST', body: '' })
})

test('browsers that ask for an icon are told that there is none', async (t) => {
  t.match(await app.inject('/favicon.ico'), { statusCode: 204, body: '' })
})

test('WEB-06: an https issuer says to come back by https only', async (t) => {
  const env = { ISSUER: 'https://localhost' }
  const { app: secure } = await testReplica(t, config.DATABASE_URL!, env)
  for (const answer of [
    await secure.inject('/'),
    await secure.inject('/style.css'),
    await postForm(secure, '/login', {}),
  ])
    t.match(answer.headers['strict-transport-security'], /^max-age=31536000$/)
})

test('WEB-17: every page is well-formed, labelled, and needs neither scripts nor third parties', async (t) => {
  for (const [name, { body }] of await everyPage()) {
    isWellFormed(t, body, name)
    t.match(body, /<title>[^<]+ · Example API<\/title>/)

    const ids = [...body.matchAll(/ id="([^"]*)"/g)].map(([, id]) => id!)
    t.equal(new Set(ids).size, ids.length)
    const named = [...body.matchAll(/ (?:for|aria-describedby)="([^"]*)"/g)]
    for (const id of named.flatMap(([, list]) => list!.split(' '))) t.ok(ids.includes(id), id)
    for (const [input] of body.matchAll(/<input (?!type="hidden")[^>]*>/g))
      t.match(body, `<label for="${/ id="([^"]*)"/.exec(input)?.[1]}">`)
    for (const [form] of body.matchAll(/<form .*?<\/form>/gs))
      t.match(form, / method="post" .*name="_csrf" value="[\w.-]+"/s)

    t.notMatch(
      body,
      /<(script|iframe|object|embed|img|style|base)|\son[a-z]+=|\sstyle=|javascript:/i,
    )
    t.notMatch(body, /undefined|null|NaN|\[object/)
    for (const [, url] of body.matchAll(/ (?:href|src|action)="([^"]*)"/g))
      t.match(url, new RegExp(`^${ISSUER}/`))
  }
})

test('the stylesheet and the home page answer; the home page shows the live settings', async (t) => {
  const style = await app.inject('/style.css')
  t.match(style, { statusCode: 200, headers: { 'content-type': 'text/css; charset=utf-8' } })
  const { app: other } = await testReplica(t, config.DATABASE_URL!, {
    ISSUER: 'https://localhost/agents',
    RESOURCE: 'https://api.localhost/v1',
    RESOURCE_NAME: 'Weather',
    IDENTITY_TYPES: 'service_auth',
    SCOPES: '{"sky.read":"Look at the sky","sky.write":"Make weather"}',
    PRE_CLAIM_SCOPES: 'sky.read',
    CLAIM_WINDOW_SECONDS: '172800',
    USER_CODE_TTL_SECONDS: '60',
    ASSERTION_TTL_SECONDS: '5400',
    ACCESS_TOKEN_TTL_SECONDS: '61',
  })
  const { body } = await other.inject('/agents/')
  for (const words of [
    '<title>Agent Registrar · Weather</title>',
    'href="https://localhost/agents/auth.md"',
    'href="https://localhost/.well-known/oauth-authorization-server/agents"',
    'href="https://localhost/.well-known/oauth-protected-resource/v1"',
    'href="https://localhost/agents/.well-known/jwks.json"',
    '<code>https://localhost/agents</code>',
    '<code>https://api.localhost/v1</code>',
    '<dd>service_auth</dd>',
    '<code>sky.read</code>: Look at the sky, before a person has confirmed too',
    '<code>sky.write</code>: Make weather<',
    '<dt>Claim window</dt><dd>2 days</dd>',
    '<dt>Link and code</dt><dd>1 minute</dd>',
    '<dt>Identity assertion</dt><dd>90 minutes</dd>',
    '<dt>Access token</dt><dd>61 seconds</dd>',
    'npm run agent -- --issuer https://localhost/agents --email you@example.com',
  ])
    t.match(body, words)
  const open = { ISSUER: 'https://as.example', SIGN_IN: 'none' }
  const { app: real } = await testReplica(t, config.DATABASE_URL!, open)
  const home = (await real.inject('/')).body
  t.notMatch(home, /npm run agent|Sign in/)
})

test('WEB-11: hostile text that reaches a page stays text', async (t) => {
  const plain = await everyPage()
  const evil = await Person.signedIn(app, 'evil@example.com')
  const found = await pool.query('select id from users where email = $1', [evil.email])
  const { id } = found.rows[0]
  for (const [index, text] of HOSTILE.entries()) {
    // Straight into the rows: no way in that is known today.
    await pool.query('update users set email = $1 where id = $2', [text, id])
    const env = { RESOURCE_NAME: text.slice(0, 100), SCOPES: JSON.stringify({ 'api.read': text }) }
    const { app: at } = await testReplica(t, config.DATABASE_URL!, env)
    const person = evil.at(at)
    const { claim, registration_id } = await registerFor(at, ALICE)
    const token = linkToken(claim)
    const hint = 'update claim_attempts set login_hint = $1 where registration_id = $2'
    await pool.query(hint, [text, registration_id])

    const home = await person.get('/')
    t.match(home.body, `<bdi>${escaped(text)}</bdi>`)
    t.match(home.body, `<title>Agent Registrar · ${escaped(env.RESOURCE_NAME)}</title>`)
    t.match(home.body, `: ${escaped(text)}, before`)
    const page = await person.openClaim(token)
    t.equal(page.statusCode, 200, `${index}`)
    const wrong = await person.submit(COMPLETE, { claim_attempt_token: token, user_code: text })
    t.equal(wrong.statusCode, 400)
    await pool.query(hint, [`${text}@${text}`, registration_id])
    const masked = await person.openClaim(token)
    t.equal(masked.statusCode, 403)
    const query = new URLSearchParams({ return_to: `/claim?x=${text}`, claim_attempt_token: text })
    const unknown = await person.submit(COMPLETE, {
      claim_attempt_token: text,
      user_code: '000000',
    })
    t.equal(unknown.statusCode, 404)
    const nobody = new Person(at, '')
    const login = await nobody.get(`/login?${query}`)
    const failed = await nobody.submit('/login', { email: text, return_to: `/claim?x=${text}` })
    const led = await nobody.get(`/claim?${query}`)

    for (const { body, headers } of [home, page, wrong, masked, unknown, login, failed, led]) {
      t.notMatch(body, /<script|<img|<b>|onerror=alert\(1\)>/)
      if (!headers.location) isWellFormed(t, body, `${index}`)
      t.notMatch(JSON.stringify(headers), /evil=1"|\\r|\\n/)
    }
    t.same(skeleton(masked.body), skeleton(plain.get('wrong account')!.body))
    if (text.length > 2000) t.equal(login.statusCode, 414)
    else t.same(skeleton(login.body), skeleton(plain.get('login for a claim')!.body))
  }
})

test('C31: with the database away a page says so with 503, and a code is not used up', async (t) => {
  const { claim, registration_id } = await registerFor(app, ALICE)
  const token = linkToken(claim)
  const gate = await testGate(t, config.DATABASE_URL!)
  const { app: cut } = await testReplica(t, gate.url)
  const person = alice.at(cut)
  await person.openClaim(token)
  const form = { claim_attempt_token: token, user_code: claim.user_code }

  gate.breakAt('claim.confirmed', 'after')
  const answers = [await person.submit(COMPLETE, form)]
  await gate.shut()
  for (const send of [
    () => person.get('/'),
    () => person.get('/login'),
    () => person.openClaim(token),
    () => person.submit(COMPLETE, form),
    () => person.submit('/login', { email: ALICE }),
    () => person.submit('/logout', {}),
  ])
    answers.push(await send())
  for (const { statusCode, headers, body } of answers) {
    t.equal(statusCode, 503)
    t.equal(heading(body), 'We cannot answer right now')
    t.match(headers, {
      'retry-after': /^\d+$/,
      'cache-control': 'no-store',
      'x-frame-options': 'DENY',
    })
    t.notMatch(body, /terminat|connection|select|Error|src\//i)
  }
  t.equal((await cut.inject('/')).statusCode, 200, 'who is not signed in needs no database')
  const { rows } = await pool.query(
    `select wrong_codes, confirmed_at, claimed_at from claim_attempts a
     join registrations r on r.id = a.registration_id where r.id = $1`,
    [registration_id],
  )
  t.same(rows, [{ wrong_codes: 0, confirmed_at: null, claimed_at: null }])
  await gate.open()
  t.equal((await person.submit(COMPLETE, form)).statusCode, 303, 'the same form works afterwards')
})

test('SEC-10: a fault of our own is a 500 page that explains nothing', async (t) => {
  await pool.query('alter table sessions rename to mislaid')
  const answer = await alice.get('/')
  await pool.query('alter table mislaid rename to sessions')
  t.match(answer, { statusCode: 500, headers: { 'x-frame-options': 'DENY' } })
  t.equal(heading(answer.body), 'Something went wrong on our side')
  t.notMatch(answer.body, /sessions|relation|select|\.[jt]s|Error/i)
})
