/** Whom a token is for, as resource servers are told. */
import { DEVELOPMENT_ISSUER, type SignIn } from './sign-in.js'

/** What a person signs in with; its address may change. */
export type Account = Pick<SignIn, 'issuer' | 'subject'>

export interface SignInSettings {
  SIGN_IN: 'development' | 'oidc' | 'none'
  oidcProviders: { issuer: string }[]
}

/** Where people can sign in now: accounts that came from elsewhere before are not spoken of. */
export function signInIssuers({ SIGN_IN, oidcProviders }: SignInSettings): string[] {
  if (SIGN_IN === 'development') return [DEVELOPMENT_ISSUER]
  return SIGN_IN === 'oidc' ? oidcProviders.map(({ issuer }) => issuer) : []
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
