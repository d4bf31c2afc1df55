/** One line in the log for each request, when it has ended; metrics and traces are told of it at the same moment. */
import { hostname } from 'node:os'
import { LogController, type FastifyReply, type FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import type { Logger } from 'pino'
import { outcomeOf, surfaceOf, type Outcome, type Surface } from '../domain/outcome.js'
import type { Refusal } from '../errors.js'
import { logOutput } from '../log.js'

export { requestId } from '../domain/http.js'

interface Asked {
  /** Of the request, as the answer names it to the caller. */
  id: string
  method: string
  /** Without what could be a secret. */
  url: string
  /** Unknown, perhaps, when the connection is gone. */
  remoteAddress: string | undefined
}

export interface Ending {
  asked: Asked
  surface: Surface
  outcome: Outcome
  /** Undefined when the caller got what it asked for. */
  refusal: Refusal | undefined
  /** Undefined when the caller hung up before it. */
  answer: { status: number; milliseconds: number } | undefined
}

/** `request` is undefined when it was answered before the framework. */
type Listener = (ending: Ending, request: FastifyRequest | undefined) => void

declare module 'fastify' {
  interface FastifyContextConfig {
    surface?: Surface
  }
  interface FastifyInstance {
    /** Called once for each request, after its answer: to be quick, and never to throw. */
    endings: Listener[]
    /** Tells them of it. */
    ended: Listener
    /** For a URL that cannot be decoded: no hook runs for it. */
    endUnrouted(request: FastifyRequest, reply: FastifyReply): void
  }
}

/** Without Fastify's own two lines for each request. */
export const requestLog = Object.assign(new LogController(), {
  incomingRequest() {},
  requestCompleted() {},
})

const PROCESS = `"pid":${process.pid},"hostname":${JSON.stringify(hostname())}`

export default fp(
  async (app) => {
    const below = new URL(app.config.ISSUER).pathname.replace(/\/$/, '')
    const logsRequests = (app.log as Logger).isLevelEnabled('info')
    app.decorate('endings', logsRequests ? [writeLine] : [])
    app.decorate('ended', (ending, request) => {
      for (const listener of app.endings) listener(ending, request)
    })
    app.decorate('endUnrouted', (request, reply) => end(request, reply, 'none'))
    app.decorateRequest('refusal', undefined)

    app.addHook('onRoute', (route) => {
      const path = route.url.startsWith(`${below}/`) ? route.url.slice(below.length) : route.url
      route.config = { ...route.config, surface: surfaceOf(path) }
    })
    app.addHook('onRequest', (request, reply, done) => {
      // No hook tells of an answer that could not be sent.
      reply.raw.once('close', () => {
        if (!reply.raw.writableFinished) end(request, undefined)
      })
      done()
    })
    app.addHook('onResponse', (request, reply, done) => {
      end(request, reply)
      done()
    })

    function end(
      request: FastifyRequest,
      reply: FastifyReply | undefined,
      surface = request.routeOptions.config.surface ?? 'none',
    ): void {
      const outcome = reply ? outcomeOf(reply.statusCode) : 'aborted'
      const refusal = outcome === 'ok' || outcome === 'aborted' ? undefined : request.refusal
      const answer = reply && { status: reply.statusCode, milliseconds: reply.elapsedTime }
      const asked = { id: request.id, ...loggedRequest(request) }
      app.ended({ asked, surface, outcome, refusal, answer }, request)
    }
  },
  { name: 'requests' },
)

/** As pino would write it, which takes it twice as long. What could hold what JSON escapes goes by JSON.stringify. */
function writeLine(ending: Ending, request: FastifyRequest | undefined): void {
  // A route may be quieter than the rest.
  if (request && !(request.log as Logger).isLevelEnabled('info')) return
  const { asked, surface, outcome, refusal, answer } = ending
  const { id, method, url, remoteAddress } = asked
  const from = remoteAddress ? `,"remoteAddress":${JSON.stringify(remoteAddress)}` : ''
  const req = `{"method":"${method}","url":"${url}"${from}}`
  const res = answer
    ? `"res":{"statusCode":${answer.status}},"responseTime":${Math.round(answer.milliseconds * 1000) / 1000},`
    : ''
  const why = refusal ? `${JSON.stringify(refusal).slice(1, -1)},` : ''
  logOutput.write(
    `{"level":30,"time":${Date.now()},${PROCESS},"reqId":"${id}","req":${req},${res}"surface":"${surface}",` +
      `"outcome":"${outcome}",${why}"msg":"request ${answer ? 'completed' : 'aborted'}"}\n`,
  )
}

/**
 * Of a path the part up to the first thing that is in none of ours: links of people carry their token in the query, and
 * what passes them on may encode its `?`; and no name is as long as a secret.
 */
export function loggedRequest({ method, url, ip, routeOptions }: FastifyRequest) {
  const path = url === routeOptions.url ? url : url.replace(/([^\w./~-]|[\w-]{40}).*/s, '')
  return { method, url: path, remoteAddress: ip }
}
