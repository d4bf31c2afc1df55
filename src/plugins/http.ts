/**
 * What HTTP requires on every surface (PROTOCOL §3): 404, 405 and OPTIONS, CORS, caching, content encodings of
 * requests.
 */
import { isIP } from 'node:net'
import { createGunzip } from 'node:zlib'
import type {
  FastifyContextConfig,
  FastifyReply,
  FastifyRequest,
  onSendHookHandler,
  RequestPayload,
} from 'fastify'
import fp from 'fastify-plugin'
import { ANY_ORIGIN, isHostValid, NO_SNIFFING } from '../domain/http.js'
import { invalidRequest, methodNotAllowed, OAuthError } from '../errors.js'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Any origin may read the answers, without credentials. */
    cors?: boolean
    /** Headers of every answer at the path, refusals included; those that `cors` needs are added. */
    headers?: Record<string, string>
    /** The route exists only to say, better than here, that its method is not served. */
    refusesMethod?: boolean
  }
  interface FastifyRequest {
    /** `ip` as a bare address: what a proxy says may have a port or a zone, or be no address at all. */
    readonly address: string
  }
}

const MAX_URL_LENGTH = 8192

export default fp(
  async (app) => {
    const paths = new Map<string, { methods: Set<string>; config: FastifyContextConfig }>()

    app.addHook('onRoute', (route) => {
      const { cors, headers } = route.config ?? {}
      const config = { ...route.config, headers: { ...(cors && ANY_ORIGIN), ...headers } }
      route.config = config
      if (route.method === 'HEAD') route.onSend = [route.onSend ?? [], withoutLength].flat()
      const url = route.url.replaceAll('::', ':')
      const path = paths.get(url) ?? { methods: new Set(['OPTIONS']), config }
      if (!config.refusesMethod) for (const name of [route.method].flat()) path.methods.add(name)
      paths.set(url, path)
    })

    // Before bodies are read: a wrong method is 405 whatever it carries.
    app.addHook('onRequest', (request, reply, done) => {
      reply.header('cache-control', 'no-store')
      reply.headers(NO_SNIFFING)
      reply.header('x-request-id', request.id)
      if (!request.is404) reply.headers(request.routeOptions.config.headers!)
      if (!isHostValid(request.raw)) return done(invalidRequest('Host must name one host.'))
      if (request.is404) return unrouted(request, reply, done)
      done()
    })

    function unrouted(
      request: FastifyRequest,
      reply: FastifyReply,
      done: (error?: Error) => void,
    ): void {
      const path = paths.get(routedPath(request.url))
      if (!path) return done(new OAuthError(404, 'not_found', 'There is nothing at this address.'))
      const { methods, config } = path
      reply.headers(config.headers!)
      const allow = [...methods].toSorted().join(', ')
      if (request.method !== 'OPTIONS') {
        const error = methodNotAllowed(allow)
        if (isProfile(config)) error.members.message = error.description
        return done(error)
      }
      if (config.cors)
        reply.headers({
          'access-control-allow-methods': allow,
          'access-control-allow-headers': 'content-type, authorization',
          'access-control-max-age': '86400',
        })
      void reply.code(204).header('allow', allow).send()
    }

    // RFC 9110 §10.1.1: expectations other than 100-continue may be ignored. Node would refuse them, with an empty
    // answer.
    app.server.on('checkExpectation', (request, response) =>
      app.server.emit('request', request, response),
    )

    app.decorateRequest('address', {
      getter(this: FastifyRequest) {
        return (bareAddress(this.ip) ?? bareAddress(this.socket.remoteAddress)) as string
      },
    })

    app.addHook('preParsing', (request, reply, payload, done) => {
      // Here, not in onRequest: by now the surface has set the headers that all of its answers carry.
      if (request.url.length > MAX_URL_LENGTH)
        return done(new OAuthError(414, 'invalid_request', 'The URL is too long.'))
      // Whatever body they have is not read.
      if (request.method === 'GET' || request.method === 'HEAD') return done(null, payload)
      const { 'content-type': type = '', 'content-encoding': encoding } = request.headers
      const charset = /;\s*charset="?([^";\s]*)/i.exec(type)?.[1] ?? 'utf-8'
      if (!/^utf-?8$/i.test(charset))
        return done(new OAuthError(415, 'invalid_request', 'Only UTF-8 is understood.'))
      if (encoding === undefined || /^identity$/i.test(encoding)) return done(null, payload)
      if (!/^(x-)?gzip$/i.test(encoding))
        return done(
          new OAuthError(415, 'invalid_request', 'This content encoding is not understood.', {
            'accept-encoding': 'gzip',
          }),
        )
      done(null, unzipped(payload, reply))
    })
  },
  { name: 'http', dependencies: ['requests'] },
)

/**
 * The path that the router matches: without the origin of an absolute form (RFC 9112 §3.2.2), the query and needless
 * escapes.
 */
function routedPath(url: string): string {
  return decodeURI(url.replace(/^https?:\/\/[^/?]*|[?#].*/gis, ''))
}

/**
 * RFC 9110 §8.6: no Content-Length on a 204 or 304. The framework gives every answer to HEAD the length of what it
 * leaves out.
 */
const withoutLength: onSendHookHandler = (_request, reply, payload, done) => {
  if (reply.statusCode === 204 || reply.statusCode === 304) reply.removeHeader('content-length')
  done(null, payload)
}

function isProfile({ surface }: FastifyContextConfig): boolean {
  return surface === 'identity' || surface === 'claim'
}

/** Fastify applies the body limit to the plain bytes, and compares `receivedEncodedLength` with Content-Length. */
function unzipped(payload: RequestPayload, reply: FastifyReply): RequestPayload {
  const plain = Object.assign(createGunzip(), { receivedEncodedLength: 0 })
  payload.on('data', (chunk: Buffer) => (plain.receivedEncodedLength += chunk.length))
  payload.on('error', (error) => plain.destroy(error))
  // There may be no reader: no parser, or the limit is exceeded. An error event without a listener would end the
  // process.
  plain.on('error', () => {})
  reply.raw.on('close', () => {
    plain.destroy()
    payload.resume()
  })
  return payload.pipe(plain)
}

/** `192.0.2.1:443`, `[2001:db8::1]:443`, `fe80::1%eth0`, `::ffff:192.0.2.1` → the address alone. */
function bareAddress(text: string | undefined): string | undefined {
  const address = String(text)
    .replace(/^\[(.*)\](:\d+)?$|^([\d.]+):\d+$/, '$1$3')
    .replace(/%.*$/, '')
    .replace(/^::ffff:(?=[\d.]+$)/i, '')
  return isIP(address) ? address : undefined
}
