/** /healthz: the process answers. /readyz: it can serve. Neither says more than that. */
import type { FastifyPluginAsync } from 'fastify'
import { OAuthError } from '../errors.js'

const plugin: FastifyPluginAsync = async (app) => {
  const { LOG_LEVEL } = app.config
  // Probes come every few seconds: only failures are worth a line.
  const logLevel = ['trace', 'debug', 'info'].includes(LOG_LEVEL) ? 'warn' : LOG_LEVEL

  app.get('/healthz', { logLevel }, async () => ({ status: 'ok' }))

  app.get('/readyz', { logLevel }, async () => {
    const pending = await app.pendingMigrations()
    if (pending.length > 0)
      throw new OAuthError(503, 'temporarily_unavailable', 'Migrations are missing.', {
        'retry-after': '5',
      })
    return { status: 'ready' }
  })
}
export default plugin
