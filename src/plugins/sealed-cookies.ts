/**
 * Values that a browser keeps for us for a few minutes: sealed, so that nobody reads or changes them, and bound to the
 * cookie's name.
 */
import type { FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { seal, unseal } from '../domain/sealing.js'
import { deriveKey } from '../domain/secrets.js'

declare module 'fastify' {
  interface FastifyReply {
    sealCookie(name: string, value: object, seconds: number): void
  }
  interface FastifyRequest {
    /** Undefined when there is none, it is not ours, or it is too old, whatever the browser thinks of its age. */
    sealedCookie<Value>(name: string): Value | undefined
  }
}

export default fp(
  async (app) => {
    const keys = app.config.secrets.map((secret) => deriveKey(secret, 'cookie'))

    app.decorateReply('sealCookie', function (this: FastifyReply, name, value, seconds) {
      const until = Date.now() + seconds * 1000
      const sealed = seal(keys[0]!, name, JSON.stringify({ until, value }))
      this.setCookie(name, sealed.toString('base64url'), { maxAge: seconds })
    })

    app.decorateRequest('sealedCookie', function <Value>(this: FastifyRequest, name: string) {
      const plain = unseal(keys, name, Buffer.from(this.cookies[name] ?? '', 'base64url'))
      if (plain === undefined) return undefined
      const { until, value } = JSON.parse(plain) as { until: number; value: Value }
      return until > Date.now() ? value : undefined
    })
  },
  { name: 'sealed-cookies', dependencies: ['@fastify/cookie'] },
)
