/** Signing out: here, and at the provider if it offers that (OpenID Connect RP-Initiated Logout 1.0). */
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { loginPath, safeReturnTo } from '../domain/return-to.js'
import { SignOutBody } from '../schemas/pages.js'

const COOKIE = '__Host-registrar-sign-out'
const COOKIE_SECONDS = 600

interface SignOut {
  /** Of the provider, whose own session goes on. */
  name: string
  url: string
  next: string
}

const plugin: FastifyPluginAsyncTypebox = async (app) => {
  const { config } = app

  app.post(
    '/logout',
    { schema: { body: SignOutBody }, preHandler: app.csrfProtection },
    async ({ body }, reply) => {
      const ended = await reply.endSession(body.all === 'all')
      // Without a session it is not known whose others to end: after signing in again, the person finds the button
      // there.
      const undone = body.all === 'all' && !ended
      const return_to = undone ? '/agents' : safeReturnTo(body.return_to)
      const next = return_to === '/' ? '/' : signInAgain(return_to)
      const { oidcProviders } = config
      // Without a session (pressed twice, or ended elsewhere) the session at the provider goes on all the same: if
      // there is only one provider, that is the one.
      const provider = oidcProviders.find(({ issuer }) =>
        ended ? issuer === ended.issuer : oidcProviders.length === 1,
      )
      const url = provider && (await app.oidc.endSessionUrl(provider.issuer, ended?.idToken))
      if (!url) return reply.seeOther(next)
      // Via a page of ours: after a form browsers stay on our own origin, through every redirect (CSP3 §6.4.2).
      reply.sealCookie(COOKIE, { name: provider.name, url, next } satisfies SignOut, COOKIE_SECONDS)
      return reply.seeOther('/signed-out')
    },
  )

  app.get('/signed-out', async (request, reply) => {
    const out = request.sealedCookie<SignOut>(COOKIE)
    if (!out) return reply.seeOther('/')
    const { name, url } = out
    return await reply.page('signed-out', { provider: { name }, continue_to: url })
  })

  app.get('/logout/callback', async (request, reply) => {
    const out = request.sealedCookie<SignOut>(COOKIE)
    reply.clearCookie(COOKIE)
    return reply.seeOther(out?.next ?? '/')
  })

  /** Whoever signs out to come back wants another account, for which a provider that remembers one would not ask. */
  function signInAgain(return_to: string): string {
    return config.SIGN_IN === 'oidc' ? loginPath(return_to, { another: true }) : return_to
  }
}
export default plugin
