/**
 * Metadata, keys and /auth.md, served from memory: made at the start, the keys again when they change (PROTOCOL §4).
 */
import type { FastifyPluginAsync } from 'fastify'
import * as metadata from '../domain/metadata.js'
import { duration } from '../domain/words.js'
import type { CachedDocument } from '../plugins/documents.js'

const plugin: FastifyPluginAsync = async (app) => {
  const { config, cachedDocument } = app
  const json = (value: unknown) =>
    cachedDocument('application/json; charset=utf-8', JSON.stringify(value))
  const { PROTECTED_RESOURCE, AUTHORIZATION_SERVER, wellKnownPath } = metadata
  const server = metadata.authorizationServerMetadata(config)
  const resource = json(metadata.protectedResourceMetadata(config))
  const { pathname: issuerPath } = new URL(`${config.ISSUER}/`)

  const instructions = {
    config: metadata.shownSettings(config),
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
    [
      `${issuerPath}auth.md`,
      cachedDocument(
        'text/markdown; charset=utf-8',
        app.renderMarkdown('auth.md.eta', instructions),
      ),
    ],
  ])
  const serve = (path: string, document: () => CachedDocument) => {
    app.shortcut(path, document)
    app.get(path.replaceAll(':', '::'), { config: { cors: true } }, async (_request, reply) =>
      reply.document(document()),
    )
  }
  for (const [path, document] of documents) serve(path, () => document)

  let jwks = { of: app.keys.jwks, document: json(app.keys.jwks) }
  serve(`${issuerPath}.well-known/jwks.json`, () => {
    const { jwks: of } = app.keys
    if (of !== jwks.of) jwks = { of, document: json(of) }
    return jwks.document
  })
}
export default plugin
