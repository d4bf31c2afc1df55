/**
 * Sign-in sessions: a random id in a cookie, its hash in Postgres, so that every replica sees the same sign-ins and
 * sign-outs. Our own few lines, because @fastify/session sets no Secure cookie unless the request looks like https to
 * Fastify, which neither http://localhost nor a proxy that TRUST_PROXY leaves out does, and gives its store the id as
 * it is.
 */
import type { FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import type { Person } from '../domain/claim.js'
import { hashSecret, newSecret } from '../domain/secrets.js'
import { recordAudit } from '../repositories/audit-events.js'
import { deleteSession, findSession, insertSession } from '../repositories/sessions.js'

declare module 'fastify' {
  interface FastifyRequest {
    /** Who is signed in; looked up once for each request. */
    person(): Promise<Person | undefined>
    sessionHash(): Buffer | undefined
    signedIn: Promise<Person | undefined> | null
  }
  interface FastifyReply {
    /** Signs in under a new session id; the one before, if any, ends. */
    startSession(userId: string): Promise<void>
    endSession(): Promise<void>
  }
}

/** `__Host-`: no other host, not even a sibling, can set it (RFC 6265bis §4.1.3.2). */
const NAME = '__Host-registrar-session'

export default fp(
  async (app) => {
    const { db } = app

    app.decorateRequest('sessionHash', function (this: FastifyRequest) {
      const id = this.cookies[NAME]
      return id && /^[\w-]{43}$/.test(id) ? hashSecret(id) : undefined
    })

    app.decorateRequest('signedIn', null)
    app.decorateRequest('person', async function (this: FastifyRequest) {
      const hash = this.sessionHash()
      this.signedIn ??= hash ? findSession(db, hash) : Promise.resolve(undefined)
      return await this.signedIn
    })

    app.decorateReply('startSession', async function (this: FastifyReply, userId) {
      const { address } = this.request
      const before = this.request.sessionHash()
      const id = newSecret('')
      await db.transaction().execute(async (tx) => {
        if (before) await deleteSession(tx, before)
        await insertSession(tx, hashSecret(id), userId)
        await recordAudit(tx, { event: 'session.started', user_id: userId, address })
      })
      this.setCookie(NAME, id)
    })

    app.decorateReply('endSession', async function (this: FastifyReply) {
      const { address } = this.request
      const hash = this.request.sessionHash()
      await db.transaction().execute(async (tx) => {
        const ended = hash && (await deleteSession(tx, hash))
        if (ended)
          await recordAudit(tx, { event: 'session.ended', user_id: ended.user_id, address })
      })
      this.clearCookie(NAME)
    })
  },
  { name: 'sessions', dependencies: ['database', '@fastify/cookie'] },
)
