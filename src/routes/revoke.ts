/**
 * POST /oauth2/revoke: ends one access token, or, given an identity assertion, everything derived from it (RFC 7009).
 */
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import {
  ACCESS_TOKEN_TYP,
  ASSERTION_TYP,
  type AccessTokenClaims,
  type AssertionClaims,
} from '../domain/tokens.js'
import { recordAudit } from '../repositories/audit-events.js'
import { raiseGeneration } from '../repositories/registrations.js'
import { revokeTokens, type RevokedToken } from '../repositories/tokens.js'
import { RevokeBody } from '../schemas/revoke.js'

const plugin: FastifyPluginAsyncTypebox = async (app) => {
  const { config, db, keys } = app
  const endToken = app.batched((tokens: RevokedToken[]) => revokeTokens(db, tokens))

  app.post(
    '/oauth2/revoke',
    { config: { cors: true }, schema: { body: RevokeBody } },
    async ({ body: { token }, address }, reply) => {
      const access = await keys.verify<AccessTokenClaims>(token, {
        typ: ACCESS_TOKEN_TYP,
        audience: config.RESOURCE,
      })
      // By `jti`, not by its text: the same token has several valid spellings.
      if (access.ok) {
        const { jti, registration_id, exp } = access.claims
        await endToken({ jti, registration_id, exp, address })
      }
      const assertion = await keys.verify<AssertionClaims>(token, {
        typ: ASSERTION_TYP,
        audience: config.ISSUER,
        clockToleranceSeconds: config.CLOCK_SKEW_SECONDS,
      })
      if (assertion.ok) await endGeneration(assertion.claims, address)
      // Unknown, expired, already revoked: the caller wanted it dead, and it is (§2.2).
      return reply.send()
    },
  )

  async function endGeneration({ sub, generation, jti }: AssertionClaims, address: string) {
    await app.transaction(async (tx) => {
      if (await raiseGeneration(tx, sub, generation))
        await recordAudit(tx, {
          event: 'assertion.revoked',
          registration_id: sub,
          address,
          details: { jti },
        })
    })
  }
}
export default plugin
