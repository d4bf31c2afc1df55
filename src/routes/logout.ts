/** Signing out: here, and at the provider where it offers that (OpenID Connect RP-Initiated Logout 1.0). */
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { loginPath, safeReturnTo } from '../domain/return-to.js'
import { SignOutBody } from '../schemas/pages.js'

const COOKIE = '__Host-registrar-sign-out'
const COOKIE_SECONDS = 600

interface SignOut {
  /** Of the provider whose session goes on. */
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
      // Nobody knows whose the others are: signed in again, the person finds the button there.
      const undone = body.all === 'all' && !ended
      const return_to = undone ? '/agents' : safeReturnTo(body.return_to)
      const next = return_to === '/' ? '/' : signInAgain(return_to)
      const { oidcProviders } = config
      // Pressed twice, or of a session that ended elsewhere: where there is one provider, its own goes on.
      const provider = oidcProviders.find(({ issuer }) =>
        ended ? issuer === ended.issuer : oidcProviders.length === 1,
      )
      const url = provider && (await app.oidc.endSessionUrl(provider.issuer, ended?.idToken))
      if (!url) return reply.seeOther(next)
      // Through a page of ours: browsers hold a form to our own origin, through every redirect (CSP3 §6.4.2).
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

  /** Who signs out to come back wants another account; a provider that remembers would not ask. */
  function signInAgain(return_to: string): string {
    return config.SIGN_IN === 'oidc' ? loginPath(return_to, { another: true }) : return_to
  }
}
export default plugin
