/**
 * All wiring on one page. Policy is nesting: what a surface accepts, and how it refuses, is said where it is
 * registered.
 */
import { isUtf8 } from 'node:buffer'
import cookie from '@fastify/cookie'
import Fastify, {
  type FastifyError,
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
} from 'fastify'
import type { Config } from './config.js'
import { clientError } from './client-error.js'
import { logOutput } from './log.js'
import { invalidRequest, jsonErrors, oauthBody, profileBody } from './errors.js'
import bearer from './plugins/bearer.js'
import brand from './plugins/brand.js'
import ceremonies from './plugins/ceremonies.js'
import claimPages from './plugins/claim-pages.js'
import calls from './plugins/calls.js'
import closing from './plugins/closing.js'
import csrf from './plugins/csrf.js'
import database from './plugins/database.js'
import deployment from './plugins/deployment.js'
import documents from './plugins/documents.js'
import idJags from './plugins/id-jags.js'
import readiness from './plugins/readiness.js'
import providers from './plugins/providers.js'
import forms from './plugins/forms.js'
import http from './plugins/http.js'
import keys from './plugins/keys.js'
import limits from './plugins/limits.js'
import metrics from './plugins/metrics.js'
import oidc from './plugins/oidc.js'
import pages from './plugins/pages.js'
import requests, { loggedRequest, requestId, requestLog } from './plugins/requests.js'
import sealedCookies from './plugins/sealed-cookies.js'
import securityEvents from './plugins/security-events.js'
import sessions from './plugins/sessions.js'
import shortcut from './plugins/shortcut.js'
import signIns from './plugins/sign-ins.js'
import sweeper from './plugins/sweeper.js'
import tracing from './plugins/tracing.js'
import trail from './plugins/trail.js'
import turns from './plugins/turns.js'
import views from './plugins/views.js'
import agents from './routes/agents.js'
import claim from './routes/claim.js'
import confirm from './routes/confirm.js'
import delegations from './routes/delegations.js'
import discovery from './routes/discovery.js'
import events from './routes/events.js'
import legacyRevocation from './routes/legacy-revocation.js'
import exampleApi from './routes/example-api.js'
import health from './routes/health.js'
import home from './routes/home.js'
import identity from './routes/identity.js'
import introspect from './routes/introspect.js'
import login from './routes/login.js'
import loginCallback from './routes/login-callback.js'
import logout from './routes/logout.js'
import revoke from './routes/revoke.js'
import token from './routes/token.js'
import { trustProxy } from './trust-proxy.js'

declare module 'fastify' {
  interface FastifyInstance {
    config: Config
  }
}

const BODY_LIMIT = 65_536
/** Lax, not Strict: people arrive from a link in a chat. */
const COOKIE = { path: '/', httpOnly: true, secure: true, sameSite: 'lax' } as const

export async function buildApp(config: Config): Promise<FastifyInstance> {
  const app = Fastify({
    logger: { level: config.LOG_LEVEL, serializers: { req: loggedRequest }, stream: logOutput },
    logController: requestLog,
    bodyLimit: BODY_LIMIT,
    trustProxy: trustProxy(config.TRUST_PROXY),
    requestTimeout: 20_000,
    http: { headersTimeout: 15_000, connectionsCheckingInterval: 5_000 },
    keepAliveTimeout: 72_000,
    // Requests that still arrive on open connections are served.
    return503OnClosing: false,
    genReqId: requestId,
    clientErrorHandler: clientError,
    frameworkErrors: unrouted,
    // Bad input is refused with a status and a code: types are never coerced, members never dropped silently.
    ajv: { customOptions: { coerceTypes: false, removeAdditional: false, discriminator: true } },
  })
  app.removeAllContentTypeParsers()
  app.setErrorHandler(jsonErrors(oauthBody))
  app.decorate('config', config)
  try {
    await registerAll(app, config)
    return app
  } catch (error) {
    // What was opened before the fault would keep the process alive.
    await app.close()
    throw error
  }
}

async function registerAll(app: FastifyInstance, config: Config): Promise<void> {
  await app.register(readiness)
  await app.register(closing)
  await app.register(requests)
  await app.register(calls)
  if (config.OTEL_EXPORTER_OTLP_ENDPOINT !== undefined) await app.register(tracing)
  await app.register(http)
  await app.register(database)
  await app.register(deployment)
  await app.register(trail)
  await app.register(turns)
  await app.register(limits)
  if (config.METRICS_PORT !== undefined) await app.register(metrics)
  await app.register(keys)
  await app.register(ceremonies)
  await app.register(documents)
  await app.register(shortcut)
  await app.register(brand)
  await app.register(views)
  await app.register(bearer)
  await app.register(providers)
  await app.register(idJags)
  await app.register(securityEvents)
  await app.register(sweeper)

  await app.register(discovery)
  const below = prefixOf(config.ISSUER)
  // Probes ask a replica directly, at its root, whatever path the public URL has.
  if (below.prefix !== '') await app.register(health)
  await app.register(async (surfaces) => {
    await surfaces.register(health)

    await surfaces.register(async (json) => {
      acceptJson(json)
      await json.register(exampleApi)
      await json.register(async (profile) => {
        profile.setErrorHandler(jsonErrors(profileBody, 'application/json'))
        await profile.register(identity)
        await profile.register(claim)
      })
    })

    await surfaces.register(async (oauth) => {
      await oauth.register(forms)
      oauth.setErrorHandler(jsonErrors(oauthBody, 'application/x-www-form-urlencoded'))
      await oauth.register(token)
      await oauth.register(revoke)
      await oauth.register(introspect)
    })

    await surfaces.register(async (receivers) => {
      await receivers.register(events)
      if (config.LEGACY_REVOCATION) await receivers.register(legacyRevocation)
    })

    await surfaces.register(async (people) => {
      await people.register(cookie, { parseOptions: COOKIE })
      await people.register(sealedCookies)
      await people.register(sessions)
      await people.register(forms)
      await people.register(csrf)
      await people.register(pages)
      await people.register(claimPages)
      await people.register(oidc)
      await people.register(signIns)
      await people.register(home)
      await people.register(login)
      if (config.SIGN_IN === 'oidc') await people.register(loginCallback)
      if (config.SIGN_IN !== 'none') await people.register(logout)
      await people.register(confirm)
      await people.register(delegations)
      await people.register(agents)
    })
  }, below)
}

function unrouted(error: FastifyError, request: FastifyRequest, reply: FastifyReply): void {
  jsonErrors(oauthBody)(error, request, reply)
  request.server.endUnrouted(request, reply)
}

function acceptJson(app: FastifyInstance): void {
  const parse = app.getDefaultJsonParser('error', 'error')
  app.addContentTypeParser<Buffer>(
    'application/json',
    { parseAs: 'buffer' },
    (request, body, done) => {
      // RFC 8259 §8.1. Decoding would silently replace bytes that are not UTF-8.
      if (isUtf8(body)) void parse(request, body.toString(), done)
      else done(invalidRequest('The request body is not UTF-8.'))
    },
  )
}

/** An issuer with a path serves everything below it. */
function prefixOf(issuer: string): { prefix: string } {
  return { prefix: new URL(issuer).pathname.replace(/\/$/, '') }
}
