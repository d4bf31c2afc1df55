/** What an ID-JAG writes of the registration that it is for, and which ones a person can claim and end. */
import { test, type Test } from 'tap'
import { revokeRegistration } from '../../src/repositories/agents.js'
import { claimRegistration } from '../../src/repositories/registrations.js'
import { exchange, registerAnonymous, testApp } from '../fixtures/app.js'
import { claimsOf, present, someone } from '../fixtures/assertions.js'
import { testProvider } from '../fixtures/provider.js'

async function presenter(t: Test) {
  const { app, pool } = await testApp(t)
  const provider = await testProvider(t)
  await provider.trust(pool)
  const presented = async (claims = {}) => {
    const answer = await present(app, provider.idJag({ ...someone('anna'), ...claims }))
    t.equal(answer.statusCode, 200)
    return answer.json()
  }
  return { app, pool, presented }
}

test('an assertion that changes nothing does not write the registration again', async (t) => {
  const { pool, presented } = await presenter(t)
  const writtenBy = async () => (await pool.query('select xmin from registrations')).rows

  const { registration_id } = await presented()
  const first = await writtenBy()
  t.equal(first.length, 1)
  t.equal((await presented()).registration_id, registration_id)
  t.same(await writtenBy(), first)

  t.same((await presented({ scope: 'api.read' })).scopes, ['api.read'])
  const narrowed = await writtenBy()
  t.strictNotSame(narrowed, first, 'other scopes are written')
  t.same((await presented({ scope: 'api.read' })).scopes, ['api.read'])
  t.same(await writtenBy(), narrowed)

  await pool.query('update registrations set revoked_at = now()')
  t.not((await presented()).registration_id, registration_id, 'one that was revoked stays so')
})

test('a registration of somebody else, or of before its person came, is bound anew', async (t) => {
  const { app, pool, presented } = await presenter(t)
  const { registration_id, identity_assertion } = await presented()
  let before = identity_assertion
  const other = await presented(someone('otto'))
  for (const change of [
    `update delegations set user_id = (select user_id from delegations where subject = 'otto')`,
    `update registrations set set_aside_at = now() where subject = 'anna'`,
  ]) {
    await pool.query(change)
    const anew = await presented()
    t.equal(anew.registration_id, registration_id)
    t.equal((await exchange(app, before)).json().error, 'invalid_grant', change)
    before = anew.identity_assertion
    const [mine, theirs] = await Promise.all(
      [before, other.identity_assertion].map(async (assertion) => {
        const { access_token } = (await exchange(app, assertion)).json()
        return claimsOf(access_token).sub
      }),
    )
    t.equal(mine, theirs, 'it acts for the one for whom its subject stands now')
  }
})

test('nobody ends a registration that is another’s by the time', async (t) => {
  const { app, pool, presented } = await presenter(t)
  const { registration_id: id, identity_assertion } = await presented()
  const user = (await presented(someone('otto'))).registration_id
  const { rows } = await pool.query('select user_id from registrations where id = $1', [user])
  const by = { user_id: rows[0].user_id, address: '192.0.2.1', details: {} }
  await app.transaction((tx) => revokeRegistration(tx, id, by))
  t.equal((await exchange(app, identity_assertion)).statusCode, 200)
})

test('only what waits, and is in its window, is bound to a person', async (t) => {
  const { app, pool } = await testApp(t)
  await pool.query(`insert into users (id) values ('user_1')`)
  for (const over of [
    `claimed_at = now(), user_id = 'user_1'`,
    'revoked_at = now()',
    'claim_expires_at = now()',
  ]) {
    const { registration_id: id } = await registerAnonymous(app)
    await pool.query(`update registrations set ${over} where id = $1`, [id])
    t.equal(await app.transaction((tx) => claimRegistration(tx, id, 'user_1')), false, over)
  }
})
