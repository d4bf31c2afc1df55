/** One call for what is asked at the same moment. */
import { setTimeout as sleep } from 'node:timers/promises'
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
  await sleep(5)
  t.same(sizes, [100, 100])
  const late = load(250)
  t.same(await Promise.all([...first, late]), [...Array(251).keys()])
  t.same(sizes, [100, 100, 51])
  t.equal(most, 2)
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
