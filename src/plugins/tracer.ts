/** Spans, and their way to the collector (OTLP over HTTP, as JSON). Loaded only when traces are on. */
import * as api from '@opentelemetry/api'
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http'
import { resourceFromAttributes } from '@opentelemetry/resources'
import { AlwaysOnSampler, BatchSpanProcessor, TracerProvider } from '@opentelemetry/sdk-trace'
import { version } from '../version.js'
import type { Call } from './calls.js'
import type { Ending } from './requests.js'

export type { Span } from '@opentelemetry/api'

/** A statement: its text has placeholders for values, never values. */
interface Statement {
  text: string
  milliseconds: number
  /** The SQLSTATE, or the network's own code, of a statement that failed. */
  failed: string | undefined
}

const { ROOT_CONTEXT, SpanKind, SpanStatusCode, trace, TraceFlags } = api
const EXPORT_MS = 5_000

/** W3C Trace Context §3.2 */
const TRACEPARENT = /^(?!ff)[\da-f]{2}-(?!0{32})([\da-f]{32})-(?!0{16})([\da-f]{16})-[\da-f]{2}$/

export function openTracer(
  { endpoint, service }: { endpoint: string; service: string },
  onExport: (error: Error | undefined) => void,
) {
  const url = `${endpoint.replace(/\/$/, '')}/v1/traces`
  const otlp = new OTLPTraceExporter({ url, timeoutMillis: EXPORT_MS })
  const exporter: ConstructorParameters<typeof BatchSpanProcessor>[0]['exporter'] = {
    export: (spans, done) =>
      otlp.export(spans, (result) => {
        onExport(result.error)
        done(result)
      }),
    shutdown: () => otlp.shutdown(),
  }
  const provider = new TracerProvider({
    resource: resourceFromAttributes({ 'service.name': service, 'service.version': version }),
    // Whether a request is traced has been decided already, and not by its caller.
    sampler: new AlwaysOnSampler(),
    spanLimits: { attributeValueLengthLimit: 2_000 },
    spanProcessors: [new BatchSpanProcessor({ exporter, exportTimeoutMillis: EXPORT_MS })],
  })
  const tracer = provider.getTracer('agent-registrar', version)

  return {
    startRequest(method: string, route: string | undefined, id: string, parent: unknown): api.Span {
      const attributes: api.Attributes = {
        'http.request.method': method,
        'registrar.request_id': id,
        ...(route === undefined ? {} : { 'http.route': route }),
      }
      const name = route === undefined ? method : `${method} ${route}`
      return tracer.startSpan(name, { kind: SpanKind.SERVER, attributes }, contextOf(parent))
    },

    endRequest(span: api.Span, { surface, outcome, refusal, answer }: Ending): void {
      span.setAttributes({ 'registrar.surface': surface, 'registrar.outcome': outcome })
      if (answer) span.setAttribute('http.response.status_code', answer.status)
      if (refusal?.error) span.setAttribute('registrar.error', refusal.error)
      if (refusal?.reason) span.setAttribute('registrar.reason', refusal.reason)
      if (outcome === 'error' || outcome === 'unavailable')
        span.setStatus({ code: SpanStatusCode.ERROR })
      span.end()
    },

    statement(parent: api.Span, { text, milliseconds, failed }: Statement): void {
      const attributes = {
        'db.system.name': 'postgresql',
        'db.query.text': text,
        ...(failed === undefined ? {} : { 'db.response.status_code': failed }),
      }
      child(parent, /^\s*(\w*)/.exec(text)![1]!, milliseconds, failed === undefined, attributes)
    },

    call(parent: api.Span, { purpose, host, milliseconds, ok }: Call): void {
      child(parent, `fetch ${purpose}`, milliseconds, ok, { 'server.address': host })
    },

    close: () => provider.shutdown(),
  }

  /** A span of something that has ended just now. */
  function child(
    parent: api.Span,
    name: string,
    milliseconds: number,
    ok: boolean,
    attributes: api.Attributes,
  ): void {
    const startTime = Date.now() - milliseconds
    const options = { kind: SpanKind.CLIENT, startTime, attributes }
    const span = tracer.startSpan(name, options, trace.setSpan(ROOT_CONTEXT, parent))
    if (!ok) span.setStatus({ code: SpanStatusCode.ERROR })
    span.end()
  }
}

function contextOf(parent: unknown): api.Context {
  const [, traceId, spanId] = TRACEPARENT.exec(String(parent)) ?? []
  if (traceId === undefined || spanId === undefined) return ROOT_CONTEXT
  const context = { traceId, spanId, traceFlags: TraceFlags.SAMPLED, isRemote: true }
  return trace.setSpanContext(ROOT_CONTEXT, context)
}
