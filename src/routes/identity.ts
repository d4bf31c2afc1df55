/** POST /agent/identity: an agent registers (PROTOCOL §5). */
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyReply } from 'fastify'
import { hinted } from '../domain/ceremony.js'
import { classifyLoginHint } from '../domain/login-hint.js'
import { FIRST_GENERATION, REGISTRATION_TYPES, type Registration } from '../domain/registration.js'
import { grantableScopes } from '../domain/scope.js'
import { hashSecret, newSecret, newSortedId } from '../domain/secrets.js'
import { interactionRequired, invalidLoginHint, notEnabled, OAuthError } from '../errors.js'
import type { VerifiedIdJag } from '../plugins/id-jags.js'
import { startAttempt } from '../repositories/claim-attempts.js'
import { insertRegistrations, type NewRegistration } from '../repositories/new-registrations.js'
import {
  acceptSettled,
  awaitStepUp,
  bindSubject,
  type Bound,
  findSubjectRegistration,
  type Presented,
} from '../repositories/subject-registrations.js'
import type { DatabaseTransaction } from '../repositories/tables.js'
import { JSON_BODY_LIMIT } from '../schemas/ceremony.js'
import { IdentityAnswer, IdentityBody } from '../schemas/identity.js'

const plugin: FastifyPluginAsyncTypebox = async (app) => {
  const { config, db, keys, ceremonies } = app
  const allScopes = Object.keys(config.SCOPES)
  const insert = app.batched((rows: NewRegistration[]) => insertRegistrations(db, rows))
  const insertWithAssertion = app.batched(insertWithAssertions)
  const accept = app.batched((presented: Presented[]) => acceptSettled(db, presented))
  const switchedOff = REGISTRATION_TYPES.filter((type) => !config.IDENTITY_TYPES.includes(type))

  app.post(
    '/agent/identity',
    {
      config: { cors: true },
      bodyLimit: JSON_BODY_LIMIT,
      schema: { body: IdentityBody, response: { 200: IdentityAnswer } },
      // Before the schema is checked: agents fall back on another type only if they get this very answer.
      preValidation: ({ body }, _reply, done) => {
        const given = (body as { type?: unknown } | null)?.type
        const off = switchedOff.find((type) => type === given)
        done(off && notEnabled(off))
      },
    },
    async ({ body, address }, reply) => {
      switch (body.type) {
        case 'anonymous':
          await reply.limit('anonymous_per_ip')
          await reply.limit('anonymous')
          return registerAnonymous(address)
        case 'service_auth':
          return registerWithHint(body.login_hint, reply)
        case 'identity_assertion':
          return registerWithAssertion(body.assertion, reply)
      }
    },
  )

  async function registerAnonymous(address: string) {
    const { row, claim_token } = newRegistration('anonymous', address)
    const { claim_expires_at, assertion } = await insertWithAssertion(row)
    return {
      ...pendingAnswer(row, claim_token, claim_expires_at, allScopes),
      ...assertion,
      pre_claim_scopes: config.PRE_CLAIM_SCOPES,
    }
  }

  /** Signs for the whole batch in a row: between other work a signature takes half as long again. */
  async function insertWithAssertions(rows: Omit<NewRegistration, 'first'>[]) {
    const assertions = rows.map(({ id }) =>
      keys.identityAssertion({ id, generation: FIRST_GENERATION, email: null, claimed_at: null }),
    )
    const inserted = await insertRegistrations(
      db,
      rows.map((row, i) => ({
        ...row,
        first: { assertion_hash: hashSecret(assertions[i]!.identity_assertion) },
      })),
    )
    return inserted.map(({ claim_expires_at }, i) => ({
      claim_expires_at,
      assertion: assertions[i]!,
    }))
  }

  /** Does not look up whether the address has an account: either way the answer is the same, in the same time. */
  async function registerWithHint(loginHint: string, reply: FastifyReply) {
    const { address } = reply.request
    const hint = classifyLoginHint(loginHint)
    if (!hint) throw invalidLoginHint()
    await reply.limit('service_auth_per_ip')
    await reply.limit('service_auth')
    const claimant = hinted(hint)
    await ceremonies.count(claimant, reply, db)
    const { row, claim_token } = newRegistration('service_auth', address)
    const ceremony = ceremonies.mint(claimant, address)
    const { claim_expires_at } = await insert({ ...row, first: { attempt: ceremony.attempt } })
    return {
      ...pendingAnswer(row, claim_token, claim_expires_at, allScopes),
      claim: ceremony.block,
    }
  }

  async function registerWithAssertion(idJag: string, reply: FastifyReply) {
    const verified = await app.verifyIdJag(idJag, reply)
    const presented =
      (await acceptIfSettled(verified, reply.request.address)) ??
      (await app.transaction((tx) => present(tx, verified, reply)))
    if (presented instanceof OAuthError) throw presented
    return {
      registration_id: presented.id,
      registration_type: 'identity_assertion',
      ...keys.identityAssertion(presented),
      scopes: grantableScopes(allScopes, presented.scopes),
    }
  }

  /** Nearly every assertion is from an agent that was here an hour ago, and changes nothing. */
  async function acceptIfSettled(
    { issuer: { issuer }, person, ...idJag }: VerifiedIdJag,
    address: string,
  ) {
    return person.ok ? await accept({ ...idJag, issuer, address }) : undefined
  }

  /**
   * Returns a refusal, or a step-up, instead of throwing it: the transaction has to commit, so that the assertion stays
   * spent. Only the 429 of `ceremonies.count` is thrown, and undoes all of it.
   */
  async function present(
    tx: DatabaseTransaction,
    verified: VerifiedIdJag,
    reply: FastifyReply,
  ): Promise<Bound | OAuthError> {
    const { address } = reply.request
    const replayed = await app.spendIdJag(tx, verified)
    if (replayed) return replayed
    const resolution = await app.resolveIdJag(tx, verified, address)
    if (resolution instanceof OAuthError) return resolution
    const { subject, audience, scopes } = verified
    const { issuer } = verified.issuer
    const { row, claim_token } = newRegistration('identity_assertion', address)
    const { registration_type, claim_token_hash, claim_window_seconds, ...created } = row
    const subjectRow = { ...created, issuer, subject, audience, scopes }
    if (resolution.kind === 'clean') {
      const { user_id } = resolution
      return await bindSubject(tx, { ...subjectRow, user_id })
    }
    // Before anything changes: a waiting registration whose ceremony may not be renewed keeps its claim token.
    const waiting = await findSubjectRegistration(tx, subjectRow)
    const tooMany = waiting ? await ceremonies.refusal(tx, waiting) : undefined
    if (tooMany) return tooMany
    const { id, claim_expires_at } = await awaitStepUp(tx, {
      ...subjectRow,
      claim_token_hash,
      claim_window_seconds,
    })
    // While the registration is locked, as in a renewal: in the other order the two would deadlock.
    await ceremonies.count(resolution.claimant, reply, tx)
    const ceremony = ceremonies.mint(resolution.claimant, address)
    await startAttempt(tx, id, ceremony.attempt)
    const granted = grantableScopes(allScopes, scopes)
    const answer = pendingAnswer({ id, registration_type }, claim_token, claim_expires_at, granted)
    return interactionRequired({ ...answer, claim: ceremony.block })
  }

  function newRegistration<Type extends Registration['registration_type']>(
    registration_type: Type,
    address: string,
  ) {
    const claim_token = newSecret('clm_')
    const row = {
      id: newSortedId('reg_', new Date()),
      registration_type,
      claim_token_hash: hashSecret(claim_token),
      claim_window_seconds: config.CLAIM_WINDOW_SECONDS,
      created_from: address,
    }
    return { row, claim_token }
  }

  function pendingAnswer(
    { id, registration_type }: Pick<Registration, 'id' | 'registration_type'>,
    claim_token: string,
    claim_expires_at: Date,
    post_claim_scopes: string[],
  ) {
    return {
      registration_id: id,
      registration_type,
      claim_url: `${config.ISSUER}/agent/identity/claim`,
      claim_token,
      claim_token_expires: claim_expires_at.toISOString(),
      post_claim_scopes,
    }
  }
}
export default plugin
