/** Ends what was started: last first, whatever fails, also when the run is interrupted. */
export interface Scope {
  teardown(fn: () => unknown): void
  end(): Promise<void>
}

function scope(): Scope {
  const stops: (() => unknown)[] = []
  let over = false
  return {
    teardown(fn) {
      // This was being started when the end came.
      if (over) void end(fn)
      else stops.push(fn)
    },
    async end() {
      over = true
      for (let stop = stops.pop(); stop; stop = stops.pop()) await end(stop)
    },
  }
}

async function end(stop: () => unknown): Promise<void> {
  try {
    await stop()
  } catch (error) {
    console.error(error)
  }
}

/** Runs `main`, then ends what it started. The process ends with 0 when `main` returns true. */
export async function runToEnd(
  main: (life: Scope, interrupted: () => boolean) => Promise<boolean>,
): Promise<void> {
  const life = scope()
  let interrupted = false
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
    process.on(signal, () => {
      if (interrupted) return
      interrupted = true
      console.error(`${signal}: stopping everything`)
      void life.end().then(() => process.exit(130))
    })
  try {
    process.exitCode = (await main(life, () => interrupted)) ? 0 : 1
  } catch (error) {
    if (!interrupted) console.error(error)
    process.exitCode = 1
  } finally {
    if (!interrupted) await life.end()
  }
}
