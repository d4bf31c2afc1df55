/** Writes that may follow the answer they belong to, many in one statement, for as long as writing goes well. */

/** How long after a successful write answers may go out before their own writes. */
const TRUST_MS = 100
/** How long writes that were overtaken by their answers gather for one statement. */
const GATHER_MS = 20
const RETRY_MS = 500
const MOST_INPUTS = 1_000

interface WriteBehind<Input> {
  /** When this resolves, the caller may answer: the input is written, or will be within a moment. */
  write(input: Input): Promise<void>
  /** Writes what is left, if it can be written at the first try, and returns what is not. */
  end(): Promise<Input[]>
}

/**
 * `write`: for a caller who waits, because nothing was written lately or what went ahead failed. `writeMany`: for those
 * whose answers went ahead. When it fails, `writeMissing` is called until it succeeds: some may be there already.
 */
export function writeBehind<Input>(
  write: (input: Input) => Promise<void>,
  writeMany: (inputs: Input[]) => Promise<void>,
  writeMissing: (inputs: Input[]) => Promise<void>,
  onFault: (error: unknown) => void,
): WriteBehind<Input> {
  const ahead: Input[] = []
  let writtenAt = -Infinity
  let unsure = false
  let ending = false
  let scheduled: Promise<void> | undefined

  function schedule(): void {
    scheduled ??= new Promise((resolve) =>
      setTimeout(() => void writeAhead().then(resolve), unsure ? RETRY_MS : GATHER_MS),
    )
  }

  async function writeAhead(): Promise<void> {
    const inputs = ahead.slice(0, MOST_INPUTS)
    try {
      await (unsure ? writeMissing(inputs) : writeMany(inputs))
      ahead.splice(0, inputs.length)
      unsure = false
      writtenAt = performance.now()
    } catch (error) {
      unsure = true
      onFault(error)
    }
    scheduled = undefined
    if (ahead.length > 0 && !(ending && unsure)) schedule()
  }

  async function end(): Promise<Input[]> {
    ending = true
    await scheduled
    return scheduled ? await end() : ahead
  }

  return {
    async write(input) {
      if (!unsure && performance.now() - writtenAt < TRUST_MS) {
        ahead.push(input)
        schedule()
        return
      }
      await write(input)
      writtenAt = performance.now()
    },

    end,
  }
}
