/**
 * POST /agent/identity/claim: starts or renews a ceremony, or claims with a provider's assertion instead (PROTOCOL §6).
 */
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { Static } from '@sinclair/typebox'
import type { FastifyReply } from 'fastify'
import {
  decideAssertionClaim,
  decideStart,
  type AssertionClaimReason,
  type StartReason,
} from '../domain/claim.js'
import type { Claimant } from '../domain/ceremony.js'
import { classifyLoginHint, type LoginHint } from '../domain/login-hint.js'
import type { Registration } from '../domain/registration.js'
import { hashSecret } from '../domain/secrets.js'
import {
  badRequest,
  invalidLoginHint,
  invalidRequest,
  notEnabled,
  OAuthError,
  refusalFor,
} from '../errors.js'
import type { VerifiedIdJag } from '../plugins/id-jags.js'
import { recordAudit } from '../repositories/audit-events.js'
import { startAttempt } from '../repositories/claim-attempts.js'
import {
  findByClaimToken,
  lockByClaimToken,
  type ClaimState,
} from '../repositories/claim-tokens.js'
import { claimRegistration } from '../repositories/registrations.js'
import { attachSubject } from '../repositories/subject-registrations.js'
import type { DatabaseTransaction } from '../repositories/tables.js'
import { JSON_BODY_LIMIT } from '../schemas/ceremony.js'
import { ClaimAnswer, ClaimBody } from '../schemas/claim.js'

const claimed = () =>
  new OAuthError(
    409,
    'claimed_or_in_flight',
    'This registration is claimed, or being claimed, already.',
  )

type Reason = StartReason | AssertionClaimReason

const REFUSALS: Record<Reason, () => OAuthError> = {
  unknown: () =>
    new OAuthError(401, 'invalid_claim_token', 'This claim token is not known here.', {
      'www-authenticate': 'AgentAuth error="invalid_claim_token"',
    }),
  claimed,
  claimed_or_in_flight: claimed,
  over: () => new OAuthError(410, 'claim_expired', 'This registration has ended. Register again.'),
  hint_missing: () => invalidRequest('login_hint is required to start the first ceremony.'),
  pinned: () =>
    badRequest('invalid_login_hint', 'The provider named the person: the hint cannot be changed.'),
}

type Answer = Static<typeof ClaimAnswer>

const plugin: FastifyPluginAsyncTypebox = async (app) => {
  const { config, db, keys, ceremonies } = app
  const inTurn = <R>(tokenHash: Buffer, work: (tx: DatabaseTransaction) => Promise<R>) =>
    app.inTurn(tokenHash.toString('base64url'), () => app.transaction(work))

  app.post(
    '/agent/identity/claim',
    {
      config: { cors: true },
      bodyLimit: JSON_BODY_LIMIT,
      schema: { body: ClaimBody, response: { 200: ClaimAnswer } },
    },
    async ({ body }, reply) => {
      if (body.type === 'identity_assertion') {
        if (!config.IDENTITY_TYPES.includes(body.type)) throw notEnabled(body.type)
        if (body.assertion === undefined) throw invalidRequest('assertion is required.')
        return claimWithAssertion(hashSecret(body.claim_token), body.assertion, reply)
      }
      if (body.login_hint !== undefined && body.email !== undefined)
        throw invalidRequest('Give login_hint or email, not both.')
      const text = body.login_hint ?? body.email
      const given = text === undefined ? undefined : classifyLoginHint(text)
      if (text !== undefined && !given) throw invalidLoginHint()
      const tokenHash = hashSecret(body.claim_token)
      const outcome = await inTurn(tokenHash, (tx) => renew(tx, tokenHash, given, reply))
      if (!outcome.ok) throw await refusal(outcome.reason, reply)
      return outcome.answer
    },
  )

  async function renew(
    tx: DatabaseTransaction,
    tokenHash: Buffer,
    given: LoginHint | undefined,
    reply: FastifyReply,
  ): Promise<{ ok: true; answer: Answer } | { ok: false; reason: StartReason }> {
    await lockByClaimToken(tx, tokenHash)
    const state = await findByClaimToken(tx, tokenHash)
    const decision = decideStart(
      state?.registration,
      { last: state?.claimant, given },
      state?.now ?? new Date(),
    )
    if (!decision.ok) return decision
    const { registration, claimant } = decision
    const tooMany = await ceremonies.refusal(tx, registration.id)
    if (tooMany) throw tooMany
    // Otherwise one registration could ask as many people as it likes.
    await reply.limit('claims_per_ip', { db: tx })
    // Also when the hint is not given again but kept.
    await ceremonies.count(claimant, reply, tx)
    const answer = await initiate(tx, registration, claimant, reply.request.address, state!.now)
    return { ok: true, answer }
  }

  async function initiate(
    tx: DatabaseTransaction,
    { id: registration_id, claim_expires_at }: Registration,
    claimant: Claimant,
    address: string,
    now: Date,
  ): Promise<Answer> {
    const left = Math.max(1, Math.floor((claim_expires_at!.getTime() - now.getTime()) / 1000))
    const { attempt, block } = ceremonies.mint(claimant, address, left)
    const { expires_at } = await startAttempt(tx, registration_id, attempt)
    return {
      registration_id,
      claim_attempt_id: attempt.id,
      status: 'initiated',
      expires_at: expires_at.toISOString(),
      claim_attempt: block,
    }
  }

  async function claimWithAssertion(tokenHash: Buffer, idJag: string, reply: FastifyReply) {
    // Checked before the assertion is spent, and again under the lock.
    const before = decide(await findByClaimToken(db, tokenHash))
    if (!before.ok) throw await refusal(before.reason, reply)
    const verified = await app.verifyIdJag(idJag, reply)
    const answer = await inTurn(tokenHash, (tx) => claimAs(tx, tokenHash, verified, reply))
    if (answer instanceof OAuthError) throw answer
    return answer
  }

  async function refusal(reason: Reason, reply: FastifyReply): Promise<OAuthError> {
    // Counted after the look-up, so that callers who share a network with somebody who guesses can go on.
    if (reason === 'unknown') await reply.limit('unknown_claim_tokens_per_ip')
    return refusalFor(REFUSALS, reason)
  }

  function decide(state: ClaimState | undefined) {
    const { registration, attempt, now = new Date() } = state ?? {}
    return decideAssertionClaim(registration, attempt, config.USER_CODE_MAX_TRIES, now)
  }

  /**
   * Returns a refusal instead of throwing it: the transaction has to commit, so that the assertion stays spent. Only
   * the 429 of `ceremonies.count` is thrown, and undoes all of it.
   */
  async function claimAs(
    tx: DatabaseTransaction,
    tokenHash: Buffer,
    verified: VerifiedIdJag,
    reply: FastifyReply,
  ): Promise<Answer | OAuthError> {
    const { address } = reply.request
    const { issuer } = verified.issuer
    const replayed = await app.spendIdJag(tx, verified)
    if (replayed) return replayed
    await lockByClaimToken(tx, tokenHash)
    // Decided before the person is looked up, or an account could be created for nobody's agent.
    const state = await findByClaimToken(tx, tokenHash)
    const decision = decide(state)
    if (!decision.ok) return refusalFor(REFUSALS, decision.reason)
    const { registration } = decision
    const { id, registration_type } = registration
    const resolution = await app.resolveIdJag(tx, verified, address)
    if (resolution instanceof OAuthError) return resolution
    const details = { issuer, registration_type }
    if (resolution.kind === 'confirm') {
      const tooMany = await ceremonies.refusal(tx, id)
      if (tooMany) return tooMany
      await ceremonies.count(resolution.claimant, reply, tx)
    }
    await attachSubject(tx, id, { issuer, subject: verified.subject }, verified.scopes)
    if (resolution.kind === 'confirm')
      return await initiate(tx, registration, resolution.claimant, address, state!.now)
    const { user_id } = resolution
    await claimRegistration(tx, id, user_id)
    await recordAudit(
      tx,
      { event: 'claim.confirmed', registration_id: id, user_id, address, details },
      { event: 'assertion.issued', registration_id: id, address },
    )
    const bound = (await findByClaimToken(tx, tokenHash))!.registration
    return {
      registration_id: id,
      registration_type: 'identity_assertion',
      status: 'claimed',
      ...keys.identityAssertion(bound),
    }
  }
}
export default plugin
