/** POST /oauth2/token: both grants (PROTOCOL §8). Client authentication is not required, and ignored if sent. */
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { Static } from '@sinclair/typebox'
import type { FastifyReply } from 'fastify'
import { CLAIM_TOKEN_GRACE_MS, decidePoll, type PollReason } from '../domain/claim.js'
import { CLAIM_GRANT, JWT_BEARER_GRANT } from '../domain/metadata.js'
import { isAlive, type Registration } from '../domain/registration.js'
import { grantableScopes, narrowScope } from '../domain/scope.js'
import { hashSecret, secretsEqual } from '../domain/secrets.js'
import { tokenSubjectIssuers, type Account } from '../domain/token-person.js'
import * as tokens from '../domain/tokens.js'
import {
  badRequest,
  invalidRequest,
  oauthBody,
  type OAuthError,
  refusalFor,
  refused,
} from '../errors.js'
import { recordAudit } from '../repositories/audit-events.js'
import { findByClaimToken, useClaimToken } from '../repositories/claim-tokens.js'
import { recordPolls } from '../repositories/poll-states.js'
import { findRegistrations } from '../repositories/registrations.js'
import { TokenAnswer, TokenBody, TokenRefusal } from '../schemas/token.js'

type Parameters = Static<typeof TokenBody>

/** The same text for every invalid assertion, so that nobody can probe for registrations. */
const invalidGrant = (reason: string) =>
  badRequest('invalid_grant', 'The assertion is not valid, has expired or was revoked.', reason)

const POLL_REFUSALS: Record<PollReason, () => OAuthError> = {
  pending: () => badRequest('authorization_pending', 'The person has not confirmed yet.'),
  ceremony_over: () =>
    badRequest('expired_token', 'The link and code have ended. Renew them at the claim endpoint.'),
  window_over: () => badRequest('expired_token', 'The claim window is over. Register again.'),
  spent: () =>
    badRequest('expired_token', 'This claim token has been used. Use the identity assertion.'),
  declined: () => badRequest('access_denied', 'The person declined.'),
  revoked: () => badRequest('access_denied', 'This registration was revoked.'),
}

/** The answers to nearly all polls, made once: an error for each, with its stack, would take a twentieth of a poll. */
const PENDING = refusalFor(POLL_REFUSALS, 'pending')
const SLOW_DOWN = badRequest('slow_down', 'Polled too early. Wait 5 seconds longer from now on.')

const plugin: FastifyPluginAsyncTypebox = async (app) => {
  const { config, db, keys } = app
  const subjectIssuers = tokenSubjectIssuers(config)
  const polling = {
    intervalSeconds: config.POLL_INTERVAL_SECONDS,
    maxTries: config.USER_CODE_MAX_TRIES,
  }
  const find = app.batched((ids: string[]) => findRegistrations(db, ids, subjectIssuers))
  const recordPoll = app.batched((hashes: Buffer[]) => recordPolls(db, hashes, polling), {
    oneByOne: true,
  })

  app.post(
    '/oauth2/token',
    {
      // RFC 6749 §5.1
      config: { cors: true, headers: { pragma: 'no-cache' } },
      schema: { body: TokenBody, response: { 200: TokenAnswer, 400: TokenRefusal } },
    },
    async (request, reply) => {
      switch (request.body.grant_type) {
        case JWT_BEARER_GRANT:
          return exchangeAssertion(request.body, request.address)
        case CLAIM_GRANT:
          return pollClaim(request.body, reply)
        default:
          throw badRequest('unsupported_grant_type', 'Use the jwt-bearer or the claim grant.')
      }
    },
  )

  /** The grant of RFC 7523 §2.1, for our own assertions only. */
  async function exchangeAssertion(parameters: Parameters, address: string) {
    if (!parameters.assertion) throw invalidRequest('assertion is required.')
    const read = await keys.read<tokens.AssertionClaims>(parameters.assertion, {
      typ: tokens.ASSERTION_TYP,
      audience: config.ISSUER,
      maxAgeSeconds: config.ASSERTION_TTL_SECONDS,
      clockToleranceSeconds: config.CLOCK_SKEW_SECONDS,
    })
    if (!read.ok) throw invalidGrant(read.reason)
    const { sub, generation } = read.unverified
    const registration = await find(sub)
    // On record, byte for byte, is only what we signed.
    const recorded = registration?.assertion_hash
    const onRecord = recorded && secretsEqual(recorded, hashSecret(parameters.assertion))
    if (!onRecord && !read.isSigned()) throw invalidGrant('wrong_signature')
    if (!registration) throw invalidGrant('unknown_registration')
    // Before a person has confirmed, nothing depends on the provider's word.
    if (registration.claimed_at && !registration.issuer_active)
      throw invalidGrant('provider_not_trusted')
    if (!isAlive(registration, generation, registration.now))
      throw invalidGrant('superseded_or_ended')
    const token = accessToken(registration, parameters)
    await app.recordSoon(tokenIssued(token.claims, address))
    return tokenAnswer(token)
  }

  /** The profile's claim grant. Errors as in the table of PROTOCOL §8. */
  async function pollClaim(parameters: Parameters, reply: FastifyReply) {
    if (!parameters.claim_token) throw invalidRequest('claim_token is required.')
    const claimTokenHash = hashSecret(parameters.claim_token)
    const poll = await recordPoll(claimTokenHash)
    if (poll === 'slow_down') return refused(oauthBody, reply, SLOW_DOWN)
    if (poll === 'pending') return refused(oauthBody, reply, PENDING)
    const { address } = reply.request
    const state = poll === 'other' && (await findByClaimToken(db, claimTokenHash, subjectIssuers))
    if (!state) {
      await reply.limit('unknown_claim_tokens_per_ip')
      throw badRequest('expired_token', 'This claim token is not valid any more.', 'unknown')
    }
    const { registration, attempt, now } = state
    // Decided again, since something may have changed in between.
    const decision = decidePoll(registration, attempt, config.USER_CODE_MAX_TRIES, now)
    if (!decision.ok) throw refusalFor(POLL_REFUSALS, decision.reason)
    const token = accessToken(registration, parameters)
    const assertion = keys.identityAssertion(registration)
    const assertionHash = hashSecret(assertion.identity_assertion)
    await app.transaction(async (tx) => {
      const used = await useClaimToken(tx, registration.id, assertionHash, CLAIM_TOKEN_GRACE_MS)
      if (used !== 'used') throw refusalFor(POLL_REFUSALS, used)
      await recordAudit(
        tx,
        { event: 'assertion.issued', registration_id: registration.id, address },
        tokenIssued(token.claims, address),
      )
    })
    return { ...tokenAnswer(token), ...assertion }
  }

  /**
   * The claims of an access token with what the registration may have now (pre-claim scopes until a person has
   * confirmed), narrowed to what was asked for. `restricted`: the caller named the resource.
   */
  function accessToken(
    registration: Registration & { sign_in: Account | null },
    { scope, resource }: Parameters,
  ) {
    const allowed = registration.claimed_at
      ? grantableScopes(Object.keys(config.SCOPES), registration.scopes)
      : config.PRE_CLAIM_SCOPES
    const granted = narrowScope(allowed, scope)
    if (!granted) throw badRequest('invalid_scope', 'None of the requested scopes can be granted.')
    const resources = [resource ?? []].flat().filter((uri) => uri !== '')
    if (resources.some((uri) => uri !== config.RESOURCE))
      throw badRequest('invalid_target', 'The requested resource is not served here.')
    const { ISSUER, RESOURCE, ACCESS_TOKEN_TTL_SECONDS } = config
    return {
      claims: tokens.accessTokenClaims(
        ISSUER,
        RESOURCE,
        registration,
        granted,
        ACCESS_TOKEN_TTL_SECONDS,
        new Date(),
      ),
      restricted: resources.length > 0,
    }
  }

  function tokenAnswer({ claims, restricted }: ReturnType<typeof accessToken>) {
    return {
      access_token: keys.sign(tokens.ACCESS_TOKEN_TYP, claims),
      token_type: 'Bearer' as const,
      expires_in: claims.exp - claims.iat,
      scope: claims.scope,
      // ID-JAG draft §4.4.2: included when the caller named the resource.
      ...(restricted ? { resource: claims.aud } : {}),
    }
  }

  function tokenIssued({ registration_id, jti, scope }: tokens.AccessTokenClaims, address: string) {
    return { event: 'token.issued' as const, registration_id, address, details: { jti, scope } }
  }
}
export default plugin
