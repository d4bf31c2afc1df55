/** GET /metrics for Prometheus, on a separate port that the public must not reach. */
import Fastify from 'fastify'
import fp from 'fastify-plugin'
import { watchAudit } from '../repositories/audit-events.js'
import { takeCensus, type Census } from '../repositories/census.js'

declare module 'fastify' {
  interface FastifyInstance {
    /** The URL of the metrics, once the app is ready; undefined when they are off. */
    metricsUrl?: string
  }
}

const CENSUS_EVERY_MS = 60_000

export default fp(
  async (app) => {
    const { METRICS_PORT: port, METRICS_HOST: host } = app.config
    const { openMeters } = await import('./meters.js')
    let census: Census | undefined
    let countedAt = -Infinity
    let counting = Promise.resolve()
    const meters = openMeters(app.pool, () => census)
    app.endings.push(meters.requestEnded)
    app.calls.push(meters.called)
    watchAudit(app.db, meters.audited)

    const server = Fastify({ exposeHeadRoutes: false, forceCloseConnections: true })
    server.get('/metrics', async (_request, reply) => {
      count()
      return reply.type(meters.contentType).send(await meters.text())
    })

    // Here, not in onListen, where a port that is taken would not stop the server.
    app.addHook('onReady', async () => {
      app.metricsUrl = `${await server.listen({ port: port!, host })}/metrics`
      app.log.info(`Metrics are at ${app.metricsUrl}`)
    })
    app.addHook('onClose', async () => {
      await server.close()
      await counting
    })

    /** Counts for the next scrape: this one does not wait for a database that may be away. */
    function count(): void {
      if (performance.now() - countedAt < CENSUS_EVERY_MS) return
      countedAt = performance.now()
      counting = takeCensus(app.db).then(
        (counted) => void (census = counted),
        (error: unknown) => {
          census = undefined
          app.log.warn({ err: error }, 'could not count the registrations')
        },
      )
    }
  },
  { name: 'metrics', dependencies: ['requests', 'calls', 'database'] },
)
