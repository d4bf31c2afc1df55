/** What an ID-JAG writes of the registration that it is for. */
import { test } from 'tap'
import { testApp } from '../fixtures/app.js'
import { present, someone } from '../fixtures/assertions.js'
import { testProvider } from '../fixtures/provider.js'

test('an assertion that changes nothing does not write the registration again', async (t) => {
  const { app, pool } = await testApp(t)
  const provider = await testProvider(t)
  await provider.trust(pool)
  const presented = async (claims = {}) => {
    const answer = await present(app, provider.idJag({ ...someone('anna'), ...claims }))
    t.equal(answer.statusCode, 200)
    return answer.json()
  }
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
