/** Whom a token is for, as the token's subject and as resource servers are told. */
import { isOwnId } from './secrets.js'
import { DEVELOPMENT_ISSUER, type SignIn } from './sign-in.js'

/** What a person signs in with; its address may change. */
export type Account = Pick<SignIn, 'issuer' | 'subject'>

interface SignInSettings {
  SIGN_IN: 'development' | 'oidc' | 'none'
  TOKEN_SUBJECT: 'user' | 'sign_in'
  oidcProviders: { issuer: string }[]
}

/** Where people can sign in now: accounts that came from elsewhere before are not spoken of. */
export function signInIssuers({ SIGN_IN, oidcProviders }: SignInSettings): string[] {
  if (SIGN_IN === 'development') return [DEVELOPMENT_ISSUER]
  return SIGN_IN === 'oidc' ? oidcProviders.map(({ issuer }) => issuer) : []
}

/** Whose subjects go into access tokens: one issuer, since a subject means nothing without it; none by default. */
export function tokenSubjectIssuers(settings: SignInSettings): string[] {
  return settings.TOKEN_SUBJECT === 'sign_in' ? signInIssuers(settings) : []
}

/**
 * RFC 9068 §2.2: the person, or the registration while no person is known. A provider may let people choose their
 * subject: one in the form of our own ids would pass for another user or registration (RFC 9700 §4.15), so it stays out.
 */
export function tokenSubject(registration: {
  id: string
  user_id: string | null
  claimed_at: Date | null
  sign_in: Account | null
}): string {
  const { id, user_id, claimed_at, sign_in } = registration
  if (!claimed_at || !user_id) return id
  return sign_in && !isOwnId(sign_in.subject) ? sign_in.subject : user_id
}

/** What introspection says of the person who claimed the registration (RFC 7662 §2.2, RFC 9493 §3.2.1). */
export function personMembers(registration: {
  claimed_at: Date | null
  email: string | null
  sign_in: Account | null
}) {
  const { claimed_at, email, sign_in } = registration
  if (!claimed_at) return {}
  const account = sign_in && {
    format: 'iss_sub' as const,
    iss: sign_in.issuer,
    sub: sign_in.subject,
  }
  return { ...(email ? { username: email } : {}), ...(account ? { sub_id: account } : {}) }
}
