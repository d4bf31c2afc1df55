/**
 * The record of the assertion that was issued last: it spares an exchange the check of the signature, and nothing else
 * (RFC 7523 §3).
 */
import { createHash } from 'node:crypto'
import { decodeJwt, decodeProtectedHeader } from 'jose'
import t, { test } from 'tap'
import { retireKey, rotateKeys } from '../../src/key-store.js'
import * as agents from '../fixtures/app.js'
import { Person } from '../fixtures/person.js'
import { present } from '../fixtures/assertions.js'
import { testProvider } from '../fixtures/provider.js'

const ALICE = 'alice@example.com'
const { app, pool, config } = await agents.testApp(t)
const sha256 = (text: string) => createHash('sha256').update(text).digest('hex')

async function recorded(id: string): Promise<string | null> {
  const { rows } = await pool.query(
    `select encode(assertion_hash, 'hex') as hash from registrations where id = $1`,
    [id],
  )
  return rows[0].hash
}

const putOnRecord = (id: string, text: string | null) =>
  pool.query(`update registrations set assertion_hash = decode($2, 'hex') where id = $1`, [
    id,
    text && sha256(text),
  ])

/** Every other spelling of one character, and a few of the whole. */
function tampered(assertion: string): string[] {
  const [header, payload, signature] = assertion.split('.') as [string, string, string]
  const other = (at: number) => {
    const changed = signature[at] === 'A' ? 'B' : 'A'
    return `${header}.${payload}.${signature.slice(0, at)}${changed}${signature.slice(at + 1)}`
  }
  const whole = ['', 'AAAA', `${signature}AAAA`, Buffer.alloc(64).toString('base64url')]
  return [
    ...Array.from(signature, (_, at) => other(at)),
    ...whole.map((text) => `${header}.${payload}.${text}`),
  ]
}

test('7523-02: what is on record is exchanged as it is, and with no other signature', async (t) => {
  const { registration_id, identity_assertion } = await agents.registerAnonymous(app)
  t.equal(await recorded(registration_id), sha256(identity_assertion))
  const statuses = async (texts: string[]) => {
    const answers = await Promise.all(texts.map((text) => agents.exchange(app, text)))
    return [...new Set(answers.map(({ statusCode, json }) => `${statusCode} ${json().error}`))]
  }
  const bad = tampered(identity_assertion)
  t.same(await statuses(bad), ['400 invalid_grant'])
  t.same(await statuses([identity_assertion]), ['200 undefined'])

  await putOnRecord(registration_id, bad[0]!)
  t.same(await statuses(bad.slice(0, 1)), ['200 undefined'], 'its signature is not looked at')
  t.same(await statuses(bad.slice(1)), ['400 invalid_grant'])
  t.same(await statuses([identity_assertion]), ['200 undefined'], 'by its signature')

  await putOnRecord(registration_id, null)
  t.same(await statuses(bad), ['400 invalid_grant'], 'of an agent without a record')
  t.same(await statuses([identity_assertion]), ['200 undefined'])
})

test('the record of one registration is nothing to another', async (t) => {
  const [mine, theirs] = await Promise.all([1, 2].map(() => agents.registerAnonymous(app)))
  const [forged] = tampered(theirs.identity_assertion) as [string]
  await putOnRecord(mine.registration_id, forged)
  t.equal((await agents.exchange(app, forged)).statusCode, 400)
  await putOnRecord(theirs.registration_id, mine.identity_assertion)
  t.equal((await agents.exchange(app, theirs.identity_assertion)).statusCode, 200)
})

test('forged ones, which are looked up before their signature, fail by themselves', async (t) => {
  const { identity_assertion: good } = await agents.registerAnonymous(app)
  const [header, , signature] = good.split('.') as [string, string, string]
  const forged = (changed: object) => {
    const payload = Buffer.from(JSON.stringify({ ...decodeJwt(good), ...changed }))
    return `${header}.${payload.toString('base64url')}.${signature}`
  }
  const subjects = [
    '\0',
    'reg_\0',
    '\uD800',
    '',
    'x'.repeat(5000),
    'nobody',
    '{',
    1,
    null,
    ['x'],
    {},
  ]
  const bad = [
    ...subjects.map((sub) => forged({ sub })),
    ...[2 ** 31, 1e300, -1].map((generation) => forged({ generation })),
  ]
  const answers = await Promise.all(
    bad.flatMap((text) => [agents.exchange(app, text), agents.exchange(app, good)]),
  )
  answers.forEach(({ statusCode }, i) =>
    t.equal(statusCode, i % 2 ? 200 : 400, String(bad[i >> 1])),
  )
})

test('on record or not, everything else about it is checked', async (t) => {
  const { registration_id, identity_assertion: good } = await agents.registerAnonymous(app)
  const claims = decodeJwt(good)
  const now = Math.floor(Date.now() / 1000)
  const sign = (changed: object, typ = 'oauth-id-jag+jwt') =>
    app.keys.sign(typ, { ...claims, ...changed })
  const cases: Record<string, string> = {
    expired: sign({ exp: now - 61 }),
    'too old': sign({ iat: now - 3670, exp: now + 600 }),
    'for the resource': sign({ aud: agents.RESOURCE }),
    "another's": sign({ iss: 'https://idp.example' }),
    'of another type': sign({}, 'at+jwt'),
    'of an older generation': sign({ generation: 0 }),
    'of a later generation': sign({ generation: 2 }),
    'with another text around it': ` ${good}`,
  }
  for (const [what, assertion] of Object.entries(cases)) {
    await putOnRecord(registration_id, assertion)
    const answer = await agents.exchange(app, assertion)
    t.equal(`${answer.statusCode} ${answer.json().error}`, '400 invalid_grant', what)
  }
  await putOnRecord(registration_id, good)
  t.equal((await agents.exchange(app, good)).statusCode, 200)
  await agents.postForm(app, '/oauth2/revoke', { token: good })
  t.equal(await recorded(registration_id), sha256(good))
  t.equal((await agents.exchange(app, good)).statusCode, 400, 'revoked')
})

test('a poll puts its assertion on record; one fetched before stands by its signature', async (t) => {
  const { registration_id, claim_token, claim } = await agents.registerFor(app, ALICE)
  t.equal(await recorded(registration_id), null)
  const person = await Person.signedIn(app, ALICE)
  await person.confirm(agents.linkToken(claim), claim.user_code)
  const [first, second] = [
    (await agents.poll(app, claim_token)).json(),
    (await agents.poll(app, claim_token)).json(),
  ]
  t.equal(await recorded(registration_id), sha256(second.identity_assertion))
  for (const { identity_assertion } of [first, second]) {
    const answer = await agents.exchange(app, identity_assertion)
    t.equal(answer.json().scope, 'api.read api.write')
    for (const text of tampered(identity_assertion).slice(-6))
      t.equal((await agents.exchange(app, text)).statusCode, 400)
  }
})

test("a provider's agent is registered anew all the time, and leaves no record", async (t) => {
  const provider = await testProvider(t)
  await provider.trust(pool)
  const answer = await present(app, provider.idJag({ sub: 'nora', email: 'nora@example.com' }))
  const { registration_id, identity_assertion } = answer.json()
  t.equal(await recorded(registration_id), null)
  t.equal((await agents.exchange(app, identity_assertion)).statusCode, 200)
})

test('what a retired key signed is dead, also on record', async (t) => {
  const { registration_id, identity_assertion } = await agents.registerAnonymous(app)
  await rotateKeys(app.db, config.secrets, 0)
  await app.keys.check()
  t.equal((await agents.exchange(app, identity_assertion)).statusCode, 200)
  await retireKey(app.db, decodeProtectedHeader(identity_assertion).kid!)
  await app.keys.check()
  t.equal(await recorded(registration_id), sha256(identity_assertion))
  t.equal((await agents.exchange(app, identity_assertion)).statusCode, 400)
})
