/**
 * Answers the documents that every agent reads first before the framework, which takes longer than Node itself. Only
 * where nothing else has to be decided: all other requests for them find the same documents as routes.
 */
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http'
import proxyAddr from '@fastify/proxy-addr'
import fp from 'fastify-plugin'
import { ANY_ORIGIN, isHostValid, NO_SNIFFING, requestId } from '../domain/http.js'
import { trustProxy } from '../trust-proxy.js'
import type { CachedDocument } from './documents.js'

declare module 'fastify' {
  interface FastifyInstance {
    /** Serves the document at this path, which must be a route as well. */
    shortcut(path: string, document: () => CachedDocument): void
  }
}

/** Names and values in turn, which Node takes as they are. */
const heads = new WeakMap<CachedDocument, string[]>()

function headOf(document: CachedDocument): string[] {
  const { type, body, headers } = document
  const head = heads.get(document) ?? [
    ...Object.entries({ ...ANY_ORIGIN, ...NO_SNIFFING, ...headers }).flat(),
    'content-type',
    type,
    'content-length',
    String(Buffer.byteLength(body)),
  ]
  heads.set(document, head)
  return head
}

export default fp(
  async (app) => {
    const { config } = app
    const documents = new Map<string, () => CachedDocument>()
    const trusted = trustProxy(config.TRUST_PROXY)
    app.decorate('shortcut', (path, document) => void documents.set(path, document))
    // Traces begin in the framework, so with them there is no shortcut.
    if (config.OTEL_EXPORTER_OTLP_ENDPOINT !== undefined) return

    const [framework] = app.server.listeners('request') as [RequestListener]
    app.server.removeListener('request', framework)
    app.server.on('request', (request, response) => {
      const { method, url, headers } = request
      const plain = method === 'GET' && headers['if-none-match'] === undefined && !app.draining
      const document = plain ? documents.get(url!) : undefined
      if (document && isHostValid(request)) serve(document(), request, response)
      else framework.call(app.server, request, response)
    })

    function serve(document: CachedDocument, request: IncomingMessage, response: ServerResponse) {
      const started = performance.now()
      const id = requestId(request)
      const remoteAddress = trusted ? proxyAddr(request, trusted) : request.socket.remoteAddress
      response.writeHead(200, [...headOf(document), 'x-request-id', id])
      response.end(document.body)
      // By now the operating system has it, unless the caller does not read its earlier answers.
      app.ended(
        {
          asked: { id, method: 'GET', url: request.url!, remoteAddress },
          surface: 'discovery',
          outcome: 'ok',
          refusal: undefined,
          answer: { status: 200, milliseconds: performance.now() - started },
        },
        undefined,
      )
    }
  },
  { name: 'shortcut', dependencies: ['requests', 'closing'] },
)
