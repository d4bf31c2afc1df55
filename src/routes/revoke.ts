/** POST /oauth2/revoke: ends one access token, or with an assertion everything derived from it (RFC 7009). */
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import {
  ACCESS_TOKEN_TYP,
  ASSERTION_TYP,
  type AccessTokenClaims,
  type AssertionClaims,
} from '../domain/tokens.js'
import { recordAudit } from '../repositories/audit-events.js'
import { raiseGeneration } from '../repositories/registrations.js'
import { revokeToken } from '../repositories/tokens.js'
import { RevokeBody } from '../schemas/revoke.js'

const plugin: FastifyPluginAsyncTypebox = async (app) => {
  const { config, keys } = app

  app.post(
    '/oauth2/revoke',
    { config: { cors: true }, schema: { body: RevokeBody } },
    async ({ body: { token }, address }, reply) => {
      const access = await keys.verify<AccessTokenClaims>(token, {
        typ: ACCESS_TOKEN_TYP,
        audience: config.RESOURCE,
      })
      if (access.ok) await endToken(access.claims, address)
      const assertion = await keys.verify<AssertionClaims>(token, {
        typ: ASSERTION_TYP,
        audience: config.ISSUER,
        clockToleranceSeconds: config.CLOCK_SKEW_SECONDS,
      })
      if (assertion.ok) await endGeneration(assertion.claims, address)
      // Unknown, expired, already revoked: the caller wanted it dead, and dead it is (§2.2).
      return reply.send()
    },
  )

  /** By `jti`: the same token has several valid spellings, its text would be no key. */
  async function endToken({ jti, exp, registration_id }: AccessTokenClaims, address: string) {
    await app.transaction(async (tx) => {
      if (await revokeToken(tx, jti, exp))
        await recordAudit(tx, {
          event: 'token.revoked',
          registration_id,
          address,
          details: { jti },
        })
    })
  }

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
