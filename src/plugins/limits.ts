/** Rate limits per hour, counted in Postgres for all replicas together (HTTP-01, HTTP-02, RFC 6585 §4). */
import type { FastifyReply } from 'fastify'
import fp from 'fastify-plugin'
import { HOUR_SECONDS, LIMIT_NAMES, policyOf, rateLimitHeaders } from '../domain/limits.js'
import type { LimitName, Standing } from '../domain/limits.js'
import { countedNetwork } from '../domain/network.js'
import { isDatabaseAway } from '../database-away.js'
import { rateLimited } from '../errors.js'
import { lookAtLimit, takeFromLimit } from '../repositories/rate-limits.js'
import type { Database } from '../repositories/tables.js'

declare module 'fastify' {
  interface FastifyReply {
    /**
     * Counts one more, or throws 429. `_per_ip` limits count by the request's network, others by `key`. If `db` is a
     * transaction, its rollback undoes the count.
     */
    limit(name: LimitName, of?: { key?: string; db: Database }): Promise<void>
    /** Throws 429 where `limit` would, but counts nothing: for before work of which only failures count. */
    requireBudget(name: LimitName): Promise<void>
  }
}

/**
 * Without the counts, requests under these limits pass, so that agents can register. The limits that stand between
 * guessers and secrets do not give way.
 */
const FAIL_OPEN = new Set<LimitName>([
  'anonymous_per_ip',
  'anonymous',
  'identity_assertion_per_ip',
  'identity_assertion',
  'service_auth_per_ip',
  'service_auth',
])

export default fp(
  async (app) => {
    /** The replies to requests that have waited for the counts in vain, and do not wait again. */
    const uncounted = new WeakSet<FastifyReply>()

    const { config, db } = app
    const limit = (name: LimitName) => ({ name, quota: config.rateLimits[name] })
    // Otherwise those who come at the same moment would wait for each other: one row counts for all.
    const take = batchedByName(takeFromLimit)
    const look = batchedByName(lookAtLimit)

    function batchedByName(ask: typeof takeFromLimit) {
      const entries = LIMIT_NAMES.map((name) => [
        name,
        app.batched((keys: string[]) => ask(db, limit(name), keys)),
      ])
      return Object.fromEntries(entries) as Record<LimitName, (key: string) => Promise<Standing>>
    }

    app.decorateReply('limit', async function (this: FastifyReply, name, of) {
      const within = of && of.db !== db ? of.db : undefined
      await hold(this, name, of?.key, async (key) =>
        within ? (await takeFromLimit(within, limit(name), [key]))[0]! : take[name](key),
      )
    })
    app.decorateReply('requireBudget', async function (this: FastifyReply, name) {
      await hold(this, name, undefined, look[name])
    })

    async function hold(
      reply: FastifyReply,
      name: LimitName,
      given: string | undefined,
      ask: (key: string) => Promise<Standing>,
    ): Promise<void> {
      const { quota } = limit(name)
      const open = FAIL_OPEN.has(name)
      if (quota === 0 || (open && uncounted.has(reply))) return
      const own = name.endsWith('_per_ip')
      const key = own ? countedNetwork(reply.request.address) : (given ?? '')
      const standing = await ask(key).catch((error: unknown) => {
        if (!open || !isDatabaseAway(error)) throw error
        uncounted.add(reply)
        reply.request.log.warn({ err: error, limit: name }, 'could not count, and let it pass')
        return undefined
      })
      if (!standing) return
      const headers = rateLimitHeaders(policyOf(name), { quota, window: HOUR_SECONDS }, standing)
      if (!standing.ok) throw rateLimited(name, headers, standing.seconds)
      // Shared limits are not reported: how often others came is not for everybody to know.
      if (own) reply.headers(headers)
    }
  },
  { name: 'limits', dependencies: ['http', 'database'] },
)
