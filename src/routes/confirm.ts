/** The claim page: a signed-in person confirms or declines an agent (PROTOCOL §7). */
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { Static } from '@sinclair/typebox'
import { claimPath } from '../domain/ceremony.js'
import {
  decidePage,
  normalizeUserCode,
  WRONG_CODES_PER_DAY,
  type PageReason,
  type Person,
} from '../domain/claim.js'
import { wrongCodeHeaders } from '../domain/limits.js'
import { loginPath } from '../domain/return-to.js'
import { hashSecret } from '../domain/secrets.js'
import { duration } from '../domain/words.js'
import { recordAudit } from '../repositories/audit-events.js'
import * as attempts from '../repositories/claim-attempts.js'
import { findClaimByLink, lockByLink, type LoadedClaim } from '../repositories/claim-links.js'
import { lockSubject, subjectOf } from '../repositories/delegations.js'
import { claimRegistration } from '../repositories/registrations.js'
import { confirmDelegation } from '../repositories/set-aside.js'
import type { DatabaseTransaction } from '../repositories/tables.js'
import { lockUser } from '../repositories/users.js'
import { ClaimLink, CompleteBody } from '../schemas/pages.js'

const STATUS: Record<PageReason, number> = {
  not_found: 404,
  wrong_account: 403,
  already_done: 200,
  declined: 410,
  too_many_codes: 410,
  link_expired: 410,
  registration_over: 410,
}

type Outcome =
  | { kind: 'settled' }
  | { kind: 'refused'; reason: PageReason; claim: LoadedClaim | undefined }
  | {
      kind: 'asked_again'
      status: number
      headers?: Record<string, string>
      reason: string
      error: string
      claim: LoadedClaim
    }

const plugin: FastifyPluginAsyncTypebox = async (app) => {
  const { config, db, ceremonies } = app
  const maxTries = config.USER_CODE_MAX_TRIES

  app.get('/claim', { schema: { querystring: ClaimLink } }, async (request, reply) => {
    const { claim_attempt_token: token = '' } = request.query
    const person = await request.person()
    if (!person?.fresh) return reply.seeOther(loginPath(claimPath(token)))
    const claim = await findClaimByLink(db, hashSecret(token))
    const decision = decidePage(claim, person, maxTries, claim?.now ?? new Date())
    if (decision.ok) {
      const today = await attempts.codesLeftToday(db, person.user_id, WRONG_CODES_PER_DAY)
      const again = today.left === 0 ? tooManyToday(today.seconds) : undefined
      return await reply.claimForm(person, token, decision.claim, again)
    }
    const { reason } = decision
    // The person's own Decline leads here: it is reported, not refused.
    reply.code(reason === 'declined' ? 200 : STATUS[reason])
    return await reply.claimRefusal(person, token, reason, claim)
  })

  app.post(
    '/agent/identity/claim/complete',
    {
      schema: { body: CompleteBody },
      preHandler: [
        async (request, reply) => {
          const { claim_attempt_token } = request.body as Static<typeof CompleteBody>
          if (!(await request.person())?.fresh)
            return reply.seeOther(loginPath(claimPath(claim_attempt_token)))
        },
        app.csrfProtection,
      ],
    },
    async (request, reply) => {
      const { body, address } = request
      const token = body.claim_attempt_token
      const person = (await request.person())!
      const outcome = await app.inTurn(person.user_id, () =>
        app.transaction((tx) => complete(tx, body, person, address)),
      )
      switch (outcome.kind) {
        case 'settled':
          return reply.seeOther(claimPath(token))
        case 'asked_again':
          reply.code(outcome.status).headers(outcome.headers ?? {})
          return await reply.claimForm(person, token, outcome.claim, outcome)
        case 'refused':
          reply.code(STATUS[outcome.reason])
          return await reply.claimRefusal(person, token, outcome.reason, outcome.claim)
      }
    },
  )

  /** Runs under the registration's lock: of two submissions at once the second sees what the first did. */
  async function complete(
    tx: DatabaseTransaction,
    body: Static<typeof CompleteBody>,
    person: Person,
    address: string,
  ): Promise<Outcome> {
    const tokenHash = hashSecret(body.claim_attempt_token)
    const seen = await findClaimByLink(tx, tokenHash)
    const subject = seen && subjectOf(seen.registration)
    if (subject) await lockSubject(tx, subject)
    await lockByLink(tx, tokenHash)
    const claim = await findClaimByLink(tx, tokenHash)
    const decision = decidePage(claim, person, maxTries, claim?.now ?? new Date())
    if (!decision.ok) return { kind: 'refused', reason: decision.reason, claim }
    const { attempt, registration } = decision.claim
    const asked = { kind: 'asked_again', claim: decision.claim } as const
    const of = { registration_id: registration.id, user_id: person.user_id, address }
    const { registration_type } = registration
    const details = { claim_attempt_id: attempt.id, registration_type }
    if (body.decision === 'decline') {
      await attempts.markAttempt(tx, attempt.id, 'declined_at')
      await recordAudit(tx, { event: 'claim.declined', ...of, details })
      return { kind: 'settled' }
    }
    const code = normalizeUserCode(body.user_code ?? '')
    if (!code)
      return {
        ...asked,
        status: 400,
        reason: 'no_code',
        error: 'Enter the six digits that your agent shows.',
      }
    // Under the account's lock: simultaneous tries, on whatever claims and replicas, come here one by one. The person
    // may have been deleted since the session was looked up.
    const present = await lockUser(tx, person.user_id)
    const today = await attempts.codesLeftToday(tx, person.user_id, WRONG_CODES_PER_DAY)
    if (today.left === 0) {
      const headers = wrongCodeHeaders(today.seconds)
      return { ...asked, status: 429, headers, ...tooManyToday(today.seconds) }
    }
    if (!ceremonies.codeMatches(attempt.user_code_mac, attempt.id, code)) {
      const tries_left = maxTries - (await attempts.countWrongCode(tx, attempt.id))
      await recordAudit(tx, {
        event: 'user_code.refused',
        ...of,
        details: { ...details, tries_left },
      })
      if (tries_left <= 0) return { kind: 'refused', reason: 'too_many_codes', claim }
      const left = Math.min(tries_left, today.left - 1)
      const tries = left === 0 ? 'No try is' : left === 1 ? 'One try is' : `${left} tries are`
      const error = `That is not the code. ${tries} left${left < tries_left ? ' today' : ''}.`
      return { ...asked, status: 422, reason: 'wrong_code', error }
    }
    const bound = present && (await claimRegistration(tx, registration.id, person.user_id))
    if (!bound) return { kind: 'refused', reason: 'registration_over', claim }
    await attempts.markAttempt(tx, attempt.id, 'confirmed_at')
    if (subject) await confirmDelegation(tx, subject, person.user_id, address)
    await recordAudit(tx, { event: 'claim.confirmed', ...of, details })
    return { kind: 'settled' }
  }
}

/** Shown above the form, on which Decline still works. */
function tooManyToday(seconds: number): { reason: string; error: string } {
  const wait = duration(Math.ceil(seconds / 3600) * 3600)
  return {
    reason: 'too_many_today',
    error: `Too many wrong codes were typed with your account; nothing was given. You can type another in ${wait}.`,
  }
}
export default plugin
