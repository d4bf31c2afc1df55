/** What was started, and how it ends: last first, whatever fails, also when the run is interrupted. */
export interface Scope {
  teardown(fn: () => unknown): void
  end(): Promise<void>
}

export function scope(): Scope {
  const stops: (() => unknown)[] = []
  return {
    teardown: (fn) => void stops.push(fn),
    async end() {
      for (let stop = stops.pop(); stop; stop = stops.pop()) {
        try {
          await stop()
        } catch (error) {
          console.error(error)
        }
      }
    },
  }
}
