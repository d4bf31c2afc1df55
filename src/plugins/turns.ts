/**
 * Work on the same thing, one after the other: who waits for a lock of the database holds a connection meanwhile, and who
 * waits here does not.
 */
import fp from 'fastify-plugin'
import { because, unavailable } from '../errors.js'

declare module 'fastify' {
  interface FastifyInstance {
    inTurn: InTurn
  }
}

/** Runs `work` when all that came before for this `key` has ended, whether well or not. */
type InTurn = <Result>(key: string, work: () => Promise<Result>) => Promise<Result>

/** Whose turn comes later is told to try again: as long as one waits for a connection. */
const PATIENCE_MS = 3_000

export default fp(async (app) => void app.decorate('inTurn', takingTurns()), { name: 'turns' })

/** `last`: by key the end of all work so far, for as long as there is some. */
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
