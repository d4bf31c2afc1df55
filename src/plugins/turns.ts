/**
 * Runs work on the same thing one after the other. Work that waits for a database lock holds a connection meanwhile;
 * work that waits here holds none.
 */
import fp from 'fastify-plugin'
import { because, unavailable } from '../errors.js'

declare module 'fastify' {
  interface FastifyInstance {
    inTurn: InTurn
  }
}

/** Runs `work` when everything before it for this `key` has ended, whether well or not. */
type InTurn = <Result>(key: string, work: () => Promise<Result>) => Promise<Result>

/** Work whose turn comes later is refused with 503. A request waits as long for a connection. */
const PATIENCE_MS = 3_000

export default fp(async (app) => void app.decorate('inTurn', takingTurns()), { name: 'turns' })

/** `last`: by key, the end of all work so far, while there is any. */
export function takingTurns(last = new Map<string, Promise<void>>()): InTurn {
  return async (key, work) => {
    const came = performance.now()
    const turn = Promise.resolve(last.get(key)).then(() => {
      if (performance.now() - came > PATIENCE_MS) throw because('turn_timeout', unavailable())
      return work()
    })
    const end = turn.then(forget, forget)
    last.set(key, end)
    return await turn

    function forget(): void {
      if (last.get(key) === end) last.delete(key)
    }
  }
}
