/** One statement for what many requests ask at the same moment: on the busiest paths a statement costs more than its rows. */

/** With more, the first input would wait for the last. */
const MOST_INPUTS = 100
/** Two, so that a batch that waits for a lock holds up only its own callers. */
const MOST_UNDER_WAY = 2
/** A batch that takes longer may be waiting for a lock. */
const PATIENCE_MS = 10

interface Waiting<Input, Output> {
  input: Input
  resolve(output: Output): void
  reject(error: unknown): void
}

/**
 * Returns a function whose calls are gathered into calls of `load`, which answers in the order of its inputs. When
 * `load` fails, every caller in that batch fails, so each input must be one that could be loaded alone. Two batches may
 * be under way, each smaller than one would be; with `oneByOne` the second waits until the first has ended or is late.
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
    // Other calls in the same turn of the event loop join the batch.
    if (!scheduled) setImmediate(start)
    scheduled = true
    return new Promise((resolve, reject) => waiting.push({ input, resolve, reject }))
  }
}
