/** One statement for what many requests ask at the same moment: on the busiest paths a statement costs more than its rows. */

/** More would make the first of them wait for the last. */
const MOST_INPUTS = 100
/** So that one that waits for a lock holds up no more than its own. */
const MOST_UNDER_WAY = 2
/** One that takes longer may wait for a lock. */
const PATIENCE_MS = 10

interface Waiting<Input, Output> {
  input: Input
  resolve(output: Output): void
  reject(error: unknown): void
}

/**
 * Calls of the function that this returns become one call of `load`, which answers in the order of its inputs. When it
 * fails, all who were in it fail: inputs must be such that each could be loaded alone. Of two calls under way each is
 * smaller; `oneByOne` makes the second wait until the first has ended, or is late.
 */
export function batched<Input, Output>(
  load: (inputs: Input[]) => Promise<Output[] | void>,
  { oneByOne = false } = {},
): (input: Input) => Promise<Output> {
  const waiting: Waiting<Input, Output>[] = []
  let underWay = 0
  let late = 0
  let scheduled = false

  function start(): void {
    scheduled = false
    while (waiting.length > 0 && underWay < (oneByOne && late === 0 ? 1 : MOST_UNDER_WAY))
      void run(waiting.splice(0, MOST_INPUTS))
  }

  async function run(batch: Waiting<Input, Output>[]): Promise<void> {
    underWay += 1
    let isLate = false
    const patience = oneByOne ? setTimeout(growLate, PATIENCE_MS) : undefined
    function growLate(): void {
      isLate = true
      late += 1
      start()
    }
    try {
      const outputs = await load(batch.map(({ input }) => input))
      batch.forEach(({ resolve }, i) => resolve(outputs?.[i] as Output))
    } catch (error) {
      for (const { reject } of batch) reject(error)
    } finally {
      clearTimeout(patience)
      underWay -= 1
      if (isLate) late -= 1
      start()
    }
  }

  return (input) => {
    // Whatever else came in the same turn of the event loop joins.
    if (!scheduled) setImmediate(start)
    scheduled = true
    return new Promise((resolve, reject) => waiting.push({ input, resolve, reject }))
  }
}
