/** Bodies of application/x-www-form-urlencoded as OAuth means them (RFC 6749 §3.1, §3.2, appendix B). */
import formbody from '@fastify/formbody'
import fp from 'fastify-plugin'

export default fp(
  async (app) => {
    await app.register(formbody)
    // A parameter without a value counts as omitted; a repeated one stays an array, for the schema to refuse.
    app.addHook('preValidation', ({ body }, _reply, done) => {
      const parameters = body as Record<string, string | string[]> | undefined
      for (const [name, value] of Object.entries(parameters ?? {}))
        if (value === '') delete parameters![name]
      done()
    })
  },
  { name: 'forms' },
)
