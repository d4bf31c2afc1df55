/** POST /agent/event/notify: providers push security events (RFC 8935, RFC 8417, PROTOCOL §10). */
import type { FastifyPluginAsync } from 'fastify'
import type { EventReason } from '../domain/security-event.js'
import { badRequest, eventBody, jsonErrors, refusalFor, type OAuthError } from '../errors.js'
import type { EventRefusal } from '../plugins/security-events.js'

/** RFC 8935 §2.4 */
const REFUSALS: Record<EventRefusal | EventReason, () => OAuthError> = {
  unreadable: () => badRequest('invalid_request', 'The body is not a JWT in compact form.'),
  unknown_issuer: () => badRequest('invalid_issuer', 'The issuer is not trusted here.'),
  unknown_key: () => badRequest('invalid_key', 'The key is not one of the issuer.'),
  bad_signature: () => badRequest('authentication_failed', 'The signature does not hold.'),
  invalid_request: () =>
    badRequest('invalid_request', 'The claims are not those of a security event.'),
  invalid_audience: () => badRequest('invalid_audience', 'aud does not name this issuer.'),
}

const plugin: FastifyPluginAsync = async (app) => {
  app.addContentTypeParser(
    'application/secevent+jwt',
    { parseAs: 'string' },
    (_request, body, done) => done(null, body),
  )
  app.setErrorHandler(jsonErrors(eventBody, 'application/secevent+jwt'))

  const config = { headers: { 'content-language': 'en' } }
  app.post('/agent/event/notify', { config }, async (request, reply) => {
    const token = String(request.body ?? '')
    const outcome = await app.receiveEvent('secevent', token, request.address)
    if (!outcome.ok) throw refusalFor(REFUSALS, outcome.reason)
    return reply.code(202).removeHeader('content-language').send()
  })
}
export default plugin
