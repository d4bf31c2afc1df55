/** C50: replicas of one database are one deployment. */
import { test } from 'tap'
import { buildApp } from '../../src/app.js'
import { deployment } from '../../src/cli-doctor-database.js'
import { readConfig } from '../../src/config.js'
import { SECRET, testReplica } from '../fixtures/app.js'
import { testDatabase } from '../fixtures/database.js'

test('C50: a replica of another ISSUER does not start, and is not ready', async (t) => {
  const { url, pool } = await testDatabase(t)
  const settings = (ISSUER: string) =>
    readConfig({ DATABASE_URL: url, SECRET, ISSUER, LOG_LEVEL: 'silent' })
  const local = (await testReplica(t, url)).app
  const diagnosis = (ISSUER: string) =>
    deployment({ db: local.db, pool, embedded: false }, settings(ISSUER))
  t.match(await diagnosis('https://a.test'), { status: 'ok', found: /^no replica has started/ })

  const { app } = await testReplica(t, url, { ISSUER: 'https://a.test' })
  const again = await testReplica(t, url, { ISSUER: 'https://a.test' })
  const ready = async (at = app) => (await at.inject({ url: '/readyz' })).statusCode
  t.equal(await ready(), 200)
  t.equal(await ready(again.app), 200)
  const message = /^The database belongs to https:\/\/a\.test, and ISSUER is another/
  for (const other of ['https://b.test', 'https://a.test/t1'])
    await t.rejects(buildApp(settings(other)), { message })
  t.match(await diagnosis('https://a.test'), { status: 'ok', found: /belongs to https/ })
  t.match(await diagnosis('https://b.test'), { status: 'fault', found: message, fix: /ISSUER/ })

  await pool.query(`update deployment set issuer = 'https://b.test'`)
  t.equal(await ready(), 503)
  t.equal(await ready(local), 200, 'on localhost it is for trying things')
  t.match(await diagnosis('http://localhost:8000'), { status: 'ok', found: /this one is local/ })
  await pool.query('delete from deployment')
  t.equal(await ready(), 200)
})

test('C50: of two that start at once with different issuers one does', async (t) => {
  const { url } = await testDatabase(t)
  const starts = await Promise.allSettled(
    ['https://a.test', 'https://b.test'].map((ISSUER) => testReplica(t, url, { ISSUER })),
  )
  t.same(starts.map(({ status }) => status).toSorted(), ['fulfilled', 'rejected'])
})
