/** HTTP-01: counting several at once is counting them one after the other. */
import { test } from 'tap'
import { lookAtLimit, takeFromLimit } from '../../src/repositories/rate-limits.js'
import { connect } from '../../src/database.js'
import { testDatabase } from '../fixtures/database.js'

const LIMIT = { name: 'anonymous_per_ip', quota: 5 } as const

test('of those who come at once the first ones pass, each network by itself', async (t) => {
  const { url, pool } = await testDatabase(t)
  const { pool: own, db } = connect(url, { max: 4, onLost: () => {} })
  t.teardown(() => own.end())
  const take = async (...keys: string[]) =>
    (await takeFromLimit(db, LIMIT, keys)).map(({ ok, remaining }) => (ok ? remaining : 'over'))

  t.same(await take(), [])
  t.same(await take('a', 'b', 'a', 'a'), [4, 4, 3, 2])
  t.same(await take('b', 'a', 'c', 'a', 'a', 'a'), [3, 1, 4, 0, 'over', 'over'])
  t.same(await take('a', 'b', 'b', 'a'), ['over', 2, 1, 'over'])
  t.match(await lookAtLimit(db, LIMIT, ['b', 'a', 'new', 'b']), [
    { ok: true, remaining: 1 },
    { ok: false, remaining: 0 },
    { ok: true, remaining: 5, seconds: 3600 },
    { ok: true, remaining: 1 },
  ])
  t.match(await lookAtLimit(db, { ...LIMIT, name: 'anonymous' }, ['a']), [{ remaining: 5 }])

  const written = async () => (await pool.query('select key, xmin from rate_limits')).rows
  const before = await written()
  t.same(await take('a', 'a'), ['over', 'over'])
  t.same(await written(), before, 'a flood writes nothing')

  await pool.query(`update rate_limits set started_at = now() - interval '59 minutes'`)
  const late = await takeFromLimit(db, LIMIT, ['a', 'b', 'b', 'd'])
  t.same(
    late.map(({ ok, seconds }) => [ok, seconds]),
    [
      [false, 60],
      [true, 60],
      [false, 60],
      [true, 3600],
    ],
  )
  await pool.query(`update rate_limits set started_at = now() - interval '1 hour'`)
  t.same(await take('a', 'b', 'a'), [4, 4, 3], 'a new hour, however many were refused')

  const many = await Promise.all(
    Array.from({ length: 40 }, (_, i) => take('x', i % 2 ? 'y' : 'z', 'x')),
  )
  const passed = many.flat().filter((left) => left !== 'over')
  t.same(passed.toSorted(), [4, 3, 2, 1, 0].flatMap((left) => [left, left, left]).toSorted())
})
