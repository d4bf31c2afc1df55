/** The callback, where people come back from the identity provider (OpenID Connect Core 1.0 §3.1.2.5). */
import type { FastifyPluginAsync, FastifyReply, FastifyRequest } from 'fastify'
import { PENDING_COOKIE, SIGN_IN_FAILURES, type PendingSignIn } from '../domain/sign-in.js'

const plugin: FastifyPluginAsync = async (app) => {
  const { oidcProviders } = app.config

  app.get('/login/callback', back)
  app.get('/login/callback/*', back)

  async function back(request: FastifyRequest, reply: FastifyReply): Promise<unknown> {
    const { pathname, search: query } = new URL(request.url, app.config.ISSUER)
    const state = new URLSearchParams(query).get('state') ?? ''
    // Only the browser that started the sign-in has this cookie: an answer to somebody else's request signs nobody in.
    const pending = request.sealedCookie<PendingSignIn>(PENDING_COOKIE + state)
    // An answer at another path than the one we gave comes from another provider (RFC 9700 §4.4).
    if (pending?.callback !== pathname) return await reply.signInFailed('not_ours', '/')
    const { return_to } = pending
    await reply.requireBudget('sign_in_per_ip')
    const outcome = await app.oidc.finish(query, state, pending)
    if (!outcome.ok) {
      // Faults of the provider or the operator do not count as tries.
      if (SIGN_IN_FAILURES[outcome.reason].status < 500) await reply.limit('sign_in_per_ip')
      return await reply.signInFailed(outcome.reason, return_to, outcome.cause)
    }
    if (outcome.untold) {
      const provider = oidcProviders.find(({ issuer }) => issuer === pending.issuer)!
      const { email: login_hint } = outcome.signIn
      const { max_age } = pending
      reply.clearCookie(PENDING_COOKIE + state)
      return await reply.leaveToSignIn(provider, {
        return_to,
        max_age,
        login_hint,
        prompt: 'again',
      })
    }
    const next = await reply.completeSignIn(outcome.signIn, return_to, outcome.idToken)
    // Not earlier: if the provider or the database is away, a reload goes on from here.
    return reply.clearCookie(PENDING_COOKIE + state).seeOther(next)
  }
}
export default plugin
