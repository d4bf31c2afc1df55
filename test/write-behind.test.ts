/** Writes that follow their answer for as long as writing goes well. */
import { mock } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import { test, type Test } from 'tap'
import { writeBehind } from '../src/write-behind.js'

const POISON = -1

/** Goes by a clock that stands still; writing fails while `broken`, and takes as long as `held`. */
function writer(t: Test) {
  mock.timers.enable({ apis: ['setTimeout'] })
  const now = mock.method(performance, 'now', () => clock.ms)
  t.teardown(() => {
    mock.timers.reset()
    now.mock.restore()
  })
  const clock = { ms: 1_000 }
  const written: [how: string, ...inputs: number[]][] = []
  const faults: unknown[] = []
  const state: { broken: boolean; held?: Promise<void> | undefined } = { broken: false }
  const as = (how: string) => async (inputs: number[]) => {
    await state.held
    if (state.broken || inputs.includes(POISON)) throw new Error('away')
    written.push([how, ...inputs])
  }
  const { write, end } = writeBehind<number>(
    (input) => as('one')([input]),
    as('many'),
    as('missing'),
    (error) => faults.push(error),
  )
  const pass = async (ms: number) => {
    clock.ms += ms
    mock.timers.tick(ms)
    await setImmediate()
  }
  return { write, end, written, faults, state, pass }
}

test('the first waits for its write, and those that follow soon are answered before theirs', async (t) => {
  const { write, written, pass } = writer(t)
  await write(1)
  t.same(written, [['one', 1]])
  for (const input of [2, 3]) await write(input)
  await pass(19)
  t.same(written, [['one', 1]])
  await pass(1)
  t.same(written.splice(0), [
    ['one', 1],
    ['many', 2, 3],
  ])

  await pass(99)
  await write(4)
  await pass(20)
  t.same(written.splice(0), [['many', 4]])
  await pass(100)
  await write(5)
  t.same(written, [['one', 5]], 'not so soon after the last')
})

test('what came while others were written is written next, at most a thousand at once', async (t) => {
  const { write, written, pass } = writer(t)
  await write(0)
  for (let input = 1; input <= 1_001; input += 1) await write(input)
  await pass(20)
  await write(2_000)
  await pass(20)
  t.same(
    written.map(({ length }) => length - 1),
    [1, 1_000, 2],
  )
  t.same(written[2], ['many', 1_001, 2_000])
})

test('when a write failed, callers wait for theirs, and fail with it', async (t) => {
  const { write, written, faults, state, pass } = writer(t)
  await write(1)
  await write(2)
  state.broken = true
  await pass(20)
  t.match(faults, [{ message: 'away' }])
  await t.rejects(write(3), { message: 'away' })
  await pass(500)
  t.equal(faults.length, 2, 'and what was answered is tried again')
  state.broken = false
  await pass(500)
  t.same(written.splice(0), [
    ['one', 1],
    ['missing', 2],
  ])
  await write(4)
  await pass(20)
  t.same(written, [['many', 4]], 'and all is as before')
})

test('while one of those that were answered cannot be written, the others are, each before its answer', async (t) => {
  const { write, written, faults, pass } = writer(t)
  await write(1)
  await write(POISON)
  await pass(20)
  for (const input of [2, 3]) await write(input)
  await pass(500)
  await write(4)
  t.same(written, [
    ['one', 1],
    ['one', 2],
    ['one', 3],
    ['one', 4],
  ])
  t.equal(faults.length, 2)
})

test('while a write takes long, callers wait for theirs', async (t) => {
  const { write, written, state, pass } = writer(t)
  await write(1)
  await write(2)
  let release: () => void
  state.held = new Promise((resolve) => (release = resolve))
  await pass(20)
  state.held = undefined
  await pass(80)
  await write(3)
  t.same(written, [
    ['one', 1],
    ['one', 3],
  ])
  release!()
  await setImmediate()
  t.same(written.at(-1), ['many', 2])
})

test('at the end all is written', async (t) => {
  const { write, end, written, pass } = writer(t)
  await write(0)
  for (let input = 1; input <= 1_001; input += 1) await write(input)
  const ended = end()
  for (let i = 0; i < 4; i += 1) await pass(20)
  t.same(await ended, [])
  t.same(
    written.map(({ length }) => length - 1),
    [1, 1_000, 1],
  )
})

test('at the end what cannot be written is returned, and not tried for ever', async (t) => {
  for (const recovers of [true, false])
    await t.test(`which ${recovers ? 'was' : 'is still'} so`, async (t) => {
      const { write, end, faults, state, pass } = writer(t)
      await write(1)
      await write(2)
      state.broken = true
      await pass(20)
      const ended = end()
      state.broken = !recovers
      await pass(500)
      t.same(await ended, recovers ? [] : [2])
      await pass(5_000)
      t.equal(faults.length, recovers ? 1 : 2)
    })
})
