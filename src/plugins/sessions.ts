/**
 * Sign-in sessions: a random id in a cookie, its hash in Postgres, so that every replica sees the same sign-ins and
 * sign-outs. We do not use @fastify/session: it sets no Secure cookie unless the request looks like https to Fastify,
 * which it does neither on http://localhost nor behind a proxy that TRUST_PROXY leaves out, and it gives its store the
 * id unhashed.
 */
import type { FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { seal, unseal } from '../domain/sealing.js'
import { deriveKey, hashSecret, newSecret } from '../domain/secrets.js'
import { recordAudit } from '../repositories/audit-events.js'
import * as sessions from '../repositories/sessions.js'

declare module 'fastify' {
  interface FastifyRequest {
    /** The signed-in person, if any; looked up once for each request. */
    person(): Promise<sessions.SignedIn | undefined>
    sessionHash(): Buffer | undefined
    signedIn: Promise<sessions.SignedIn | undefined> | null
  }
  interface FastifyReply {
    /** Starts a session under a new id; the one before, if any, ends. `issuer`: where the person signed in. */
    startSession(userId: string, issuer: string, idToken?: string): Promise<void>
    /**
     * Ends this session, or all of the person's; returns where the person had signed in, or undefined if there was no
     * session.
     */
    endSession(
      everywhere: boolean,
    ): Promise<{ issuer: string | null; idToken?: string } | undefined>
  }
}

/** `__Host-`: no other host, not even a sibling, can set it (RFC 6265bis §4.1.3.2). */
const NAME = '__Host-registrar-session'
/**
 * Matches each cookie of that name: of two, one is an attacker's, who also chooses their order, so neither counts.
 * After white space other than this it is a different name, which siblings can set.
 */
const NAMED = new RegExp(`(?:^|;)[ \\t]*${NAME}=`, 'g')

export default fp(
  async (app) => {
    const { config, db } = app
    const keys = config.secrets.map((secret) => deriveKey(secret, 'id-token'))

    app.decorateRequest('sessionHash', function (this: FastifyRequest) {
      const id = this.cookies[NAME]
      if (!id || this.headers.cookie!.match(NAMED)?.length !== 1) return undefined
      return /^[\w-]{43}$/.test(id) ? hashSecret(id) : undefined
    })

    app.decorateRequest('signedIn', null)
    app.decorateRequest('person', async function (this: FastifyRequest) {
      const hash = this.sessionHash()
      this.signedIn ??= hash
        ? sessions.findSession(db, hash, config.SIGN_IN_MAX_AGE_SECONDS)
        : Promise.resolve(undefined)
      return await this.signedIn
    })

    app.decorateReply(
      'startSession',
      async function (this: FastifyReply, user_id, issuer, idToken) {
        const { address } = this.request
        const before = this.request.sessionHash()
        const id = newSecret('')
        const id_hash = hashSecret(id)
        const id_token_sealed =
          idToken === undefined ? null : seal(keys[0]!, id_hash.toString('hex'), idToken)
        await app.transaction(async (tx) => {
          if (before) await sessions.deleteSession(tx, before)
          await sessions.insertSession(tx, { id_hash, user_id, issuer, id_token_sealed })
          await recordAudit(tx, { event: 'session.started', user_id, address })
        })
        this.setCookie(NAME, id)
      },
    )

    app.decorateReply('endSession', async function (this: FastifyReply, everywhere) {
      const { address } = this.request
      const hash = this.request.sessionHash()
      const ended = await app.transaction(async (tx) => {
        const session = hash && (await sessions.deleteSession(tx, hash))
        if (!session) return undefined
        const { user_id } = session
        const others = everywhere ? await sessions.deleteSessionsOf(tx, user_id) : 0
        const details = { sessions: 1 + others }
        await recordAudit(tx, { event: 'session.ended', user_id, address, details })
        return session
      })
      // Not earlier: if the database is away the session goes on, and so must the way to end it.
      this.clearCookie(NAME)
      if (!ended) return undefined
      const { issuer, id_token_sealed } = ended
      const idToken = id_token_sealed && unseal(keys, hash!.toString('hex'), id_token_sealed)
      return idToken ? { issuer, idToken } : { issuer }
    })
  },
  { name: 'sessions', dependencies: ['database', '@fastify/cookie'] },
)
