/** PRF-36: `token.issued` may follow its answer, by less than a second, and is there exactly once. */
import { setTimeout as sleep } from 'node:timers/promises'
import type pg from 'pg'
import { test } from 'tap'
import { decodeJwt } from 'jose'
import { findRegistrations } from '../../src/repositories/registrations.js'
import * as agents from '../fixtures/app.js'
import { gated } from '../fixtures/away.js'
import { testDatabase } from '../fixtures/database.js'
import { startServer } from '../fixtures/process.js'
import { over } from '../fixtures/wire.js'

/** By the `jti` of their access tokens, in the order of their rows. */
async function issued(pool: pg.Pool): Promise<string[]> {
  const { rows } = await pool.query(
    `select details->>'jti' as jti from audit_events where event = 'token.issued' order by id`,
  )
  return rows.map(({ jti }) => jti)
}

const jtiOf = (answer: agents.Answer) => decodeJwt(answer.json().access_token).jti!

async function untilThere(pool: pg.Pool, jtis: string[]) {
  for (let tries = 0; tries < 1_000 && (await issued(pool)).length < jtis.length; tries += 1)
    await sleep(10)
}

/**
 * From now on no row can be written, as on a disk that is full: what is read, and any other change, still works. `late`
 * has its answer all the same: it came soon enough after a row that was written, which may take several tries.
 */
async function fillUp(app: agents.Sender, pool: pg.Pool, identity_assertion: string) {
  const told: string[] = []
  for (;;) {
    told.push(jtiOf(await agents.exchange(app, identity_assertion)))
    await pool.query(
      `alter table audit_events add constraint no_room check (event <> 'token.issued') not valid`,
    )
    const answer = await agents.exchange(app, identity_assertion)
    if (answer.statusCode === 200) return { told, late: jtiOf(answer) }
    await pool.query('alter table audit_events drop constraint no_room')
  }
}

test('PRF-36: of many exchanges each is told once, of two replicas too', async (t) => {
  const { url, pool } = await testDatabase(t)
  const { app } = await agents.testReplica(t, url)
  const replicas = [app, (await agents.testReplica(t, url)).app]
  const { identity_assertion } = await agents.registerAnonymous(app)
  const jtis: string[] = []
  for (let round = 0; round < 20; round += 1) {
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, i) => agents.exchange(replicas[i % 2]!, identity_assertion)),
    )
    jtis.push(...answers.map(jtiOf))
  }
  await untilThere(pool, jtis)
  t.same((await issued(pool)).toSorted(), jtis.toSorted())
})

test('PRF-36, C33: whether or not a write took whose end nobody heard, each is told once', async (t) => {
  const { app, gate, pool } = await gated(t)
  const { registration_id, identity_assertion } = await agents.registerAnonymous(app)
  const jtis: string[] = []
  for (const moment of ['before', 'after'] as const) {
    jtis.push(jtiOf(await agents.exchange(app, identity_assertion)))
    // The next goes ahead of its row, whose values go over the wire each time.
    const broken = gate.breakAt(`"registration_id":"${registration_id}"`, moment)
    jtis.push(jtiOf(await agents.exchange(app, identity_assertion)))
    await broken
    await untilThere(pool, jtis)
    t.same(await issued(pool), jtis)
    // Longer than the pause after a failure.
    await sleep(600)
    t.same(await issued(pool), jtis, 'and not again')
  }
})

test('C31: while the rows of answers cannot be written, nobody gets another answer', async (t) => {
  const { app, pool } = await gated(t)
  const { identity_assertion } = await agents.registerAnonymous(app)
  const { told, late } = await fillUp(app, pool, identity_assertion)
  await sleep(200)
  for (let i = 0; i < 3; i += 1) {
    const refused = await agents.exchange(app, identity_assertion)
    t.ok(refused.statusCode >= 500)
  }
  t.same(await issued(pool), told)
  await pool.query('alter table audit_events drop constraint no_room')
  const jtis = [...told, late, jtiOf(await agents.exchange(app, identity_assertion))]
  await untilThere(pool, jtis)
  t.same(
    (await issued(pool)).toSorted(),
    jtis.toSorted(),
    'the one that had its answer is told late',
  )
})

test('C34: where nothing can be written no registration is found: its row could not follow', async (t) => {
  const { app } = await agents.testApp(t)
  const { registration_id } = await agents.registerAnonymous(app)
  const readOnly = app.db.transaction().setAccessMode('read only')
  const found = readOnly.execute((tx) => findRegistrations(tx, [registration_id], []))
  await t.rejects(found, { code: '25006' })
})

test('C39: a replica that stops leaves nothing untold', async (t) => {
  const { url, pool } = await testDatabase(t)
  const { app } = await agents.testReplica(t, url)
  const { identity_assertion } = await agents.registerAnonymous(app)
  const stopping = await agents.testReplica(t, url)
  const jtis = [1, 2].map(async () =>
    jtiOf(await agents.exchange(stopping.app, identity_assertion)),
  )
  const first = await Promise.all(jtis)
  first.push(jtiOf(await agents.exchange(stopping.app, identity_assertion)))
  await stopping.app.close()
  t.same((await issued(pool)).toSorted(), first.toSorted())
})

test('C39: what cannot be written by then is in the log', async (t) => {
  const { url: DATABASE_URL, pool } = await testDatabase(t)
  const server = await startServer(t, { DATABASE_URL })
  const app = over(server.url)
  const { identity_assertion } = await agents.registerAnonymous(app)
  const { late: jti } = await fillUp(app, pool, identity_assertion)
  server.child.kill('SIGTERM')
  const { code, stdout } = await server.ended
  t.equal(code, 0)
  const line = stdout.split('\n').find((text) => text.includes('not in the audit trail'))
  t.match(JSON.parse(line!), { level: 50, lost: [{ event: 'token.issued', details: { jti } }] })
})
