/**
 * Stops without costing anybody an answer: the replica becomes unready first, and from then on every answer closes its
 * connection (RFC 9112 §9.6), so that few are left when nothing new is accepted.
 */
import type { Socket } from 'node:net'
import fp from 'fastify-plugin'

declare module 'fastify' {
  interface FastifyInstance {
    /**
     * From now on `/readyz` answers 503. `close()` calls this too; calling it earlier gives the load balancer time to
     * notice.
     */
    drain(): void
    readonly draining: boolean
  }
}

/**
 * A closing server of Node's no longer times out slow clients, so these limits end connections that would keep the
 * process alive.
 */
const FIRST_REQUEST_WITHIN_MS = 3_000
const ANSWER_WITHIN_MS = 15_000

export default fp(
  async (app) => {
    let draining = false
    /**
     * Connections that browsers and load balancers opened ahead of need, without a request so far: Node does not count
     * them as idle.
     */
    const unused = new Set<Socket>()
    app.server.on('connection', (socket: Socket) => {
      unused.add(socket)
      socket.once('close', () => unused.delete(socket))
    })
    app.server.on('request', ({ socket }) => unused.delete(socket))

    app.decorate('drain', () => void (draining = true))
    app.decorate('draining', { getter: () => draining })
    app.addHook('preClose', async () => {
      app.drain()
      setTimeout(
        () => unused.forEach((socket) => socket.destroy()),
        FIRST_REQUEST_WITHIN_MS,
      ).unref()
      setTimeout(() => app.server.closeAllConnections(), ANSWER_WITHIN_MS).unref()
    })
    app.addHook('onSend', (_request, reply, _payload, done) => {
      if (draining) reply.header('connection', 'close')
      done()
    })
  },
  { name: 'closing' },
)
