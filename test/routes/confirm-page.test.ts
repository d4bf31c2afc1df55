/** What the claim page says of the agent, before and after the person has decided (WEB-12, 10027-03, 10027-06). */
import { t, test } from 'tap'
import { ISSUER, linkToken, registerAnonymous, registerFor, testApp } from '../fixtures/app.js'
import { confirm, present, renew, someone } from '../fixtures/assertions.js'
import { Person } from '../fixtures/person.js'
import { testProvider } from '../fixtures/provider.js'

const { app, pool } = await testApp(t)
const P = await testProvider(t)
await P.trust(pool, { name: 'Acme \u202e Agents' })
const alice = await Person.signedIn(app, 'alice@example.com')

async function ask(hint = alice.email) {
  const { claim, registration_id: id } = await registerFor(app, hint)
  return { id, claim, token: linkToken(claim) }
}
const askedFrom = (id: string, address: string | null) =>
  pool.query('update claim_attempts set requested_from = $1 where registration_id = $2', [
    address,
    id,
  ])

test('10027-06: an agent that asks from elsewhere is told of, calmly, and nothing is refused', async (t) => {
  const other = /<strong>It asked from another network than yours\.<\/strong>[^<]*data centre/
  for (const [address, shown, elsewhere] of [
    ['198.51.100.9', '198.51.100.9', true],
    ['2001:db8::7', '2001:db8::7', false],
    ['127.0.0.77', '127.0.0.77', false],
    ['127.0.1.1', '127.0.1.1', true],
    [null, 'an unknown address', false],
  ] as const) {
    const { id, claim, token } = await ask()
    await askedFrom(id, address)
    const { statusCode, body } = await alice.openClaim(token)
    t.equal(statusCode, 200)
    t.match(body, `just now, from ${shown} <small>`)
    t.equal(other.test(body), elsewhere, shown)
    t.match(body, 'If you did not start this, decline.')
    if (!elsewhere) continue
    const forwarded = { 'x-forwarded-for': address! }
    t.match((await alice.get(`/claim?claim_attempt_token=${token}`, forwarded)).body, other)
    t.equal((await confirm(alice, claim)).statusCode, 303)
  }
})

test('when it asked is told as people say it, and exactly', async (t) => {
  const { id, token } = await ask()
  await pool.query(
    `update claim_attempts set requested_at = now() - interval '125 seconds' where registration_id = $1`,
    [id],
  )
  t.match(
    (await alice.openClaim(token)).body,
    /<dd>2 minutes ago, from 127\.0\.0\.1 <small>\d+ \w+ \d{4}, \d\d:\d\d UTC<\/small>/,
  )
})

test('a provider is named by the trust list, with its host, and cannot turn the text around it', async (t) => {
  const { claim } = (await present(app, P.idJag(someone('alice')))).json()
  const host = new URL(P.issuer).host
  const told = `An agent of <strong><bdi>Acme \u202e Agents</bdi></strong> <small><bdi>${host}</bdi></small>`
  const lasts = 'As long as <bdi>Acme \u202e Agents</bdi> vouches for it'
  const page = (await alice.openClaim(linkToken(claim))).body
  for (const words of [told, lasts, '<dt>It will be able to</dt>']) t.match(page, words)
  await confirm(alice, claim)
  const done = (await alice.openClaim(linkToken(claim))).body
  for (const words of [told, lasts, '<dt>It can now</dt>', 'Read your data']) t.match(done, words)
})

test('a provider that asks for less than there is can let its agent do more later, and the page says so', async (t) => {
  const bea = await Person.signedIn(app, 'bea@example.com')
  const asks = async (scope: object) =>
    (await present(app, P.idJag({ ...someone('bea'), ...scope }))).json()
  const more = '</bdi> can let it do more later, without asking you again'
  t.notMatch((await bea.openClaim(linkToken((await asks({})).claim))).body, more)
  const { claim } = await asks({ scope: 'api.read' })
  const token = linkToken(claim)
  t.match((await bea.openClaim(token)).body, more)
  await confirm(bea, claim)
  t.match((await bea.openClaim(token)).body, more)
  t.same((await asks({})).scopes, ['api.read', 'api.write'], 'so it is')
})

test('after the code the page shows what the agent can do, for how long, and where to end it', async (t) => {
  const { claim } = await ask()
  const done = await alice.follow(confirm(alice, claim))
  t.match(done, { statusCode: 200, body: '<h1>Done: your agent is authorized</h1>' })
  for (const words of [
    'An agent that named your email address',
    '<dt>It can now</dt>',
    'Change your data <small><code>api.write</code>',
    '2 hours once it starts, then it has to ask you again',
    `href="${ISSUER}/agents"`,
  ])
    t.match(done.body, words)
  t.notMatch(done.body, /<form|user_code/)
})

test('after a decline the page says that nothing was given, and to what', async (t) => {
  const { claim_token } = await registerAnonymous(app)
  const { claim_attempt } = (await renew(app, claim_token, { login_hint: alice.email })).json()
  const token = linkToken(claim_attempt)
  await alice.decline(token)
  const { body } = await alice.openClaim(token)
  for (const words of [
    'The agent was told no, and got nothing.',
    'An agent that has not said who it is',
    '<dt>It asked to</dt>',
    'Read your data',
  ])
    t.match(body, words)
  t.notMatch(body, /<dt>For<\/dt>|It can now/)
})

test('every dead end has a way on, and says nothing of the agent', async (t) => {
  const dead = async (set: string) => {
    const { id, token } = await ask()
    await pool.query(`update claim_attempts set ${set} where registration_id = $1`, [id])
    return alice.openClaim(token)
  }
  const bobs = await ask('bob@example.com')
  const pages = [
    await alice.openClaim('cat_unknown'),
    await dead('superseded_at = now()'),
    await dead('wrong_codes = 5'),
    await dead(`expires_at = now() - interval '1s'`),
    await alice.openClaim(bobs.token),
  ]
  for (const { statusCode, body } of pages) {
    t.ok(statusCode >= 400)
    t.notMatch(body, /<dt>|An agent (of|that)|api\.read/)
    t.match(body, /<a class="button" href="[^"]*\/agents">|>Use another account<\/button>/)
    t.match(body, `<bdi>${alice.email}</bdi>`)
  }
  for (const url of [
    '/agents/history?registration_id=reg_unknown',
    '/claim?claim_attempt_token=a&claim_attempt_token=b',
  ])
    t.match(
      (await alice.get(url)).body,
      `<a class="button" href="${ISSUER}/">Go to the start page</a>`,
    )
})

test('"Not you?" signs out and comes back to the same claim', async (t) => {
  const { token } = await ask()
  const someoneElse = await Person.signedIn(app, 'alice@example.com')
  const { body } = await someoneElse.openClaim(token)
  const [form] = /<form [^>]*\/logout".*?<\/form>/s.exec(body)!
  t.match(form, 'Not you?')
  const return_to = /name="return_to" value="([^"]*)"/.exec(form)![1]!
  const out = await someoneElse.submit('/logout', { return_to })
  t.match(out, {
    statusCode: 303,
    headers: { location: `${ISSUER}/claim?claim_attempt_token=${token}` },
  })
  t.equal((await someoneElse.openClaim(token)).statusCode, 303, 'to the sign-in')
})
