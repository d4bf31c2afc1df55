/** The development sign-in, its sessions, and signing out. */
import { createHash } from 'node:crypto'
import { t, test } from 'tap'
import { ISSUER, postForm, testApp, testReplica, type Sender } from '../fixtures/app.js'
import { Person } from '../fixtures/person.js'

const SESSION = '__Host-registrar-session'
const CSRF = '__Host-registrar-csrf'
const LINK = '/claim?claim_attempt_token=cat_x'

const { app, config, pool } = await testApp(t)

const count = async (from: string, ...values: unknown[]): Promise<number> =>
  (await pool.query(`select count(*)::int as n from ${from}`, values)).rows[0].n
const events = async (email: string) => {
  const { rows } = await pool.query(
    'select event from audit_events join users on users.id = user_id where email = $1 order by audit_events.id',
    [email],
  )
  return rows.map(({ event }) => event)
}

/** Whether the cookies open a session: without one the agents' page leads to the sign-in. */
async function signedIn(at: Sender, cookie: string): Promise<boolean> {
  const { statusCode } = await at.inject({ url: '/agents', headers: { cookie } })
  return statusCode === 200
}

test('a sign-in leads on with 303, makes an account once and a session each time', async (t) => {
  const person = new Person(app, 'first@example.com')
  const page = await person.get(`/login?return_to=${encodeURIComponent(LINK)}`)
  t.match(page, { statusCode: 200, headers: { 'cache-control': 'no-store' } })
  t.match(page.body, 'An agent asks to act for you.')
  const answer = await person.submit('/login', { email: ' First@Example.com ', return_to: LINK })
  t.equal(answer.statusCode, 303, '9700-06: 303, so that the browser does not send the form on')
  t.equal(answer.headers.location, ISSUER + LINK)
  t.match(answer.headers, { 'cache-control': 'no-store' })
  t.equal((await person.get('/login')).headers.location, `${ISSUER}/`, 'no second sign-in')

  await Person.signedIn(app, 'first@example.com')
  t.equal(await count('users where email = $1', 'first@example.com'), 1)
  t.same(await events('first@example.com'), ['user.created', 'session.started', 'session.started'])
})

test('two first sign-ins at once make one account', async (t) => {
  const people = [0, 1, 2, 3].map(() => new Person(app, 'twice@example.com'))
  for (const person of people) await person.get('/login')
  const answers = await Promise.all(
    people.map((person) => person.submit('/login', { email: person.email })),
  )
  t.strictSame(
    answers.map(({ statusCode }) => statusCode),
    [303, 303, 303, 303],
  )
  t.equal(await count('users where email = $1', 'twice@example.com'), 1)
  t.equal((await events('twice@example.com')).filter((event) => event === 'user.created').length, 1)
})

test('a first sign-in with a verified address that an account has already is that account', async (t) => {
  await pool.query(`insert into users (id, email) values ('user_known', 'known@example.com')`)
  const person = await Person.signedIn(app, 'known@example.com')
  t.equal(await signedIn(app, person.cookieHeader()), true)
  t.equal(await count(`sessions where user_id = 'user_known'`), 1)
  t.same(await events('known@example.com'), ['session.started'])
})

test('WEB-08: cookies are __Host-, Secure, HttpOnly, SameSite=Lax, for the whole host', async (t) => {
  const first = await app.inject('/login')
  const person = await Person.signedIn(app, 'cookies@example.com')
  await person.get('/')
  const out = await person.submit('/logout', {})
  const again = await Person.signedIn(app, 'cookies@example.com')
  const lines = [first.headers['set-cookie'], out.headers['set-cookie']].flat() as string[]
  t.equal(lines.length, 2)
  for (const line of lines) {
    t.match(line, /^__Host-registrar-(csrf|session)=/)
    for (const attribute of ['Path=/', 'HttpOnly', 'Secure', 'SameSite=Lax'])
      t.ok(line.split('; ').includes(attribute), `${line}: ${attribute}`)
    t.notMatch(line, /domain=/i)
  }
  const [session] = [out.headers['set-cookie']].flat() as string[]
  t.match(session, new RegExp(`^${SESSION}=;.*Expires=Thu, 01 Jan 1970`), 'sign-out takes it back')

  const id = again.cookies.get(SESSION)!
  t.match(id, /^[\w-]{43}$/, 'WEB-09: 256 bits')
  const hash = createHash('sha256').update(id).digest()
  t.equal(await count('sessions where id_hash = $1', hash), 1, 'SEC-02: only its hash is kept')
})

test('WEB-09: a sign-in changes the session id, and the one before is unusable', async (t) => {
  const person = await Person.signedIn(app, 'renewed@example.com')
  const before = person.cookieHeader()
  await person.get('/')
  await person.submit('/login', { email: 'other@example.com' })
  t.not(person.cookieHeader(), before)
  t.equal(await signedIn(app, before), false)
  t.equal(await signedIn(app, person.cookieHeader()), true)
  t.match((await person.get('/')).body, 'other@example.com')

  const planted = new Person(app, 'planted@example.com')
  planted.cookies.set(SESSION, 'A'.repeat(43))
  await planted.get('/login')
  await planted.submit('/login', { email: planted.email })
  t.not(planted.cookies.get(SESSION), 'A'.repeat(43), 'an id from outside is not taken up')
  t.equal(await signedIn(app, `${SESSION}=${'A'.repeat(43)}`), false)
})

test('C47: a sign-in counts at every replica, and a sign-out ends it at all of them', async (t) => {
  const other = await testReplica(t, config.DATABASE_URL!)
  const person = await Person.signedIn(app, 'replicas@example.com')
  const cookies = person.cookieHeader()
  t.equal(await signedIn(other.app, cookies), true)
  await person.get('/')
  const out = await person.at(other.app).submit('/logout', { return_to: LINK })
  t.match(out, { statusCode: 303, headers: { location: ISSUER + LINK } })
  t.equal(await signedIn(app, cookies), false, 'the old cookie is dead even where it is kept')
  t.equal(await signedIn(other.app, cookies), false)
  t.match((await app.inject({ url: LINK, headers: { cookie: cookies } })).statusCode, 303)

  await person.get('/login')
  t.equal((await person.submit('/logout', {})).statusCode, 303, 'signing out twice is harmless')
  const story = ['user.created', 'session.started', 'session.ended']
  t.same(await events(person.email), story, 'it ended once')
})

test('WEB-09: a session ends an hour after its last use and twelve hours after it began', async (t) => {
  const person = await Person.signedIn(app, 'limits@example.com')
  const mine = `user_id = (select id from users where email = 'limits@example.com')`
  const age = (column: string, by: string) =>
    pool.query(`update sessions set ${column} = now() - interval '${by}' where ${mine}`)
  const alive = () => signedIn(app, person.cookieHeader())

  const seenWithin = (time: string) =>
    count(`sessions where ${mine} and last_seen_at > now() - interval '${time}'`)

  await age('last_seen_at', '59 minutes')
  t.equal(await alive(), true)
  t.equal(await seenWithin('1 minute'), 1, 'using it starts the hour anew')
  await age('last_seen_at', '30 seconds')
  t.equal(await alive(), true)
  t.equal(await seenWithin('20 seconds'), 0, 'at most once a minute')
  await age('last_seen_at', '60 minutes 1 second')
  t.equal(await alive(), false)
  await age('last_seen_at', '0')
  await age('created_at', '11 hours 59 minutes')
  t.equal(await alive(), true)
  await age('created_at', '12 hours 1 second')
  t.equal(await alive(), false, 'however busy it was')
})

test('WEB-10, 9700-10, B51, B52, B53: return_to leads only to pages of our own', async (t) => {
  const person = await Person.signedIn(app, 'return@example.com')
  await person.get('/')
  const home = [
    '//evil.example',
    '/\\evil.example',
    '//[',
    '\\\\evil.example',
    '/\t/evil.example',
    '/\n/evil.example',
    '\t//evil.example',
    ' /claim',
    '/%09/evil.example',
    '/%5Cevil.example',
    'https://evil.example',
    'https:evil.example',
    `${ISSUER}/claim`,
    `${ISSUER}@evil.example/claim`,
    'javascript:alert(1)',
    'data:text/html,x',
    '/login?return_to=/login',
    '/.//evil.example',
    '/claim@evil.example',
    '/claim/../logout',
    '/claim/',
    '/Claim',
    '/%63laim',
    '/logout',
    '/agent/identity/claim/complete',
    '/oauth2/revoke',
    'claim',
    '',
    `/claim?claim_attempt_token=${'a'.repeat(5000)}`,
    '/claim\r\nSet-Cookie: a=b',
  ]
  const kept = {
    [LINK]: LINK,
    '/': '/',
    '/./claim?a=b#c': '/claim?a=b',
    '/claim?a=\r\nSet-Cookie:x': '/claim?a=Set-Cookie:x',
    '/claim?a=é"><b>': '/claim?a=%C3%A9%22%3E%3Cb%3E',
  }
  for (const [given, leads] of [...home.map((to) => [to, '/']), ...Object.entries(kept)]) {
    const query = new URLSearchParams({ return_to: given! })
    const answers = [
      await person.get(`/login?${query}`),
      await person.submit('/login', { email: person.email, return_to: given! }),
    ]
    await person.get('/')
    answers.push(await person.submit('/logout', { return_to: given! }))
    for (const { statusCode, headers, rawPayload } of answers) {
      t.equal(statusCode, 303)
      t.equal(headers.location, ISSUER + leads, JSON.stringify(given))
      t.equal(rawPayload.length, 0)
    }
    await person.get('/login')
    await person.submit('/login', { email: person.email })
    await person.get('/')
  }
  for (const query of ['return_to[]=/claim', 'return_to=/claim&return_to=/claim'])
    t.equal((await person.get(`/login?${query}`)).headers.location, `${ISSUER}/`)
  const repeated: [string, string][] = ['/claim', '//evil.example'].map((to) => ['return_to', to])
  const headers = { cookie: person.cookieHeader(), origin: ISSUER }
  const form = [...repeated, ['_csrf', person.csrf]] as [string, string][]
  t.equal((await postForm(app, '/login', form, headers)).statusCode, 400)
})

test('WEB-01, WEB-03, B57: forms need the token of the page that this very session was shown', async (t) => {
  const other = await Person.signedIn(app, 'csrf-other@example.com')
  await other.get('/')
  const person = new Person(app, 'csrf@example.com')
  await person.get('/login')
  const early = person.csrf
  await person.submit('/login', { email: person.email })
  await person.get('/')
  const { csrf } = person
  const cookies = person.cookieHeader()
  const theirs = `${CSRF}=${other.cookies.get(CSRF)}; ${SESSION}=${person.cookies.get(SESSION)}`

  const refused: [string, string | undefined, string][] = [
    ['no token', undefined, cookies],
    ['an empty token', '', cookies],
    ['nonsense', 'nonsense', cookies],
    ['a token with its end changed', `${csrf.slice(0, -2)}xx`, cookies],
    ['the token of before the sign-in', early, cookies],
    ['the token of another session', other.csrf, cookies],
    ['another session’s token with its secret', other.csrf, theirs],
    ['no secret', csrf, `${SESSION}=${person.cookies.get(SESSION)}`],
    ['no session', csrf, `${CSRF}=${person.cookies.get(CSRF)}`],
    ['no cookies', csrf, ''],
    ['another session', csrf, `${CSRF}=${person.cookies.get(CSRF)}; ${SESSION}=${'A'.repeat(43)}`],
  ]
  const before = await count('sessions')
  for (const [what, token, cookie] of refused) {
    for (const path of ['/login', '/logout']) {
      const form = { email: 'evil@example.com', ...(token !== undefined && { _csrf: token }) }
      const answer = await postForm(app, path, form, { cookie, 'sec-fetch-site': 'same-origin' })
      t.equal(answer.statusCode, 403, `${what} at ${path}`)
      t.notOk(answer.headers['set-cookie'], 'no session is given or taken')
    }
  }
  const twice = [
    ['_csrf', csrf],
    ['_csrf', csrf],
  ] as [string, string][]
  t.equal(
    (await postForm(app, '/logout', twice, { cookie: cookies, origin: ISSUER })).statusCode,
    403,
  )
  t.equal(await count('sessions'), before)
  t.equal(await count(`users where email = 'evil@example.com'`), 0)
  t.equal((await person.submit('/logout', {})).statusCode, 303, 'the right one')
})

test('WEB-02: forms count only when they come from our own pages', async (t) => {
  const person = new Person(app, 'origin@example.com')
  await person.get('/login')
  const evil = 'https://evil.example'
  const told: [statusCode: number, headers: Record<string, string>][] = [
    [403, {}],
    [403, { origin: 'null' }],
    [403, { origin: evil }],
    [403, { origin: `${ISSUER}.evil.example` }],
    [403, { origin: 'http://localhost' }],
    [403, { origin: `${ISSUER}/` }],
    [403, { origin: '' }],
    [403, { origin: evil, host: 'evil.example', 'x-forwarded-host': 'evil.example' }],
    [403, { 'sec-fetch-site': 'cross-site' }],
    [403, { 'sec-fetch-site': 'cross-site', origin: ISSUER }],
    [403, { 'sec-fetch-site': 'same-site', origin: 'null' }],
    [403, { 'sec-fetch-site': 'none' }],
    [403, { 'sec-fetch-site': '', origin: ISSUER }],
    [403, { 'sec-fetch-site': 'same-origin', origin: evil }],
    [303, { 'sec-fetch-site': 'same-origin' }],
    [303, { 'sec-fetch-site': 'same-origin', origin: ISSUER }],
    // What Chromium says of our own forms, since our pages send no referrer.
    [303, { 'sec-fetch-site': 'same-origin', origin: 'null' }],
    [303, { origin: ISSUER }],
  ]
  for (const [statusCode, headers] of told) {
    const form = { _csrf: person.csrf, email: person.email }
    const answer = await postForm(app, '/login', form, {
      cookie: person.cookieHeader(),
      ...headers,
    })
    t.equal(answer.statusCode, statusCode, JSON.stringify(headers))
  }
})

test('B66: cookies that are broken, huge, doubled or someone’s garbage are nobody’s', async (t) => {
  const person = await Person.signedIn(app, 'garbage@example.com')
  const id = person.cookies.get(SESSION)!
  const broken = [
    `${SESSION}=${id.slice(0, -1)}`,
    `${SESSION}=${id}A`,
    `${SESSION}=${id}%00`,
    `${SESSION}=${id}.signature`,
    `${SESSION}=${'a'.repeat(8192)}`,
    `${SESSION}=%E0%A4%A; ${CSRF}=%E0%A4%A`,
    `${SESSION}="; ${SESSION}=`,
    `${SESSION}=x; ${SESSION}=${id}`,
    `${SESSION}=${id}; ${SESSION}=x`,
    `${SESSION.toLowerCase()}=${id}`,
    `${SESSION}=user_known`,
    `__proto__=${id}; constructor=${id}; ${SESSION}`,
    `${SESSION}=' or 1=1 --`,
    ';;;===',
  ]
  for (const cookie of broken) {
    const answer = await app.inject({ url: '/login', headers: { cookie } })
    t.equal(answer.statusCode, 200, cookie.slice(0, 80))
    const csrf = /name="_csrf" value="([^"]*)"/.exec(answer.body)![1]!
    const posted = await postForm(app, '/login', { _csrf: csrf }, { cookie, origin: ISSUER })
    t.ok([400, 403].includes(posted.statusCode), `POST: ${posted.statusCode}`)
  }
})

test('B67: what is not an address is refused in words, without repeating it', async (t) => {
  const person = new Person(app, '')
  await person.get('/login')
  const users = await count('users')
  const bad = [
    '',
    'nobody',
    '"><script>alert(1)</script>@example.com',
    'a@example.com\r\nSet-Cookie: a=b',
    'a@example.com\0',
    'a\u202eb@example.com',
    `${'a'.repeat(10_240)}@example.com`,
    `a@${'b'.repeat(250)}.com`,
    'a@b@example.com',
    'a@localhost',
    'a@127.0.0.1',
  ]
  for (const email of bad) {
    const answer = await person.submit('/login', { email, return_to: LINK })
    t.equal(answer.statusCode, 400)
    t.match(answer.body, /role="alert" id="email-error">Enter an email address/)
    t.notMatch(answer.body, /alert\(1\)|Set-Cookie|aaaaaaaa|\u202e/)
    t.match(answer.body, `name="return_to" value="${LINK}"`, 'where it leads is kept')
  }
  t.equal((await person.submit('/login', {})).statusCode, 400)
  t.equal(await count('users'), users)

  const answers = []
  for (const email of ['first@example.com', 'never-seen@example.com']) {
    const stranger = new Person(app, email)
    await stranger.get('/login')
    const { statusCode, headers, body } = await stranger.submit('/login', { email })
    answers.push({ statusCode, body, location: headers.location, names: Object.keys(headers) })
  }
  t.same(answers[0], answers[1], 'a known and an unknown address get the same answer')
})

test('B58: only forms are read; other methods are refused', async (t) => {
  for (const url of ['/login', '/logout', '/agent/identity/claim/complete']) {
    for (const type of ['application/json', 'multipart/form-data; boundary=x', 'text/plain']) {
      const headers = { 'content-type': type, origin: ISSUER }
      const { statusCode } = await app.inject({ method: 'POST', url, headers, payload: '{}' })
      t.equal(statusCode, 415, `${url} ${type}`)
    }
    const { statusCode } = await app.inject({ method: 'POST', url, headers: { origin: ISSUER } })
    t.equal(statusCode, 400, 'no body at all')
  }
  for (const url of ['/logout', '/agent/identity/claim/complete'])
    t.equal((await app.inject(url)).statusCode, 405, 'WEB-04')
})

test('SIGN_IN=none: there is no way to sign in', async (t) => {
  const { app: closed } = await testReplica(t, config.DATABASE_URL!, { SIGN_IN: 'none' })
  t.match(await closed.inject('/login'), { statusCode: 404, body: /<h1>Nobody can sign in here/ })
  for (const path of ['/login', '/logout'])
    t.match(await postForm(closed, path, {}, { origin: ISSUER }), { statusCode: 404 })
  t.notMatch((await closed.inject('/')).body, /Sign in/)
})

test('an issuer with https and a path: its origin is trusted, its pages are led to', async (t) => {
  const issuer = 'https://localhost/agents'
  const { app: secure } = await testReplica(t, config.DATABASE_URL!, { ISSUER: issuer })
  const person = new Person(secure, 'path@example.com')
  const page = await person.get('/agents/login')
  t.match(page.body, `action="${issuer}/login"`)
  const form = { email: person.email, return_to: LINK }
  const wrong = await person.submit('/agents/login', form, { origin: ISSUER })
  t.equal(wrong.statusCode, 403)
  const right = await person.submit('/agents/login', form, { origin: 'https://localhost' })
  t.match(right, { statusCode: 303, headers: { location: issuer + LINK } })
  t.match((await person.get('/agents/')).body, person.email)
})
