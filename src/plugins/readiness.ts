/** The conditions under which this replica may get requests: each plugin adds a check of what it depends on. */
import fp from 'fastify-plugin'

declare module 'fastify' {
  interface FastifyInstance {
    /** Each throws when its condition does not hold, in words for the operator, which callers never see. */
    readiness: (() => Promise<void>)[]
  }
}

export default fp(async (app) => void app.decorate('readiness', []), { name: 'readiness' })
