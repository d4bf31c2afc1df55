/**
 * Mints ceremonies, unless there were too many wrong codes, and checks codes, with keys that only this process and its
 * peers hold.
 */
import fp from 'fastify-plugin'
import { mintCeremony, type Claimant } from '../domain/ceremony.js'
import { WRONG_CODES_PER_DAY } from '../domain/claim.js'
import { wrongCodeHeaders } from '../domain/limits.js'
import { deriveKey, userCodeMatches } from '../domain/secrets.js'
import { tooManyCodes, type OAuthError } from '../errors.js'
import { secondsUntilNextCeremony } from '../repositories/claim-attempts.js'
import type { Database, DatabaseTransaction } from '../repositories/tables.js'

declare module 'fastify' {
  interface FastifyInstance {
    ceremonies: {
      /**
       * Counts one more ceremony for the hinted address, if there is one; throws 429 at the limit. A rollback undoes
       * the count.
       */
      count(claimant: Claimant, reply: Pick<FastifyReply, 'limit'>, db: Database): Promise<void>
      /** `seconds`: what is left of the claim window, after which no link and no code works; default: all of it. */
      mint(claimant: Claimant, address: string, seconds?: number): ReturnType<typeof mintCeremony>
      codeMatches(mac: Buffer, attemptId: string, code: string): boolean
      /**
       * The 429 for a registration that may not have another ceremony now, if it is so. The registration must be
       * locked.
       */
      refusal(tx: DatabaseTransaction, registrationId: string): Promise<OAuthError | undefined>
    }
  }
}

export default fp(
  async (app) => {
    const { config } = app
    const codeKeys = config.secrets.map((secret) => deriveKey(secret, 'user-code'))
    const settings = {
      issuer: config.ISSUER,
      intervalSeconds: config.POLL_INTERVAL_SECONDS,
      codeKey: codeKeys[0]!,
    }
    app.decorate('ceremonies', {
      count: async ({ login_hint }, reply, db) => {
        if (login_hint !== null) await reply.limit('ceremonies_per_hint', { key: login_hint, db })
      },
      mint: (claimant, address, seconds = config.CLAIM_WINDOW_SECONDS) => {
        const lifetimeSeconds = Math.min(config.USER_CODE_TTL_SECONDS, seconds)
        return mintCeremony({ ...settings, lifetimeSeconds }, claimant, address, new Date())
      },
      codeMatches: (mac, attemptId, code) => userCodeMatches(codeKeys, mac, attemptId, code),
      refusal: async (tx, registrationId) => {
        const seconds = await secondsUntilNextCeremony(tx, registrationId, WRONG_CODES_PER_DAY)
        return seconds === undefined ? undefined : tooManyCodes(wrongCodeHeaders(seconds))
      },
    })
  },
  { name: 'ceremonies' },
)
