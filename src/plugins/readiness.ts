/** What must hold for this replica to be sent requests: whoever depends on something adds a check of it. */
import fp from 'fastify-plugin'

declare module 'fastify' {
  interface FastifyInstance {
    /** Each throws when its thing does not hold, in words for the operator: callers never see them. */
    readiness: (() => Promise<void>)[]
  }
}

export default fp(async (app) => void app.decorate('readiness', []), { name: 'readiness' })
