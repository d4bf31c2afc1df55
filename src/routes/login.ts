/** /login: the configured way to sign in (PROTOCOL §7), or the development sign-in, which believes any address. */
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { canonicalEmail } from '../domain/login-hint.js'
import { loginPath, safeReturnTo } from '../domain/return-to.js'
import { DEVELOPMENT_ISSUER } from '../domain/sign-in.js'
import { LoginLink, SignInBody } from '../schemas/pages.js'

const NOBODY = {
  title: 'Nobody can sign in here',
  text: 'Whoever runs this service has set up no sign-in, so nobody can confirm an agent.',
}

const plugin: FastifyPluginAsyncTypebox = async (app) => {
  const { config } = app

  app.addHook('onRequest', async (_request, reply) => {
    if (config.SIGN_IN !== 'none') return
    return reply.code(404).send(await reply.viewAsync('problem', NOBODY))
  })

  app.get('/login', { schema: { querystring: LoginLink } }, async (request, reply) => {
    const { provider: issuer } = request.query
    const return_to = safeReturnTo(request.query.return_to)
    const person = await request.person()
    if (person?.fresh) return reply.seeOther(return_to)
    if (config.SIGN_IN === 'development') return await reply.page('login', { return_to })
    const another = request.query.prompt === 'select_account'
    const { oidcProviders } = config
    const chosen =
      oidcProviders.length === 1
        ? oidcProviders[0]
        : oidcProviders.find((provider) => provider.issuer === (issuer ?? person?.issuer))
    if (chosen) {
      // To renew a session that is too old, the person has to sign in at the provider again; its memory is not enough.
      const max_age = person && config.SIGN_IN_MAX_AGE_SECONDS
      const prompt = another ? 'another' : undefined
      const login_hint = person?.email
      return await reply.leaveToSignIn(chosen, { return_to, prompt, max_age, login_hint })
    }
    const providers = oidcProviders.map((provider) => {
      const href = config.ISSUER + loginPath(return_to, { another, provider: provider.issuer })
      return { name: provider.name, host: new URL(provider.issuer).host, href }
    })
    return await reply.page('login', { return_to, providers })
  })

  if (config.SIGN_IN !== 'oidc')
    app.post(
      '/login',
      { schema: { body: SignInBody }, preHandler: app.csrfProtection },
      async ({ body }, reply) => {
        await reply.limit('sign_in_per_ip')
        const return_to = safeReturnTo(body.return_to)
        const email = canonicalEmail(body.email ?? '')
        if (!email) {
          const error = 'Enter an email address, like you@example.com.'
          return await reply.code(400).page('login', { return_to, error })
        }
        const signIn = { issuer: DEVELOPMENT_ISSUER, subject: email, email }
        return reply.seeOther(await reply.completeSignIn(signIn, return_to))
      },
    )
}
export default plugin
