/** The page "Your agents": what a person has allowed, what became of it, and how to end it. */
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { Static } from '@sinclair/typebox'
import { accessEnd, usedSince, type Person } from '../domain/claim.js'
import { loginPath } from '../domain/return-to.js'
import { grantableScopes } from '../domain/scope.js'
import { agentEvent, agentKind, host, moment, when } from '../domain/words.js'
import { OAuthError } from '../errors.js'
import {
  listHistory,
  listLinkedAgents,
  revokeRegistration,
  type LinkedAgent,
} from '../repositories/agents.js'
import { lockSubject, removeDelegation, subjectOf } from '../repositories/delegations.js'
import { AgentLink, AgentsLink, RevokeAgentsBody } from '../schemas/pages.js'

const MOST_AGENTS = 200
const MOST_EVENTS = 100
const BY_PERSON = { reason: 'revoked by the user' }

const plugin: FastifyPluginAsyncTypebox = async (app) => {
  const { config, db } = app

  /** The same answer for an unknown id and for another person's. */
  const noSuchAgent = () => new OAuthError(404, 'not_found', 'There is no such agent.')

  app.get('/agents', { schema: { querystring: AgentsLink } }, async (request, reply) => {
    const person = await request.person()
    if (!person) return reply.seeOther(loginPath('/agents'))
    const now = new Date()
    const lookUp = { usedSince: usedSince(config, now), limit: MOST_AGENTS }
    const linked = await listLinkedAgents(db, person.user_id, lookUp)
    const agents = linked.map((agent) => inWords(agent, now))
    const live = agents.filter(({ ended }) => !ended)
    return await reply.page('agents', {
      person,
      notice: await notice(person, request.query.ended, live.length > 0, now),
      more: agents.length === MOST_AGENTS,
      live,
      ended: agents.filter(({ ended }) => ended),
    })
  })

  app.get('/agents/history', { schema: { querystring: AgentLink } }, async (request, reply) => {
    const person = await request.person()
    if (!person) return reply.seeOther(loginPath('/agents'))
    const { registration_id: id } = request.query
    const [agent] = await listLinkedAgents(db, person.user_id, { id, limit: 1 })
    if (!agent) throw noSuchAgent()
    const events = (await listHistory(db, id, person.user_id, MOST_EVENTS)).map(
      ({ event, issuer, occurred_at, address }) => {
        return { what: agentEvent(event, issuer), at: moment(occurred_at), address }
      },
    )
    const more = events.length === MOST_EVENTS
    return await reply.page('agent', { agent: inWords(agent, new Date()), events, more })
  })

  app.post(
    '/agents/revoke',
    {
      schema: { body: RevokeAgentsBody },
      preHandler: [
        async (request, reply) => {
          const { registration_id } = request.body as Static<typeof RevokeAgentsBody>
          // After signing in again, the person is told that nothing was revoked.
          if (!(await request.person()))
            return reply.seeOther(loginPath(`/agents?ended=${registration_id ?? 'all'}`))
        },
        app.csrfProtection,
      ],
    },
    async (request, reply) => {
      const person = (await request.person())!
      const { registration_id: id } = request.body
      if (id === undefined) {
        await revokeAll(person, request.address)
        return reply.seeOther('/agents?ended=all')
      }
      const [agent] = await listLinkedAgents(db, person.user_id, { id, limit: 1 })
      if (!agent) throw noSuchAgent()
      await revoke(agent, person, request.address)
      return reply.seeOther(`/agents?ended=${id}`)
    },
  )

  /** Reports the actual state, not what the address says: a made-up `ended` reveals nothing and claims nothing. */
  async function notice(
    { user_id }: Person,
    ended: string | undefined,
    anyLive: boolean,
    now: Date,
  ) {
    if (ended === undefined) return undefined
    if (ended === 'all')
      return anyLive
        ? 'Not done yet: not all your agents were revoked. If you still want that, press Revoke.'
        : 'Done: no agent acts for you any more.'
    const [agent] = await listLinkedAgents(db, user_id, { id: ended, limit: 1 })
    if (!agent) return undefined
    const { provider, linked, from, ended: end } = inWords(agent, now)
    const which = `${provider ? `of \u2068${provider.name}\u2069 linked` : 'linked with a code'} ${linked.ago}, asked from ${from},`
    if (end) return `Done: the agent ${which} can do nothing any more.`
    return `Not done yet: the agent ${which} was not revoked. If you still want that, press Revoke.`
  }

  /** One by one: each is ended on its own, whatever becomes of the rest. */
  async function revokeAll(person: Person, address: string): Promise<void> {
    const next = () => listLinkedAgents(db, person.user_id, { live: true, limit: 1 })
    for (let [agent] = await next(); agent; [agent] = await next())
      await revoke(agent, person, address)
  }

  /**
   * Ends the agent, and its provider's delegation, or the provider's next assertion would bring it back. Other agents
   * go on.
   */
  async function revoke(agent: LinkedAgent, { user_id }: Person, address: string): Promise<void> {
    const { id } = agent
    await app.transaction(async (tx) => {
      const of = subjectOf(agent)
      if (of) {
        await lockSubject(tx, of)
        // Looked up again: the subject may have become another user's since.
        const [still] = await listLinkedAgents(tx, user_id, { id, live: true, limit: 1 })
        if (still) await removeDelegation(tx, of, { address, details: BY_PERSON }, user_id)
      }
      await revokeRegistration(tx, id, { user_id, address, details: BY_PERSON })
    })
  }

  function inWords(agent: LinkedAgent, now: Date) {
    const { id, provider_name, issuer, set_aside_at } = agent
    const end = agent.revoked_at ?? accessEnd(agent, config)
    const granted = grantableScopes(Object.keys(config.SCOPES), agent.scopes)
    return {
      id,
      kind: agentKind(agent.registration_type),
      provider: provider_name === null ? undefined : { name: provider_name, host: host(issuer!) },
      scopes: granted.map((scope) => config.SCOPES[scope]),
      linked: when(agent.claimed_at, now),
      used: agent.last_token_at ? when(agent.last_token_at, now) : undefined,
      from: agent.asked_from ?? 'an unknown address',
      ended: end && end <= now ? when(end, now) : undefined,
      set_aside: set_aside_at !== null,
      link_set_aside: agent.link_set_aside,
      refused_provider: !agent.issuer_active,
    }
  }
}
export default plugin
