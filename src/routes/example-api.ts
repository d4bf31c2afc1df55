/** A protected API to try things on, and an example of how a resource server checks tokens (RFC 6750). */
import type { FastifyPluginAsync } from 'fastify'
import { invalidRequest } from '../errors.js'
import { ResourceAnswer } from '../schemas/example-api.js'

const plugin: FastifyPluginAsync = async (app) => {
  app.addHook('onRequest', async ({ raw }) => {
    // Names and values alternate.
    const sent = raw.rawHeaders.filter((text, i) => i % 2 === 0 && /^authorization$/i.test(text))
    if (sent.length > 1) throw invalidRequest('One Authorization header, please.')
  })

  const schema = { response: { 200: ResourceAnswer } }

  app.get(
    '/api/resource',
    { schema, onRequest: app.requireBearer('api.read') },
    async ({ caller }) => {
      const { sub, scope } = caller!
      return { message: 'You may read this.', sub, scope }
    },
  )

  app.post(
    '/api/resource',
    { schema, onRequest: app.requireBearer('api.write') },
    async ({ caller }) => {
      const { sub, scope } = caller!
      return { message: 'You may change this.', sub, scope }
    },
  )
}
export default plugin
