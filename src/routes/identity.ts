/** POST /agent/identity: an agent registers (PROTOCOL §5). */
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { classifyLoginHint } from '../domain/login-hint.js'
import { hashSecret, newId, newSecret } from '../domain/secrets.js'
import { ASSERTION_TYP, assertionClaims, isoSeconds } from '../domain/tokens.js'
import { invalidLoginHint, notEnabled } from '../errors.js'
import { recordAudit } from '../repositories/audit-events.js'
import { startAttempt } from '../repositories/claim-attempts.js'
import { insertRegistration } from '../repositories/registrations.js'
import { JSON_BODY_LIMIT } from '../schemas/ceremony.js'
import { IdentityAnswer, IdentityBody } from '../schemas/identity.js'

const plugin: FastifyPluginAsyncTypebox = async (app) => {
  const { config, db, keys } = app

  app.post(
    '/agent/identity',
    {
      config: { cors: true },
      bodyLimit: JSON_BODY_LIMIT,
      schema: { body: IdentityBody, response: { 200: IdentityAnswer } },
    },
    async (request) => {
      const { body, address } = request
      if (body.type === 'identity_assertion' || !config.IDENTITY_TYPES.includes(body.type))
        throw notEnabled(body.type)
      switch (body.type) {
        case 'anonymous':
          return registerAnonymous(address)
        case 'service_auth':
          return registerWithHint(body.login_hint, address)
      }
    },
  )

  async function registerAnonymous(address: string) {
    const { row, claim_token } = newRegistration('anonymous', address)
    const { generation, claim_expires_at } = await db.transaction().execute(async (tx) => {
      const inserted = await insertRegistration(tx, row)
      await recordAudit(tx, { event: 'assertion.issued', registration_id: row.id, address })
      return inserted
    })
    const claims = assertionClaims(
      config.ISSUER,
      { id: row.id, generation, email: null, claimed_at: null },
      config.ASSERTION_TTL_SECONDS,
      new Date(),
    )
    return {
      ...answer(row, claim_token, claim_expires_at),
      identity_assertion: await keys.sign(ASSERTION_TYP, claims),
      assertion_expires: isoSeconds(claims.exp),
      pre_claim_scopes: config.PRE_CLAIM_SCOPES,
    }
  }

  /** Whether the address has an account is not looked at: both get the same answer in the same time. */
  async function registerWithHint(loginHint: string, address: string) {
    const hint = classifyLoginHint(loginHint)
    if (!hint) throw invalidLoginHint()
    const { row, claim_token } = newRegistration('service_auth', address)
    const ceremony = app.ceremonies.mint(hint, address)
    const { claim_expires_at } = await db.transaction().execute(async (tx) => {
      const inserted = await insertRegistration(tx, row)
      await startAttempt(tx, row.id, ceremony.attempt)
      return inserted
    })
    return { ...answer(row, claim_token, claim_expires_at), claim: ceremony.block }
  }

  function newRegistration(registration_type: 'anonymous' | 'service_auth', address: string) {
    const claim_token = newSecret('clm_')
    const row = {
      id: newId('reg_'),
      registration_type,
      claim_token_hash: hashSecret(claim_token),
      claim_window_seconds: config.CLAIM_WINDOW_SECONDS,
      created_from: address,
    }
    return { row, claim_token }
  }

  function answer(
    { id, registration_type }: { id: string; registration_type: string },
    claim_token: string,
    claim_expires_at: Date,
  ) {
    return {
      registration_id: id,
      registration_type,
      claim_url: `${config.ISSUER}/agent/identity/claim`,
      claim_token,
      claim_token_expires: claim_expires_at.toISOString(),
      post_claim_scopes: Object.keys(config.SCOPES),
    }
  }
}
export default plugin
