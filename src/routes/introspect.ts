/** POST /oauth2/introspect: for configured resource servers only, by HTTP Basic (RFC 7662). */
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { parseBasicCredentials } from '../domain/basic-credentials.js'
import { hashSecret, secretsEqual } from '../domain/secrets.js'
import { personMembers, signInIssuers } from '../domain/token-person.js'
import { OAuthError } from '../errors.js'
import { findResourceServerSecrets } from '../repositories/resource-servers.js'
import { findTokenPersons, type TokenName } from '../repositories/tokens.js'
import { IntrospectAnswer, IntrospectBody } from '../schemas/introspect.js'

const invalidClient = () =>
  new OAuthError(401, 'invalid_client', 'Resource server credentials are required.', {
    'www-authenticate': 'Basic realm="introspection", charset="UTF-8"',
  })

const plugin: FastifyPluginAsyncTypebox = async (app) => {
  const { db, batched } = app
  const issuers = signInIssuers(app.config)
  const findSecret = batched((ids: string[]) => findResourceServerSecrets(db, ids))
  const findPerson = batched((tokens: TokenName[]) => findTokenPersons(db, tokens, issuers))

  app.addHook('onRequest', async ({ headers }, reply) => {
    const credentials = parseBasicCredentials(headers.authorization)
    if (!credentials) throw invalidClient()
    await reply.requireBudget('introspection_failures_per_ip')
    const secret = await findSecret(credentials.id)
    if (secret && secretsEqual(hashSecret(credentials.secret), secret)) return
    await reply.limit('introspection_failures_per_ip')
    throw invalidClient()
  })

  app.post(
    '/oauth2/introspect',
    { schema: { body: IntrospectBody, response: { 200: IntrospectAnswer } } },
    async ({ body }) => {
      const token = await app.activeToken(body.token, findPerson)
      if (!token) return { active: false }
      const { claims, standing } = token
      return {
        active: true,
        token_type: 'Bearer' as const,
        ...claims,
        ...personMembers(standing),
      }
    },
  )
}
export default plugin
