/** While the server stops, every answer ends its connection: kept alive, it would hold the process (RFC 9112 §9.6). */
import fp from 'fastify-plugin'

export default fp(
  async (app) => {
    let closing = false
    app.addHook('preClose', async () => void (closing = true))
    app.addHook('onSend', async (_request, reply) => {
      if (closing) reply.header('connection', 'close')
    })
  },
  { name: 'closing' },
)
