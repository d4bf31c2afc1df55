/**
 * A stop that costs nobody an answer: unready first, and from then on every answer ends its connection (RFC 9112 §9.6),
 * so that few are left when nothing new is let in.
 */
import type { Socket } from 'node:net'
import fp from 'fastify-plugin'

declare module 'fastify' {
  interface FastifyInstance {
    /** Unready from now on: `/readyz` says so. `close()` does it too; in between, the load balancer can notice. */
    drain(): void
    readonly draining: boolean
  }
}

/** Node stops looking for slow clients when its server closes: these end what would hold the process. */
const FIRST_REQUEST_WITHIN_MS = 3_000
const ANSWER_WITHIN_MS = 15_000

export default fp(
  async (app) => {
    let draining = false
    /** Opened ahead of need, by browsers and load balancers: for Node they are not idle. */
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
