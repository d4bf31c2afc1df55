/** An agent that knows nothing but /auth.md, and takes it to the letter; and the example agent. */
import { test } from 'tap'
import { freePort } from '../src/embedded.js'
import { linkToken, testApp, testReplica } from './fixtures/app.js'
import { Person } from './fixtures/person.js'
import { start } from './fixtures/process.js'
import { testProvider } from './fixtures/provider.js'

const PERSON = 'user@example.com'

test('PRF-34: each example of auth.md works as it stands', async (t) => {
  const { app, pool } = await testApp(t)
  const provider = await testProvider(t)
  await provider.trust(pool)
  const document = (await app.inject('/auth.md')).body
  const examples = [
    ...document.matchAll(/^```http\n([A-Z]+) (\S+)\n(\S+): (.*)\n(?:\n(.*)\n)?```/gm),
  ]
  /** Sends the example that has `part`, with values where it leaves them open. */
  const send = async (part: string, values: Record<string, string> = {}) => {
    const example = examples.find(([text]) => text.includes(part))!.slice(1)
    const [method, url, header, value, payload] = example.map((text) =>
      Object.entries(values).reduce(
        (filled, [open, given]) => filled.replace(open, given),
        text ?? '',
      ),
    )
    const headers = { [header!]: value! }
    const answer = await app.inject({
      method: method as 'GET',
      url: url!,
      headers,
      payload: payload!,
    })
    return { ...(answer.body === '' ? {} : answer.json()), status: answer.statusCode }
  }
  const poll = (claim_token: string) => send('grant-type:claim', { 'clm_…': claim_token })
  const renew = async (claim_token: string) => {
    const [, body, url] = /`({"claim_token".*?})` as JSON to (\S+?)[;.]? /.exec(document)!
    const payload = JSON.parse(body!.replace('clm_…', claim_token))
    return (await app.inject({ method: 'POST', url: url!, payload })).json()
  }

  const hinted = await send('"service_auth"')
  t.match(hinted, { status: 200, claim: { user_code: /^\d{6}$/ } })
  t.match(await poll(hinted.claim_token), { error: 'authorization_pending' })
  const { claim_attempt } = await renew(hinted.claim_token)
  const person = await Person.signedIn(app, PERSON)
  await person.confirm(linkToken(claim_attempt), claim_attempt.user_code)
  t.match(await poll(hinted.claim_token), { status: 200, scope: 'api.read api.write' })

  const pinned = await send('<ID-JAG>', { '<ID-JAG>': provider.idJag({ email: PERSON }) })
  t.match(pinned, { status: 401, error: 'interaction_required' })
  t.match(await renew(pinned.claim_token), { claim_attempt: { user_code: /^\d{6}$/ } })

  const { claim_token, identity_assertion } = await send('"anonymous"')
  const exchanged = () => send('jwt-bearer', { '<identity_assertion>': identity_assertion })
  const { access_token } = await exchanged()
  t.match(await send('GET', { '…': 'resource', '<access_token>': access_token }), { status: 200 })
  t.match(await send('"login_hint", "claim', { 'clm_…': claim_token }), { status: 200 })
  const revoked = { '<access_token or identity_assertion>': identity_assertion }
  t.match(await send('oauth2/revoke', revoked), { status: 200 })
  t.match(await exchanged(), { status: 400, error: 'invalid_grant' })
})

test('PRF-34: auth.md says nothing of what these settings do not have', async (t) => {
  const { config } = await testApp(t)
  for (const type of ['service_auth', 'identity_assertion']) {
    const env = { IDENTITY_TYPES: type, RESOURCE: 'https://api.example.com/' }
    const { app } = await testReplica(t, config.DATABASE_URL!, env)
    const { body } = await app.inject('/auth.md')
    t.match(body, 'GET https://api.example.com/…\n')
    t.match(body, '| `api.read` | Read your data | no |', 'nothing before a person has confirmed')
    t.notMatch(body, /anonymous registration/)
  }
})

test('8414-01: the example agent finds an issuer that has a path', async (t) => {
  const port = await freePort()
  const issuer = `http://localhost:${port}/t1`
  const { app } = await testApp(t, { ISSUER: issuer })
  await app.listen({ port })
  const { code, stdout } = await start(t, '../examples/agent', ['--issuer', issuer], {}).ended
  t.match(stdout, /You may read this\./)
  t.equal(code, 0)
})
