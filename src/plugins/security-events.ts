/**
 * Security events of providers: verified, applied and remembered in one transaction, before the provider gets its
 * answer.
 */
import fp from 'fastify-plugin'
import {
  checkLogoutToken,
  checkSecurityEvent,
  type EventReason,
  type SecurityEvent,
} from '../domain/security-event.js'
import type { Issuer } from '../domain/issuer.js'
import { parseJwt } from '../domain/jwt.js'
import { providerAway } from '../errors.js'
import { recordAudit } from '../repositories/audit-events.js'
import { revokeSubject } from '../repositories/delegations.js'
import { listIssuers } from '../repositories/issuers.js'
import { spendAssertion } from '../repositories/spent-assertions.js'

export type EventRefusal = 'unreadable' | 'unknown_issuer' | 'unknown_key' | 'bad_signature'

type Received = { ok: true } | { ok: false; reason: EventRefusal | EventReason }

declare module 'fastify' {
  interface FastifyInstance {
    /** Takes effect once, however often the event is delivered; resolves with `ok` only after the commit. */
    receiveEvent(kind: keyof typeof CHECKS, token: string, address: string): Promise<Received>
  }
}

const CHECKS = { secevent: checkSecurityEvent, logout: checkLogoutToken }

export default fp(
  async (app) => {
    const { config, db } = app
    const settings = { issuer: config.ISSUER, skewSeconds: config.CLOCK_SKEW_SECONDS }

    app.decorate('receiveEvent', async (kind, token, address): Promise<Received> => {
      const jwt = parseJwt(token)
      if (!jwt) return { ok: false, reason: 'unreadable' }
      const { iss } = jwt.payload
      // A provider that has been taken off the list may still say that its word no longer counts.
      const listed = await app.listedIssuer(iss)
      if (!listed) return { ok: false, reason: 'unknown_issuer' }
      const badSignature = await app.checkSignature(token, jwt, listed)
      if (badSignature === 'keys_unavailable') throw providerAway()
      if (badSignature === 'unknown_key' && !(await isKeyOfAnother(jwt.header.kid, listed)))
        return { ok: false, reason: 'unknown_key' }
      if (badSignature) return { ok: false, reason: 'bad_signature' }
      const checked = CHECKS[kind](jwt, listed, settings, new Date())
      if (!checked.ok) return checked
      await apply(kind, listed.issuer, checked.event, address)
      return { ok: true }
    })

    async function apply(
      kind: keyof typeof CHECKS,
      issuer: string,
      { subject, jti, revoked }: SecurityEvent,
      address: string,
    ): Promise<void> {
      await app.transaction(async (tx) => {
        if (!(await spendAssertion(tx, kind, { issuer, subject, jti }))) return
        const details = { issuer, jti, kind }
        await recordAudit(tx, { event: 'event.received', address, details })
        if (revoked) await revokeSubject(tx, { issuer, subject }, { address, details })
      })
    }

    /** A token of one provider under the key of another is a forgery, not a case of an unknown key (RFC 8935 §2.4). */
    async function isKeyOfAnother(kid: unknown, { issuer }: Issuer): Promise<boolean> {
      if (typeof kid !== 'string') return false
      const others = (await listIssuers(db)).filter((entry) => entry.issuer !== issuer)
      // Only among keys fetched before: an unsigned token must not make us call other providers.
      return others.some((entry) => app.hasKey(entry, kid))
    }
  },
  { name: 'security-events', dependencies: ['database', 'providers'] },
)
