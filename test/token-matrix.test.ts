/** 8725-08: every kind of token, as it is and as each other kind, at every place that takes one (RFC 8725 §3.12). */
import { t, test } from 'tap'
import { callApi, exchange, ISSUER, RESOURCE, testApp, type Answer } from './fixtures/app.js'
import { claimsOf, introspector, logOut, notify, present, someone } from './fixtures/assertions.js'
import { Person } from './fixtures/person.js'
import { now, testProvider, type Members } from './fixtures/provider.js'

const { app, pool } = await testApp(t)
const P = await testProvider(t)
await P.trust(pool)
const introspect = await introspector({ app })
const alice = await Person.signedIn(app, 'alice@example.com')
const SESSION = '__Host-registrar-session'

/** Each offers a token and says whether it was taken. */
const CONSUMERS: Record<string, (token: string) => Promise<boolean>> = {
  identity: async (token) => is(200, await present(app, token)),
  token: async (token) => is(200, await exchange(app, token)),
  introspect: async (token) => (await introspect(token)).active,
  api: async (token) => is(200, await callApi(app, token)),
  events: async (token) => is(202, await notify(app, token)),
  legacy: async (token) => is(200, await logOut(app, token)),
  session: async (token) =>
    !is(303, await new Person(app, '', new Map([[SESSION, token]])).get('/claim')),
}
const is = (status: number, { statusCode }: Answer) => {
  t.ok(statusCode < 500, `${statusCode}`)
  return statusCode === status
}

let people = 0
const assertion = async (): Promise<string> =>
  (await present(app, P.idJag(someone(`person-${(people += 1)}`)))).json().identity_assertion
const accessToken = async (): Promise<string> =>
  (await exchange(app, await assertion())).json().access_token
const idToken = (claims: Members = {}) =>
  P.idJag({ client_id: undefined, nonce: 'n', ...claims }, { header: { typ: 'JWT' } })

/** Fresh each time: what was spent is refused for that alone. */
const KINDS: Record<string, { make: () => Promise<string> | string; takenBy: string[] }> = {
  'access token': { make: accessToken, takenBy: ['introspect', 'api'] },
  'our assertion': { make: assertion, takenBy: ['token'] },
  'ID-JAG': { make: () => P.idJag(someone(`person-${(people += 1)}`)), takenBy: ['identity'] },
  'security event': { make: () => P.securityEvent({ sub: 'nobody' }), takenBy: ['events'] },
  'logout token': { make: () => P.logoutToken({ sub: 'nobody' }), takenBy: ['legacy'] },
  'ID token': { make: () => idToken({ sub: 'nobody' }), takenBy: [] },
  'session cookie': { make: () => alice.cookies.get(SESSION)!, takenBy: ['session'] },
}

for (const [kind, { make, takenBy }] of Object.entries(KINDS))
  test(`8725-08: ${kind} is taken by ${takenBy.join(', ') || 'nobody'} and by nobody else`, async (t) => {
    for (const [name, offer] of Object.entries(CONSUMERS))
      t.equal(await offer(await make()), takenBy.includes(name), name)
  })

const TYPES = ['at+jwt', 'oauth-id-jag+jwt', 'secevent+jwt', 'logout+jwt', 'JWT', undefined]

test('8725-08: our tokens under another typ, signed by our own key, are nothing', async (t) => {
  const kinds = { 'at+jwt': accessToken, 'oauth-id-jag+jwt': assertion }
  for (const [own, make] of Object.entries(kinds))
    for (const typ of TYPES.filter((type) => type !== own))
      for (const [name, offer] of Object.entries(CONSUMERS)) {
        const token = app.keys.sign(typ as string, claimsOf(await make()))
        t.equal(await offer(token), false, `${own} as ${typ} at ${name}`)
      }
})

test("8725-08, 8417-09: a provider's tokens under another typ are nothing", async (t) => {
  const kinds: Record<string, (header: Members) => string> = {
    'oauth-id-jag+jwt': (header) => P.idJag(someone('nobody'), { header }),
    // With an exp, and as old as a security event may be: the one difference that claims can make.
    'secevent+jwt': (header) => P.securityEvent({ sub: 'nobody', iat: now() - 900 }, { header }),
    'logout+jwt': (header) => P.logoutToken({ sub: 'nobody' }, { header }),
    JWT: (header) => P.idJag({ client_id: undefined, nonce: 'n' }, { header }),
  }
  for (const [own, make] of Object.entries(kinds))
    for (const typ of TYPES.filter((type) => type !== own))
      for (const [name, offer] of Object.entries(CONSUMERS)) {
        // A logout token is a security event under another typ, and nothing else: the typ is what makes it one.
        if (own === 'logout+jwt' && typ === 'secevent+jwt' && name === 'events') continue
        t.equal(await offer(make({ typ })), false, `${own} as ${typ} at ${name}`)
      }
})

test('7523-13: an ID-JAG is refused at the token endpoint, and not spent by that', async (t) => {
  const idJag = P.idJag(someone('direct'))
  t.match((await exchange(app, idJag)).json(), { error: 'invalid_grant' })
  t.equal((await present(app, idJag)).statusCode, 200)
})

test('a provider cannot sign what only we sign', async (t) => {
  const [ours, access] = [claimsOf(await assertion()), claimsOf(await accessToken())]
  const { kid } = app.keys.jwks.keys[0]!
  for (const header of [{}, { kid }])
    for (const [name, offer] of Object.entries(CONSUMERS)) {
      t.equal(await offer(P.idJag({ ...ours, iss: ISSUER }, { header })), false, name)
      const token = P.idJag(
        { ...access, iss: ISSUER, aud: RESOURCE },
        { header: { ...header, typ: 'at+jwt' } },
      )
      t.equal(await offer(token), false, name)
    }
})
