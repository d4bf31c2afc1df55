/** A trace of each sampled request, with its statements and its calls to providers (W3C Trace Context, OTLP). */
import { AsyncLocalStorage } from 'node:async_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import fp from 'fastify-plugin'
import type { Logger } from 'kysely'
import type { Span } from './tracer.js'

declare module 'fastify' {
  interface FastifyInstance {
    /** Kysely's logger for the database; undefined when traces are off. */
    traceStatement?: Logger
  }
  interface FastifyRequest {
    span: Span | undefined
  }
}

const CLOSE_WITHIN_MS = 3_000

export default fp(
  async (app) => {
    const { config } = app
    const { openTracer } = await import('./tracer.js')
    const current = new AsyncLocalStorage<Span>()
    let failing = false
    const tracer = openTracer(
      { endpoint: config.OTEL_EXPORTER_OTLP_ENDPOINT!, service: config.OTEL_SERVICE_NAME },
      (error) => {
        if (error && !failing) app.log.warn({ err: error }, 'could not send traces')
        failing = error !== undefined
      },
    )
    app.decorateRequest('span', undefined)

    app.addHook('onRequest', (request, _reply, done) => {
      const { method, id, headers, routeOptions } = request
      const quiet = routeOptions.config.surface === 'health'
      if (quiet || Math.random() >= config.OTEL_TRACES_SAMPLER_ARG) return done()
      request.span = tracer.startRequest(method, routeOptions.url, id, headers.traceparent)
      return current.run(request.span, done)
    })
    // Once more: the body arrived in events of the socket, outside the request's context.
    app.addHook('preValidation', ({ span }, _reply, done) =>
      span ? current.run(span, done) : done(),
    )
    app.endings.push((ending, request) => {
      if (request?.span) tracer.endRequest(request.span, ending)
    })
    app.calls.push((call) => {
      const span = current.getStore()
      if (span) tracer.call(span, call)
    })
    app.decorate('traceStatement', (event) => {
      const span = current.getStore()
      if (!span) return
      const { code } = (event.level === 'error' ? event.error : {}) as { code?: unknown }
      const failed = event.level === 'error' ? String(code) : undefined
      tracer.statement(span, {
        text: event.query.sql,
        milliseconds: event.queryDurationMillis,
        failed,
      })
    })
    // A collector that is away, which has been logged, must neither delay the stop nor make it fail.
    app.addHook('onClose', async () => {
      const closed = tracer.close().catch(() => {})
      await Promise.race([closed, sleep(CLOSE_WITHIN_MS, undefined, { ref: false })])
    })
  },
  { name: 'tracing', dependencies: ['requests', 'calls'] },
)
