/** Mints ceremonies and checks their codes, with the keys that only this process and its peers hold. */
import fp from 'fastify-plugin'
import { mintCeremony, type Claimant } from '../domain/ceremony.js'
import { deriveKey, userCodeMatches } from '../domain/secrets.js'

declare module 'fastify' {
  interface FastifyInstance {
    ceremonies: {
      mint(claimant: Claimant, address: string): ReturnType<typeof mintCeremony>
      codeMatches(mac: Buffer, attemptId: string, code: string): boolean
    }
  }
}

export default fp(
  async (app) => {
    const { config } = app
    const codeKeys = config.secrets.map((secret) => deriveKey(secret, 'user-code'))
    const settings = {
      issuer: config.ISSUER,
      lifetimeSeconds: config.USER_CODE_TTL_SECONDS,
      intervalSeconds: config.POLL_INTERVAL_SECONDS,
      codeKey: codeKeys[0]!,
    }
    app.decorate('ceremonies', {
      mint: (claimant, address) => mintCeremony(settings, claimant, address),
      codeMatches: (mac, attemptId, code) => userCodeMatches(codeKeys, mac, attemptId, code),
    })
  },
  { name: 'ceremonies' },
)
