/** The operator's command as operators run it: as a process. */
import { test } from 'tap'
import { addResourceServerCommands } from '../src/cli-resource-servers.js'
import * as agents from './fixtures/app.js'
import { commands } from './fixtures/command.js'
import { testDatabase, testRole } from './fixtures/database.js'
import { isSentence, operator } from './fixtures/process.js'

test('migrations go up and down, and their status is told', async (t) => {
  const { url: DATABASE_URL, pool } = await testDatabase(t, { empty: true })
  const registrar = operator(t, { DATABASE_URL })
  t.match(await registrar('migrate', 'status'), {
    code: 0,
    stdout: /^0001_registrations {2}missing$/m,
  })
  t.match(await registrar('migrate'), { code: 0, stderr: /^Applied 0001_registrations$/m })
  t.match(await registrar('migrate', 'up'), { code: 0, stdout: '', stderr: '' })
  t.match(await registrar('migrate', 'status'), {
    code: 0,
    stdout: /^0001_registrations {2}20.*Z$/m,
  })
  const unknown = { code: 1, stderr: /^error: unknown command 'upp'$/m }
  for (const args of [['upp'], ['up', 'upp']]) t.match(await registrar('migrate', ...args), unknown)
  for (const count of ['-1', 'x']) {
    const refused = await registrar('migrate', 'down', '--count', count)
    t.match(refused, { code: 1, stderr: /A whole number/ }, count)
  }
  t.match(await registrar('migrate', 'status'), { stdout: /^(?!.*missing)/s }, 'nothing happened')
  const { rows } = await pool.query('select count(*)::int as n from migrations')
  const down = await registrar('migrate', 'down', '--count', String(rows[0].n))
  t.match(down, { code: 0, stderr: /^Reverted 0001_registrations$/m })
  t.match(await registrar('migrate', 'status'), { stdout: /^0001_registrations {2}missing$/m })
})

test('a role that may not create tables is told so, and who can change that', async (t) => {
  const { url, pool } = await testDatabase(t, { empty: true })
  const other = await testRole(t, url)
  const registrar = operator(t, { DATABASE_URL: other.url })
  const database = new URL(url).pathname.slice(1)
  const refused = RegExp(
    `^The role ${other.role} may not create tables in the database ${database}, which \\w+ owns\\. As \\w+: alter database ${database} owner to ${other.role}`,
  )
  isSentence(t, await registrar('migrate', 'up'), refused)
  await pool.query(`grant create on schema public to ${other.role}`)
  t.match(await registrar('migrate', 'up'), { code: 0, stderr: /^Applied 0001_registrations$/m })
})

test('resource servers are added, listed and removed; what cannot be is said', async (t) => {
  const own = await agents.testApp(t)
  const { app, config, pool } = own
  const added = await operator(t, { DATABASE_URL: config.DATABASE_URL })(
    'resource-servers',
    'add',
    'orders',
  )
  t.match(added, { code: 0, stderr: '' })
  const { id, secret } = JSON.parse(added.stdout)
  const authorization = `Basic ${Buffer.from(`${id}:${secret}`).toString('base64')}`
  const introspect = () =>
    agents.postForm(app, '/oauth2/introspect', { token: 'x' }, { authorization })
  t.same((await introspect()).json(), { active: false })

  const registrar = commands(own, addResourceServerCommands)
  isSentence(t, await registrar('resource-servers', 'add', 'orders'), /server named orders already/)
  isSentence(t, await registrar('resource-servers', 'add', ' '), /needs a name/)
  const listed = await registrar('resource-servers', 'list')
  t.match(JSON.parse(listed.stdout), [{ id, name: 'orders', created_at: /^20/ }])
  t.notMatch(listed.stdout, /secret|hash/)
  isSentence(
    t,
    await registrar('resource-servers', 'remove', 'nobody'),
    /no resource server nobody/,
  )
  const removed = await registrar('resource-servers', 'remove', 'orders')
  t.same(JSON.parse(removed.stdout), { id, name: 'orders' })
  t.equal((await introspect()).statusCode, 401, 'at once')
  t.same(JSON.parse((await registrar('resource-servers', 'list')).stdout), [])

  const { rows } = await pool.query(
    `select event, details from audit_events where event <> 'key.created' order by id`,
  )
  const details = { id, name: 'orders' }
  t.same(rows, [
    { event: 'resource_server.added', details },
    { event: 'resource_server.removed', details },
  ])
  t.match(await registrar('resource-servers', 'add'), { code: 1, stderr: /missing.*name/ })
})
