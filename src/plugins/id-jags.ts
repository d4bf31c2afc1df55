/** ID-JAGs: verified in the order of PROTOCOL §5, spent, and resolved to a user. */
import fp from 'fastify-plugin'
import { hinted, pinned, type Claimant } from '../domain/ceremony.js'
import * as idJags from '../domain/id-jag.js'
import type { Issuer } from '../domain/issuer.js'
import { parseJwt } from '../domain/jwt.js'
import { newId } from '../domain/secrets.js'
import { badRequest, invalidRequest, OAuthError, providerAway, refusalFor } from '../errors.js'
import { recordAudit } from '../repositories/audit-events.js'
import { findDelegation, putDelegation } from '../repositories/delegations.js'
import { spendAssertion } from '../repositories/spent-assertions.js'
import type { DatabaseTransaction } from '../repositories/tables.js'
import { findUserByContact, insertUser, lockEmail } from '../repositories/users.js'

declare module 'fastify' {
  interface FastifyInstance {
    /**
     * Checks everything that can be checked without spending the assertion. Throws the error for the caller, which may
     * be a 429.
     */
    verifyIdJag(assertion: string, reply: Pick<FastifyReply, 'limit'>): Promise<VerifiedIdJag>
    /**
     * Locks the subject and spends the assertion. Refusals are returned here and below, not thrown: the transaction has
     * to commit, so that the assertion stays spent.
     */
    spendIdJag(tx: DatabaseTransaction, verified: VerifiedIdJag): Promise<OAuthError | undefined>
    /** Finds the user of a spent assertion, or creates one. */
    resolveIdJag(
      tx: DatabaseTransaction,
      verified: VerifiedIdJag,
      address: string,
    ): Promise<Resolution>
  }
}

export interface VerifiedIdJag extends idJags.IdJag {
  issuer: Issuer
  /** If it is refused for what it lacks, then only once it is spent. */
  person: ReturnType<typeof idJags.checkVouched>
}

/** The user that the assertion is clearly for, or who has to confirm, or why it is refused. */
type Resolution =
  { kind: 'clean'; user_id: string } | { kind: 'confirm'; claimant: Claimant } | OAuthError

const refusal = (error: string, description: string) => () => badRequest(error, description)

const REFUSALS: Record<idJags.IdJagReason, () => OAuthError> = {
  wrong_type: refusal('invalid_request', 'The assertion is not an ID-JAG: its typ is another.'),
  wrong_issuer: refusal('invalid_issuer', 'The assertion is from another issuer.'),
  wrong_audience: refusal(
    'invalid_audience',
    'aud must be one value: this issuer or its resource.',
  ),
  bad_subject: refusal(
    'invalid_request',
    'sub (with tenant, where this issuer has tenants) is missing or unusable.',
  ),
  bad_jti: refusal('invalid_request', 'jti is missing or unusable.'),
  bad_times: refusal('invalid_request', 'exp and iat must be numbers.'),
  lives_too_long: refusal('invalid_request', 'The assertion may live 10 minutes at most.'),
  not_yet_valid: refusal('invalid_request', 'The assertion is from the future.'),
  expired: refusal('expired', 'The assertion has expired.'),
  wrong_client: refusal(
    'invalid_client_id',
    'client_id is not one that is registered for this issuer.',
  ),
  wrong_resource: refusal('invalid_request', 'resource names something that is not served here.'),
  bad_scope: refusal('invalid_request', 'scope must be a string with at least one scope of ours.'),
  unsupported_authorization_details: refusal(
    'invalid_request',
    'authorization_details is not supported.',
  ),
  sender_constrained: refusal(
    'invalid_request',
    'Assertions that are bound to a key (cnf) are not supported.',
  ),
}

export default fp(
  async (app) => {
    const { config } = app
    const settings: idJags.IdJagSettings = {
      issuer: config.ISSUER,
      resource: config.RESOURCE,
      scopes: Object.keys(config.SCOPES),
      skewSeconds: config.CLOCK_SKEW_SECONDS,
    }
    const maxAge = config.ID_JAG_MAX_AUTH_AGE_SECONDS
    const freshness = { maxAuthAgeSeconds: maxAge, skewSeconds: config.CLOCK_SKEW_SECONDS }

    app.decorate('verifyIdJag', async (assertion, reply) => {
      const jwt = parseJwt(assertion)
      if (!jwt) throw invalidRequest('The assertion is not a JWT in compact form.')
      const issuer = await trustedIssuer(jwt.payload.iss)
      await reply.limit('identity_assertion_per_ip')
      const badSignature = await app.checkSignature(assertion, jwt, issuer)
      if (badSignature === 'keys_unavailable') throw providerAway()
      if (badSignature)
        throw badRequest('invalid_signature', 'The signature does not hold.', badSignature)
      const checked = idJags.checkIdJag(jwt, issuer, settings, new Date())
      if (!checked.ok) throw refusalFor(REFUSALS, checked.reason)
      // Not earlier: the quota is everybody's, and anybody can write a trusted issuer's name into an unsigned
      // assertion.
      await reply.limit('identity_assertion')
      const person = idJags.checkVouched(jwt, issuer, freshness, new Date())
      return { ...checked.idJag, issuer, person }
    })

    app.decorate('spendIdJag', async (tx, { issuer: { issuer }, subject, jti, exp }) => {
      const spent = await spendAssertion(tx, 'id-jag', { issuer, subject, jti, exp })
      return spent ? undefined : badRequest('replay_detected', 'This assertion was used before.')
    })

    app.decorate('resolveIdJag', async (tx, verified, address): Promise<Resolution> => {
      const { person, subject } = verified
      const { issuer } = verified.issuer
      if (!person.ok) return vouchedRefusal(person.reason)
      const { vouched } = person
      const delegation = await findDelegation(tx, { issuer, subject })
      if (delegation && !delegation.set_aside_at)
        return { kind: 'clean', user_id: delegation.user_id }
      if (delegation) return { kind: 'confirm', claimant: pinned(delegation.user_id) }
      const matched = await findUserByContact(tx, vouched)
      if (matched) return { kind: 'confirm', claimant: pinned(matched) }
      return await firstContact(tx, { issuer, subject }, vouched, address)
    })

    async function trustedIssuer(iss: unknown): Promise<Issuer> {
      const listed = await app.listedIssuer(iss)
      if (!listed || listed.disabled_at || listed.removed_at)
        throw badRequest('invalid_issuer', 'The issuer of the assertion is not trusted here.')
      return listed
    }

    function vouchedRefusal(reason: idJags.VouchedReason): OAuthError {
      switch (reason) {
        case 'nothing_verified':
          return badRequest(
            'missing_verified_email',
            'The assertion vouches for no address or number that we may take from this issuer.',
          )
        case 'login_required':
          return new OAuthError(
            401,
            'login_required',
            'The person has to sign in at the provider again.',
            { 'www-authenticate': `AgentAuth error="login_required", max_age="${maxAge}"` },
            { max_age: maxAge },
          )
      }
    }

    /** Nobody here has that address or number: the operator decides what providers may do for strangers. */
    async function firstContact(
      tx: DatabaseTransaction,
      subject: { issuer: string; subject: string },
      vouched: idJags.Vouched,
      address: string,
    ): Promise<Resolution> {
      switch (config.IDENTITY_ASSERTION_FIRST_CONTACT) {
        case 'refuse':
          return new OAuthError(
            403,
            'access_denied',
            'Only people who have an account here may use agents.',
          )
        case 'confirm':
          if (vouched.email === null) return vouchedRefusal('nothing_verified')
          return { kind: 'confirm', claimant: hinted({ kind: 'email', value: vouched.email }) }
        case 'provision': {
          const user_id = newId('user_')
          if (vouched.email !== null) await lockEmail(tx, vouched.email)
          // Another provider vouched for the same address or number at this moment, and was first. If only the number
          // is taken, by somebody who can never confirm, the next try takes it over.
          while (!(await insertUser(tx, user_id, vouched))) {
            const matched = await findUserByContact(tx, vouched)
            if (matched) return { kind: 'confirm', claimant: pinned(matched) }
          }
          await recordAudit(tx, {
            event: 'user.created',
            user_id,
            address,
            details: { issuer: subject.issuer },
          })
          await putDelegation(tx, subject, user_id, address)
          return { kind: 'clean', user_id }
        }
      }
    }
  },
  { name: 'id-jags', dependencies: ['database', 'limits', 'providers'] },
)
