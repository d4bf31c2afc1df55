/** Who a token is for: its `sub`, and what resource servers learn by introspection. */
import { isOwnId } from './secrets.js'
import { DEVELOPMENT_ISSUER, type SignIn } from './sign-in.js'

/** What a person signs in with, without the email address, which may change. */
export type Account = Pick<SignIn, 'issuer' | 'subject'>

interface SignInSettings {
  SIGN_IN: 'development' | 'oidc' | 'none'
  TOKEN_SUBJECT: 'user' | 'sign_in'
  oidcProviders: { issuer: string }[]
}

/** The issuers that people can sign in with now; accounts at former ones are never disclosed. */
export function signInIssuers({ SIGN_IN, oidcProviders }: SignInSettings): string[] {
  if (SIGN_IN === 'development') return [DEVELOPMENT_ISSUER]
  return SIGN_IN === 'oidc' ? oidcProviders.map(({ issuer }) => issuer) : []
}

/**
 * The issuer whose subjects go into access tokens: at most one, since a subject means nothing without its issuer, and
 * none by default.
 */
export function tokenSubjectIssuers(settings: SignInSettings): string[] {
  return settings.TOKEN_SUBJECT === 'sign_in' ? signInIssuers(settings) : []
}

/**
 * The `sub` of RFC 9068 §2.2: the person, or the registration while no person is known. A provider may let people
 * choose their subject; one that looks like our own ids could pass for another user or registration (RFC 9700 §4.15),
 * so it is not used.
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
