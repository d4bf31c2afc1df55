/** Metadata, keys and /auth.md: made at start, served from memory (PROTOCOL §4). */
import type { FastifyPluginAsync } from 'fastify'
import * as metadata from '../domain/metadata.js'
import { duration } from '../domain/words.js'

const plugin: FastifyPluginAsync = async (app) => {
  const { config, cachedDocument } = app
  const json = (value: unknown) =>
    cachedDocument('application/json; charset=utf-8', JSON.stringify(value))
  const { PROTECTED_RESOURCE, AUTHORIZATION_SERVER, wellKnownPath } = metadata
  const server = metadata.authorizationServerMetadata(config)
  const resource = json(metadata.protectedResourceMetadata(config))
  const { pathname: issuerPath } = new URL(`${config.ISSUER}/`)

  const instructions = {
    config,
    server,
    metadata_url: metadata.authorizationServerMetadataUrl(config.ISSUER),
    claim_window: duration(config.CLAIM_WINDOW_SECONDS),
    code_lifetime: duration(config.USER_CODE_TTL_SECONDS),
    token_lifetime: duration(config.ACCESS_TOKEN_TTL_SECONDS),
    assertion_lifetime: duration(config.ASSERTION_TTL_SECONDS),
  }

  const documents = new Map([
    [wellKnownPath(AUTHORIZATION_SERVER, config.ISSUER), json(server)],
    [`/.well-known/${PROTECTED_RESOURCE}`, resource],
    [wellKnownPath(PROTECTED_RESOURCE, config.RESOURCE), resource],
    [`${issuerPath}.well-known/jwks.json`, json(app.keys.jwks)],
    [
      `${issuerPath}auth.md`,
      cachedDocument(
        'text/markdown; charset=utf-8',
        app.renderMarkdown('auth.md.eta', instructions),
      ),
    ],
  ])
  for (const [path, document] of documents)
    app.get(path.replaceAll(':', '::'), { config: { cors: true } }, async (_request, reply) =>
      reply.document(document),
    )
}
export default plugin
