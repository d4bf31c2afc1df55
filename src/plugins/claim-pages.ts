/** What the claim page shows: the form that asks for the code, or why there is none (PROTOCOL §7). */
import type { FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { claimPath } from '../domain/ceremony.js'
import { accessEnd, accessSeconds, type PageReason, type Person } from '../domain/claim.js'
import { maskEmail } from '../domain/login-hint.js'
import { areNeighbours } from '../domain/network.js'
import { grantableScopes } from '../domain/scope.js'
import { agentKind, duration, host, when } from '../domain/words.js'
import type { LoadedClaim } from '../repositories/claim-links.js'
import { knowsProvider } from '../repositories/delegations.js'
import { hasLinkedAgent } from '../repositories/users.js'

declare module 'fastify' {
  interface FastifyReply {
    /**
     * The page that asks for the code. `again`: why it asks once more, in a word for the log and a sentence for the
     * person.
     */
    claimForm(
      person: Person,
      token: string,
      claim: LoadedClaim,
      again?: { reason: string; error: string },
    ): Promise<string>
    /** The page without a form, which says why. `claim` is undefined when the link leads to nothing. */
    claimRefusal(
      person: Person,
      token: string,
      reason: PageReason,
      claim: LoadedClaim | undefined,
    ): Promise<string>
  }
}

export default fp(
  async (app) => {
    const { config, db } = app

    app.decorateReply(
      'claimForm',
      async function (this: FastifyReply, person, token, claim, again) {
        const { attempt, provider, now } = claim
        if (again) noteReason(this.request, again.reason)
        return await this.page('claim', {
          person,
          token,
          error: again?.error,
          return_to: claimPath(token),
          agent: inWords(claim),
          asked: {
            ...when(attempt.requested_at, now),
            from: attempt.requested_from ?? 'an unknown address',
          },
          other_network: areNeighbours(attempt.requested_from, this.request.address) === false,
          first_time_account: !(await hasLinkedAgent(db, person.user_id)),
          first_time_provider:
            provider && !(await knowsProvider(db, person.user_id, provider.issuer)),
        })
      },
    )

    app.decorateReply(
      'claimRefusal',
      async function (this: FastifyReply, person, token, reason, claim) {
        if (!claim) await this.limit('unknown_links_per_ip')
        noteReason(this.request, reason)
        const hinted =
          reason === 'wrong_account' && claim?.expected_email
            ? maskEmail(claim.expected_email)
            : undefined
        const told = reason === 'already_done' || reason === 'declined'
        const agent = told && claim ? inWords(claim) : undefined
        const end = reason === 'already_done' && claim && accessEnd(claim.registration, config)
        const over = end && end <= claim.now
        const return_to = claimPath(token)
        return await this.page('claim-over', { person, reason, hinted, agent, over, return_to })
      },
    )

    function inWords({ registration, provider }: LoadedClaim) {
      const offered = Object.keys(config.SCOPES)
      const granted = grantableScopes(offered, registration.scopes)
      return {
        kind: agentKind(registration.registration_type),
        provider: provider && { name: provider.name, host: host(provider.issuer) },
        scopes: granted.map((name) => ({ name, words: config.SCOPES[name] })),
        // The provider's next assertion may carry more scopes.
        narrowed: granted.length < offered.length,
        lifetime: duration(accessSeconds(config)),
      }
    }
  },
  { name: 'claim-pages', dependencies: ['pages', 'database', 'limits'] },
)

function noteReason(request: FastifyRequest, reason: string): void {
  request.refusal = { error: 'claim_refused', reason, description: 'The claim page refused.' }
}
