/** /healthz: the process answers. /readyz: it can serve requests. Neither says more; the log says why not. */
import type { FastifyPluginAsync } from 'fastify'
import { oauthBody, unavailable } from '../errors.js'

const plugin: FastifyPluginAsync = async (app) => {
  const { LOG_LEVEL } = app.config
  // Probes come every few seconds: only failures are worth a line.
  const logLevel = ['trace', 'debug', 'info'].includes(LOG_LEVEL) ? 'warn' : LOG_LEVEL

  app.get('/healthz', { logLevel }, async () => ({ status: 'ok' }))

  app.get('/readyz', { logLevel }, async (_request, reply) => {
    // Expected, so not thrown: the log would report each probe as a failure.
    if (app.draining) {
      const told = unavailable()
      reply.code(told.statusCode).headers(told.headers)
      return oauthBody(told)
    }
    try {
      for (const check of app.readiness) await check()
    } catch (cause) {
      throw Object.assign(unavailable(), { cause })
    }
    return { status: 'ready' }
  })
}
export default plugin
