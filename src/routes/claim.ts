/** POST /agent/identity/claim: an agent starts or renews the ceremony of its registration (PROTOCOL §6). */
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { decideStart, type StartReason } from '../domain/claim.js'
import { classifyLoginHint } from '../domain/login-hint.js'
import { hashSecret } from '../domain/secrets.js'
import { invalidLoginHint, invalidRequest, notEnabled, OAuthError } from '../errors.js'
import { countRecentWrongCodes, startAttempt } from '../repositories/claim-attempts.js'
import { findByClaimToken, lockByClaimToken } from '../repositories/registrations.js'
import { JSON_BODY_LIMIT } from '../schemas/ceremony.js'
import { ClaimAnswer, ClaimBody } from '../schemas/claim.js'

const REFUSALS: Record<StartReason, () => OAuthError> = {
  unknown: () => new OAuthError(401, 'invalid_claim_token', 'This claim token is not known here.'),
  claimed: () =>
    new OAuthError(409, 'claimed_or_in_flight', 'This registration is already claimed.'),
  over: () => new OAuthError(410, 'claim_expired', 'This registration has ended. Register again.'),
  hint_missing: () => invalidRequest('login_hint is required to start the first ceremony.'),
  too_many_codes: () =>
    new OAuthError(
      429,
      'rate_limited',
      'Too many wrong codes. Try again tomorrow or register anew.',
      {
        'retry-after': '3600',
      },
    ),
}

const plugin: FastifyPluginAsyncTypebox = async (app) => {
  const { db } = app

  app.post(
    '/agent/identity/claim',
    {
      config: { cors: true },
      bodyLimit: JSON_BODY_LIMIT,
      schema: { body: ClaimBody, response: { 200: ClaimAnswer } },
    },
    async ({ body, address }) => {
      if (body.type === 'identity_assertion') throw notEnabled(body.type)
      if (body.login_hint !== undefined && body.email !== undefined)
        throw invalidRequest('Give login_hint or email, not both.')
      const text = body.login_hint ?? body.email
      const given = text === undefined ? undefined : classifyLoginHint(text)
      if (text !== undefined && !given) throw invalidLoginHint()

      return db.transaction().execute(async (tx) => {
        const tokenHash = hashSecret(body.claim_token)
        const id = await lockByClaimToken(tx, tokenHash)
        const state = await findByClaimToken(tx, tokenHash)
        const wrongCodes = id ? await countRecentWrongCodes(tx, id) : 0
        const decision = decideStart(
          state?.registration,
          { last: state?.hint, given, wrongCodes },
          state?.now ?? new Date(),
        )
        if (!decision.ok) throw REFUSALS[decision.reason]()
        const { registration, hint } = decision
        const ceremony = app.ceremonies.mint(hint, address)
        const { expires_at } = await startAttempt(tx, registration.id, ceremony.attempt)
        return {
          registration_id: registration.id,
          claim_attempt_id: ceremony.attempt.id,
          status: 'initiated',
          expires_at: expires_at.toISOString(),
          claim_attempt: ceremony.block,
        }
      })
    },
  )
}
export default plugin
