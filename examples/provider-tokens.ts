/** What the development provider signs: ID-JAGs, and security events (RFC 8417). */
import { createHash, randomUUID } from 'node:crypto'
import * as jose from 'jose'
import { isJson, Problem, safe, text } from './http.js'

const REVOKED = 'https://schemas.workos.com/events/agent/auth/identity/assertion/revoked'
const ID_JAG_LIFETIME_SECONDS = 300

export const ALGORITHMS = ['ES256', 'RS256']
export type Signer = Awaited<ReturnType<typeof makeSigner>>

export interface Asked {
  email: string
  audience: string
  verified?: boolean
  /** How long ago the person signed in. */
  authAgeSeconds?: number
  algorithm?: string
}

/** Makes a signer with its own keys, which live as long as the process. */
export async function makeSigner(iss: string, client_id: string) {
  const keys = await Promise.all(
    ALGORITHMS.map(async (alg) => {
      const { publicKey, privateKey } = await jose.generateKeyPair(alg)
      const jwk = await jose.exportJWK(publicKey)
      const kid = await jose.calculateJwkThumbprint(jwk)
      return { alg, kid, privateKey, jwk: { ...jwk, kid, alg, use: 'sig' } }
    }),
  )

  async function sign(typ: string, claims: jose.JWTPayload, algorithm = 'ES256') {
    const key = keys.find(({ alg }) => alg === algorithm)
    if (!key)
      throw new Problem(`There is no key for that algorithm, only: ${ALGORITHMS.join(', ')}`)
    const iat = now()
    return await new jose.SignJWT({ iss, jti: randomUUID(), iat, ...claims })
      .setProtectedHeader({ typ, alg: key.alg, kid: key.kid })
      .sign(key.privateKey)
  }

  return {
    jwks: { keys: keys.map(({ jwk }) => jwk) },

    idJag({ email, audience, verified = true, authAgeSeconds = 0, algorithm }: Asked) {
      const claims = {
        sub: subjectOf(email),
        aud: audience,
        client_id,
        exp: now() + ID_JAG_LIFETIME_SECONDS,
        email,
        email_verified: verified,
        auth_time: now() - authAgeSeconds,
      }
      return sign('oauth-id-jag+jwt', claims, algorithm)
    },

    revokedEvent(email: string, audience: string) {
      const claims = { sub: subjectOf(email), aud: audience, events: { [REVOKED]: {} } }
      return sign('secevent+jwt', claims)
    },
  }
}

/** Pushes an event (RFC 8935 §2) to the endpoint that the registrar's metadata names. */
export async function push(event: string, registrar: string) {
  const { origin, pathname } = safe(registrar)
  const url = `${origin}/.well-known/oauth-authorization-server${pathname.replace(/\/$/, '')}`
  const metadata: unknown = await (await request(url)).json().catch(() => undefined)
  if (!isJson(metadata) || metadata.issuer !== registrar || !isJson(metadata.agent_auth))
    throw new Problem(`${url} is not the metadata of a registrar with the issuer ${registrar}.`)
  const endpoint = safe(text(metadata.agent_auth, 'events_endpoint')).href
  const headers = { 'content-type': 'application/secevent+jwt', accept: 'application/json' }
  const response = await request(endpoint, { method: 'POST', headers, body: event })
  return { endpoint, status: response.status, body: await response.text() }
}

async function request(url: string, init: RequestInit = {}): Promise<Response> {
  try {
    return await fetch(url, { ...init, redirect: 'manual', signal: AbortSignal.timeout(10_000) })
  } catch {
    throw new Problem(`Nothing answers at ${url}.`)
  }
}

/** The subject of a person: always the same, also after a restart. */
function subjectOf(email: string): string {
  return createHash('sha256').update(email.toLowerCase()).digest('hex').slice(0, 24)
}

const now = () => Math.floor(Date.now() / 1000)
