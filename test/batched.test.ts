/** One call for what is asked at the same moment. */
import { mock } from 'node:test'
import { setImmediate, setTimeout as sleep } from 'node:timers/promises'
import { test } from 'tap'
import { batched } from '../src/batched.js'

test('calls of the same moment become one, and each gets its own answer', async (t) => {
  const calls: number[][] = []
  const double = batched(async (inputs: number[]) => {
    calls.push(inputs)
    return inputs.map((input) => input * 2)
  })
  t.same(await Promise.all([1, 2, 2].map(double)), [2, 4, 4])
  t.equal(await double(5), 10)
  t.same(calls, [[1, 2, 2], [5]])
})

test('what has no answer is awaited all the same', async (t) => {
  let told: string[] = []
  const tell = batched(async (inputs: string[]) => void (told = [...told, ...inputs]))
  t.same(await Promise.all(['a', 'b'].map(tell)), [undefined, undefined])
  t.same(told, ['a', 'b'])
})

test('at most a hundred at once, two calls under way, and who comes meanwhile waits', async (t) => {
  const sizes: number[] = []
  let underWay = 0
  let most = 0
  const load = batched(async (inputs: number[]) => {
    sizes.push(inputs.length)
    most = Math.max(most, (underWay += 1))
    await sleep(20)
    underWay -= 1
    return inputs
  })
  const first = Array.from({ length: 250 }, (_, i) => load(i))
  await setImmediate()
  t.same(sizes, [100, 100])
  const late = load(250)
  t.same(await Promise.all([...first, late]), [...Array(251).keys()])
  t.same(sizes, [100, 100, 51])
  t.equal(most, 2)
})

test('one by one, the next goes when the first has ended, or at most one more when it is late', async (t) => {
  mock.timers.enable({ apis: ['setTimeout'] })
  t.teardown(() => mock.timers.reset())
  const sizes: number[] = []
  const ends: (() => void)[] = []
  const load = batched(
    async (inputs: number[]) => {
      sizes.push(inputs.length)
      await new Promise<void>((resolve) => ends.push(resolve))
      return inputs
    },
    { oneByOne: true },
  )
  const first = load(1)
  await setImmediate()
  const both = [load(2), load(3)]
  await setImmediate()
  t.same(sizes, [1], 'not at once')
  ends[0]!()
  t.equal(await first, 1)
  t.same(sizes, [1, 2])
  const fourth = load(4)
  await setImmediate()
  mock.timers.tick(10)
  t.same(sizes, [1, 2, 1], 'the second is late')
  const fifth = load(5)
  await setImmediate()
  mock.timers.tick(10)
  t.same(sizes, [1, 2, 1], 'both are late, and there are no more than two')
  ends[2]!()
  t.equal(await fourth, 4)
  t.same(sizes, [1, 2, 1, 1], 'one that is late still holds up nobody')
  for (const end of ends) end()
  t.same(await Promise.all([...both, fifth]), [2, 3, 5])
})

test('a call that fails fails for those who were in it, and for nobody else', async (t) => {
  let fails = true
  const load = batched(async (inputs: number[]) => {
    if (fails) throw new Error('away')
    return inputs
  })
  const both = await Promise.allSettled([1, 2].map(load))
  t.match(both, [{ reason: { message: 'away' } }, { reason: { message: 'away' } }])
  fails = false
  t.equal(await load(3), 3)
})
