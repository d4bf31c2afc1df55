/**
 * CSRF tokens for forms, bound to a cookie and to the session. Uses @fastify/csrf directly: the plugin around it knows
 * one key, and a form made before SECRET was rotated must be accepted afterwards.
 */
import { Tokens, type TokensUserinfo } from '@fastify/csrf'
import type { FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { deriveKey } from '../domain/secrets.js'
import { because, OAuthError } from '../errors.js'

declare module 'fastify' {
  interface FastifyInstance {
    /** Refuses, with 403, a form that is not from a page of ours for this browser and session. */
    csrfProtection(request: FastifyRequest): Promise<void>
  }
  interface FastifyReply {
    /** A token for this browser's forms; sets the cookie that goes with it. */
    csrfToken(): string
  }
}

const COOKIE = '__Host-registrar-csrf'

export default fp(
  async (app) => {
    const [current, ...older] = app.config.secrets.map(
      (secret) =>
        new Tokens({ userInfo: true, hmacKey: deriveKey(secret, 'csrf').toString('base64') }),
    ) as [TokensUserinfo, ...TokensUserinfo[]]

    app.decorateReply('csrfToken', function (this: FastifyReply) {
      let secret = this.request.cookies[COOKIE]
      if (!secret) {
        secret = current.secretSync()
        this.setCookie(COOKIE, secret)
      }
      return current.create(secret, sessionOf(this.request))
    })

    app.decorate('csrfProtection', async (request: FastifyRequest) => {
      const secret = request.cookies[COOKIE]
      const token = (request.body as Record<string, unknown> | undefined)?._csrf
      const fits = (tokens: TokensUserinfo) =>
        tokens.verify(secret as string, token as string, sessionOf(request))
      if (![current, ...older].some(fits))
        throw because('csrf', new OAuthError(403, 'forbidden', 'The form has no valid CSRF token.'))
    })
  },
  { name: 'csrf', dependencies: ['sessions', '@fastify/cookie'] },
)

/** What tokens are bound to: one from before the sign-in, or of another session, is not valid. */
function sessionOf(request: FastifyRequest): string {
  return request.sessionHash()?.toString('base64url') ?? 'nobody'
}
