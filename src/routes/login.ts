/** Signing in and out (PROTOCOL §7). The development sign-in believes any address: it exists only on localhost. */
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { canonicalEmail } from '../domain/login-hint.js'
import { safeReturnTo } from '../domain/return-to.js'
import { newId } from '../domain/secrets.js'
import { OAuthError } from '../errors.js'
import { recordAudit } from '../repositories/audit-events.js'
import { listSetAside, setAsideDelegations } from '../repositories/delegations.js'
import { signInUser } from '../repositories/users.js'
import { SignInBody, SignOutBody } from '../schemas/pages.js'

const DEVELOPMENT_ISSUER = 'development'

const plugin: FastifyPluginAsyncTypebox = async (app) => {
  const { config, db } = app

  app.addHook('onRequest', async () => {
    if (config.SIGN_IN === 'none') throw new OAuthError(404, 'not_found', 'No sign-in is set up.')
  })

  app.get('/login', async (request, reply) => {
    const return_to = safeReturnTo((request.query as Record<string, unknown>).return_to)
    if (await request.person()) return reply.seeOther(return_to)
    return await reply.page('login', { return_to })
  })

  app.post(
    '/login',
    { schema: { body: SignInBody }, preHandler: app.csrfProtection },
    async ({ body, address }, reply) => {
      const return_to = safeReturnTo(body.return_to)
      const email = canonicalEmail(body.email ?? '')
      if (!email) {
        const error = 'Enter an email address, like you@example.com.'
        return await reply.code(400).page('login', { return_to, error })
      }
      const user = await db.transaction().execute(async (tx) => {
        const signIn = {
          issuer: DEVELOPMENT_ISSUER,
          subject: email,
          email,
          newUserId: newId('user_'),
        }
        const { user_id, created, first } = await signInUser(tx, signIn)
        if (created) await recordAudit(tx, { event: 'user.created', user_id, address })
        else if (first) await setAsideDelegations(tx, user_id, address)
        return { user_id }
      })
      await reply.startSession(user.user_id)
      const aside = await listSetAside(db, user.user_id)
      if (aside.length === 0) return reply.seeOther(return_to)
      return reply.seeOther(`/delegations?return_to=${encodeURIComponent(return_to)}`)
    },
  )

  app.post(
    '/logout',
    { schema: { body: SignOutBody }, preHandler: app.csrfProtection },
    async ({ body }, reply) => {
      await reply.endSession()
      return reply.seeOther(safeReturnTo(body.return_to))
    },
  )
}
export default plugin
