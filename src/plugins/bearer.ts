/** Checks access tokens as a resource server should: first the signature, then whether the token still counts. */
import fp from 'fastify-plugin'
import { isAlive } from '../domain/registration.js'
import { ACCESS_TOKEN_TYP, type AccessTokenClaims } from '../domain/tokens.js'
import { OAuthError } from '../errors.js'
import { findTokenStandings, type TokenName, type TokenStanding } from '../repositories/tokens.js'
import { resourceMetadataUrl } from '../domain/metadata.js'

declare module 'fastify' {
  interface FastifyInstance {
    /**
     * The claims of an access token of ours that has neither expired nor been revoked or superseded, and what `find`
     * found of it; undefined for any other token.
     */
    activeToken<Standing extends TokenStanding>(
      token: string,
      find: (token: TokenName) => Promise<Standing | undefined>,
    ): Promise<{ claims: AccessTokenClaims; standing: Standing } | undefined>
    /**
     * A hook for `onRequest`, before a body is read: lets callers with this scope pass, and answers others with the
     * challenge of RFC 6750 §3.
     */
    requireBearer(scope: string): (request: FastifyRequest) => Promise<void>
  }
  interface FastifyRequest {
    /** The token's claims, after `requireBearer`. */
    caller: AccessTokenClaims | null
  }
}

export default fp(
  async (app) => {
    const { config, db, keys } = app
    const findStanding = app.batched((tokens: TokenName[]) => findTokenStandings(db, tokens))
    const metadata = `resource_metadata="${resourceMetadataUrl(config.RESOURCE, config.ISSUER)}"`

    app.decorate('activeToken', async (token, find) => {
      const verified = await keys.verify<AccessTokenClaims>(token, {
        typ: ACCESS_TOKEN_TYP,
        audience: config.RESOURCE,
      })
      if (!verified.ok) return undefined
      const { registration_id, jti, generation } = verified.claims
      const standing = await find({ registration_id, jti })
      const active =
        standing && !standing.token_revoked && isAlive(standing, generation, standing.now)
      return active ? { claims: verified.claims, standing } : undefined
    })

    app.decorateRequest('caller', null)
    app.decorate('requireBearer', (scope) => async (request) => {
      const header = request.headers.authorization
      const token = header === undefined ? undefined : /^bearer +([^\s]+) *$/i.exec(header)?.[1]
      if (header === undefined || !/^bearer\b/i.test(header))
        throw challenge(401, 'invalid_token', 'An access token is required.', '')
      const active = token ? await app.activeToken(token, findStanding) : undefined
      if (!active)
        throw challenge(
          401,
          'invalid_token',
          'The access token is not valid.',
          ', error="invalid_token"',
        )
      const { claims } = active
      if (!claims.scope.split(' ').includes(scope))
        throw challenge(
          403,
          'insufficient_scope',
          'The access token lacks a scope.',
          `, error="insufficient_scope", scope="${scope}"`,
        )
      request.caller = claims
    })

    function challenge(status: number, error: string, description: string, parameters: string) {
      const value = `Bearer ${metadata}${parameters}`
      return new OAuthError(status, error, description, { 'www-authenticate': value })
    }
  },
  { name: 'bearer', dependencies: ['keys', 'database'] },
)
