/** Your agents: what a person allowed, what became of it, and the end of it. */
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { Person } from '../domain/claim.js'
import { grantableScopes } from '../domain/scope.js'
import { agentEvent, moment } from '../domain/words.js'
import { OAuthError } from '../errors.js'
import {
  listHistory,
  listLinkedAgents,
  revokeRegistration,
  type LinkedAgent,
} from '../repositories/agents.js'
import { lockSubject, revokeSubject } from '../repositories/delegations.js'
import { AgentLink, RevokeAgentsBody } from '../schemas/pages.js'

const MOST_AGENTS = 200
const MOST_EVENTS = 100
const BY_PERSON = { reason: 'revoked by the user' }

const plugin: FastifyPluginAsyncTypebox = async (app) => {
  const { config, db } = app

  /** The same words for an id that is unknown and one that is another's. */
  const noSuchAgent = () => new OAuthError(404, 'not_found', 'There is no such agent.')

  app.get('/agents', async (request, reply) => {
    const person = await request.person()
    if (!person) return reply.seeOther(`/login?return_to=${encodeURIComponent('/agents')}`)
    const agents = (await listLinkedAgents(db, person.user_id, { limit: MOST_AGENTS })).map(inWords)
    return await reply.page('agents', {
      person,
      live: agents.filter(({ ended }) => !ended),
      ended: agents.filter(({ ended }) => ended),
    })
  })

  app.get('/agents/history', { schema: { querystring: AgentLink } }, async (request, reply) => {
    const person = await request.person()
    if (!person) return reply.seeOther(`/login?return_to=${encodeURIComponent('/agents')}`)
    const { registration_id: id } = request.query
    const [agent] = await listLinkedAgents(db, person.user_id, { id, limit: 1 })
    if (!agent) throw noSuchAgent()
    const events = (await listHistory(db, id, person.user_id, MOST_EVENTS)).map(
      ({ event, occurred_at, address }) => {
        return { what: agentEvent(event), at: moment(occurred_at), address }
      },
    )
    return await reply.page('agent', { person, agent: inWords(agent), events })
  })

  app.post(
    '/agents/revoke',
    {
      schema: { body: RevokeAgentsBody },
      preHandler: [
        async (request, reply) => {
          if (!(await request.person()))
            return reply.seeOther(`/login?return_to=${encodeURIComponent('/agents')}`)
        },
        app.csrfProtection,
      ],
    },
    async (request, reply) => {
      const person = (await request.person())!
      const { registration_id: id } = request.body
      if (id === undefined) {
        await revokeAll(person, request.address)
        return reply.seeOther('/agents')
      }
      const [agent] = await listLinkedAgents(db, person.user_id, { id, limit: 1 })
      if (!agent) throw noSuchAgent()
      await revoke(agent, person, request.address)
      return reply.seeOther('/agents')
    },
  )

  /** One by one: of very many each is ended on its own, whatever becomes of the rest. */
  async function revokeAll(person: Person, address: string): Promise<void> {
    const next = () => listLinkedAgents(db, person.user_id, { live: true, limit: 1 })
    for (let [agent] = await next(); agent; [agent] = await next())
      await revoke(agent, person, address)
  }

  /** With its provider's delegation: otherwise the provider's next assertion would bring the agent back. */
  async function revoke(
    { id, issuer, subject }: LinkedAgent,
    { user_id }: Person,
    address: string,
  ): Promise<void> {
    await db.transaction().execute(async (tx) => {
      const of = issuer && subject ? { issuer, subject } : undefined
      if (of) {
        await lockSubject(tx, of)
        await revokeSubject(tx, of, { address, details: BY_PERSON })
      }
      await revokeRegistration(tx, id, { user_id, address, details: BY_PERSON })
    })
  }

  function inWords(agent: LinkedAgent) {
    const { id, registration_type: kind, provider_name, issuer, revoked_at, set_aside_at } = agent
    const granted = grantableScopes(Object.keys(config.SCOPES), agent.scopes)
    return {
      id,
      kind,
      provider: provider_name === null ? undefined : { name: provider_name, issuer },
      scopes: granted.map((scope) => config.SCOPES[scope]),
      linked: moment(agent.claimed_at),
      used: agent.last_token_at ? moment(agent.last_token_at) : undefined,
      ended: revoked_at ? moment(revoked_at) : undefined,
      set_aside: set_aside_at !== null,
    }
  }
}
export default plugin
