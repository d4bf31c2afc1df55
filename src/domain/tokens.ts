/**
 * The claims of the tokens that we sign (PROTOCOL §2). Times and lifetimes are in seconds, dates counted from the
 * epoch.
 */
import { newId } from './secrets.js'
import type { Registration } from './registration.js'
import { tokenSubject, type Account } from './token-person.js'

/** Our identity assertions have the media type of an ID-JAG; issuer and key set tell them apart (PROTOCOL §12). */
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

/**
 * The claims of an identity assertion, with the person's email once they have claimed it. `aud` is the issuer itself,
 * which it never is in an access token: an assertion is for our own token endpoint only.
 */
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

/** The claims of an access token. `sign_in`: the account whose subject is to be its `sub`, if any. */
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

/** Seconds since the epoch → ISO 8601 in UTC, to the second, for the `*_expires` members. */
export function isoSeconds(seconds: number): string {
  return new Date(seconds * 1000).toISOString().replace('.000Z', 'Z')
}
