/** The claims of what we sign (PROTOCOL §2). Times are seconds since the epoch. */
import { newId } from './secrets.js'
import type { Registration } from './registration.js'
import { tokenSubject, type Account } from './token-person.js'

/** Our identity assertions wear the media type of an ID-JAG; issuer and key set tell them apart (PROTOCOL §12). */
export const ASSERTION_TYP = 'oauth-id-jag+jwt'
/** RFC 9068 §2.1 */
export const ACCESS_TOKEN_TYP = 'at+jwt'

export interface AssertionClaims {
  iss: string
  aud: string
  sub: string
  jti: string
  iat: number
  exp: number
  generation: number
  email?: string
  email_verified?: true
}

export interface AccessTokenClaims {
  iss: string
  aud: string
  sub: string
  client_id: string
  registration_id: string
  generation: number
  scope: string
  jti: string
  iat: number
  exp: number
}

/** `aud` is the issuer itself: an assertion is for our own token endpoint, an access token never is. */
export function assertionClaims(
  issuer: string,
  registration: Pick<Registration, 'id' | 'generation' | 'email' | 'claimed_at'>,
  lifetime: number,
  now: Date,
): AssertionClaims {
  const iat = Math.floor(now.getTime() / 1000)
  const { id: sub, generation, claimed_at, email } = registration
  const person = claimed_at && email ? { email, email_verified: true as const } : {}
  return {
    iss: issuer,
    aud: issuer,
    sub,
    jti: newId(''),
    iat,
    exp: iat + lifetime,
    generation,
    ...person,
  }
}

/** `sign_in`: the account whose subject is to be `sub`, if any. */
export function accessTokenClaims(
  issuer: string,
  resource: string,
  registration: Pick<Registration, 'id' | 'generation' | 'user_id' | 'claimed_at'> & {
    sign_in: Account | null
  },
  scope: string[],
  lifetime: number,
  now: Date,
): AccessTokenClaims {
  const iat = Math.floor(now.getTime() / 1000)
  const { id, generation } = registration
  return {
    iss: issuer,
    aud: resource,
    sub: tokenSubject(registration),
    client_id: id,
    registration_id: id,
    generation,
    scope: scope.join(' '),
    jti: newId(''),
    iat,
    exp: iat + lifetime,
  }
}

/** Seconds since the epoch → the ISO 8601 UTC of `*_expires` members, to the second. */
export function isoSeconds(seconds: number): string {
  return new Date(seconds * 1000).toISOString().replace('.000Z', 'Z')
}
