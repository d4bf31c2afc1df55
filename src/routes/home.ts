/** The home page: what this is, how it is configured, where to look next. */
import type { FastifyPluginAsync } from 'fastify'
import {
  authorizationServerMetadataUrl,
  resourceMetadataUrl,
  shownSettings,
} from '../domain/metadata.js'
import { duration } from '../domain/words.js'
import { OAuthError } from '../errors.js'

const plugin: FastifyPluginAsync = async (app) => {
  const { config } = app

  app.get('/', async (request, reply) => {
    const person = await request.person()
    return await reply.page('home', {
      config: shownSettings(config),
      person,
      documents: {
        [authorizationServerMetadataUrl(config.ISSUER)]: 'authorization server metadata (RFC 8414)',
        [resourceMetadataUrl(config.RESOURCE, config.ISSUER)]:
          'protected resource metadata (RFC 9728)',
        [`${config.ISSUER}/.well-known/jwks.json`]: 'public keys',
      },
      lifetimes: {
        'Claim window': duration(config.CLAIM_WINDOW_SECONDS),
        'Link and code': duration(config.USER_CODE_TTL_SECONDS),
        'Identity assertion': duration(config.ASSERTION_TTL_SECONDS),
        'Access token': duration(config.ACCESS_TOKEN_TTL_SECONDS),
      },
    })
  })

  // Browsers ask for it on their own; without an answer each page leaves an error in their consoles.
  app.get('/favicon.ico', async (_request, reply) =>
    reply.code(204).header('cache-control', 'public, max-age=86400').send(),
  )

  app.get('/style.css', async (_request, reply) => reply.document(app.stylesheet))

  app.get('/brand-logo', async (_request, reply) => {
    const { logo } = app.brand
    if (!logo) throw new OAuthError(404, 'not_found', 'There is no logo.')
    // Should an SVG be opened as a page of its own, it runs nothing, loads nothing, and has no part in our origin.
    reply.header(
      'content-security-policy',
      "default-src 'none'; style-src 'unsafe-inline'; sandbox",
    )
    return reply.document(logo)
  })
}
export default plugin
