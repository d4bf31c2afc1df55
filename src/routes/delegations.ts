/** Providers that spoke for a person before the person first signed in here: each waits for a yes or a no. */
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { Static } from '@sinclair/typebox'
import { loginPath, safeReturnTo } from '../domain/return-to.js'
import { host, moment } from '../domain/words.js'
import { invalidRequest } from '../errors.js'
import { lockSubject, revokeSubject } from '../repositories/delegations.js'
import { confirmDelegation, listSetAside } from '../repositories/set-aside.js'
import { DelegationBody } from '../schemas/pages.js'

const plugin: FastifyPluginAsyncTypebox = async (app) => {
  const { db } = app

  app.get('/delegations', async (request, reply) => {
    const return_to = safeReturnTo((request.query as Record<string, unknown>).return_to)
    const person = await request.person()
    if (!person?.fresh) return reply.seeOther(loginPath(return_to))
    const waiting = await listSetAside(db, person.user_id)
    if (waiting.length === 0) return reply.seeOther(return_to)
    return await reply.page('delegations', {
      person,
      return_to,
      waiting: waiting.map(({ issuer, subject, name, created_at }) => {
        return { issuer, host: host(issuer), subject, name, since: moment(created_at) }
      }),
    })
  })

  app.post(
    '/delegations',
    {
      schema: { body: DelegationBody },
      preHandler: [
        async (request, reply) => {
          const { return_to } = request.body as Static<typeof DelegationBody>
          if (!(await request.person())?.fresh)
            return reply.seeOther(loginPath(safeReturnTo(return_to)))
        },
        app.csrfProtection,
      ],
    },
    async (request, reply) => {
      const { issuer, subject, decision, return_to } = request.body
      const { user_id } = (await request.person())!
      // Postgres takes no NUL, not even in a query.
      if (`${issuer}${subject}`.includes('\0')) throw invalidRequest('No subject has such a name.')
      const { address } = request
      await app.transaction(async (tx) => {
        await lockSubject(tx, { issuer, subject })
        const waiting = await listSetAside(tx, user_id)
        const theirs = waiting.some((row) => row.issuer === issuer && row.subject === subject)
        if (!theirs) return
        if (decision === 'keep') await confirmDelegation(tx, { issuer, subject }, user_id, address)
        else
          await revokeSubject(
            tx,
            { issuer, subject },
            { address, details: { reason: 'refused by the user' } },
          )
      })
      const back = encodeURIComponent(safeReturnTo(return_to))
      return reply.seeOther(`/delegations?return_to=${back}`)
    },
  )
}
export default plugin
