/** POST /agent/auth/revoke: the revoked event in the form of auth.md v0.2 (OpenID Connect Back-Channel Logout §2). */
import type { FastifyPluginAsync } from 'fastify'
import { because, invalidRequest, jsonErrors, oauthBody } from '../errors.js'

const plugin: FastifyPluginAsync = async (app) => {
  app.addContentTypeParser(
    'application/logout+jwt',
    { parseAs: 'string' },
    (_request, body, done) => done(null, body),
  )
  app.setErrorHandler(jsonErrors(oauthBody, 'application/logout+jwt'))

  // RFC 9745: providers should move to the events endpoint.
  const config = { headers: { deprecation: '@1767225600' } }
  app.post('/agent/auth/revoke', { config }, async (request, reply) => {
    const token = String(request.body ?? '')
    const outcome = await app.receiveEvent('logout', token, request.address)
    if (!outcome.ok) {
      const { reason } = outcome
      throw because(reason, invalidRequest(`The logout token was refused: ${reason}.`))
    }
    return reply.send()
  })
}
export default plugin
