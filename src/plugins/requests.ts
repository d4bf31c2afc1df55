/** One line in the log for each request, when it has ended; metrics and traces are told at the same moment. */
import { hostname } from 'node:os'
import { LogController, type FastifyReply, type FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import type { Logger } from 'pino'
import { outcomeOf, surfaceOf, type Outcome, type Surface } from '../domain/outcome.js'
import type { Refusal } from '../errors.js'
import { logOutput } from '../log.js'

export { requestId } from '../domain/http.js'

interface Asked {
  /** The id of the request, as in `X-Request-Id`. */
  id: string
  method: string
  /** Without anything that could be a secret. */
  url: string
  /** May be unknown when the connection is gone. */
  remoteAddress: string | undefined
}

export interface Ending {
  asked: Asked
  surface: Surface
  outcome: Outcome
  /** Undefined when the caller got what it asked for, or hung up. */
  refusal: Refusal | undefined
  /** Undefined when the caller hung up before the answer. */
  answer: { status: number; milliseconds: number } | undefined
}

/** `request` is undefined when the framework was bypassed (see shortcut.ts). */
type Listener = (ending: Ending, request: FastifyRequest | undefined) => void

declare module 'fastify' {
  interface FastifyContextConfig {
    surface?: Surface
  }
  interface FastifyInstance {
    /** Called once for each request, after its answer; must be quick and never throw. */
    endings: Listener[]
    /** Calls all of `endings`. */
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

/** Writes the line as pino would, in half the time. Values that JSON may have to escape go through JSON.stringify. */
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
 * Cuts the path off at the first thing that none of our paths has: people's links carry a token in the query, whose `?`
 * may arrive encoded; and no name is as long as a secret.
 */
export function loggedRequest({ method, url, ip, routeOptions }: FastifyRequest) {
  const path = url === routeOptions.url ? url : url.replace(/([^\w./~-]|[\w-]{40}).*/s, '')
  return { method, url: path, remoteAddress: ip }
}
