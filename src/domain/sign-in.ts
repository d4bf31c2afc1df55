/** Signing in: what the browser keeps while its user is away at an identity provider, and why a sign-in can fail. */

/** The pseudo-issuer of the development sign-in; its subjects are the email addresses. */
export const DEVELOPMENT_ISSUER = 'development'

/**
 * An account at an identity provider, identified by (issuer, subject), and the address that the provider verified, if
 * any.
 */
export interface SignIn {
  issuer: string
  subject: string
  /** Canonical; null when there is none or it is not verified. */
  email: string | null
}

/**
 * The cookie's name is this and the state: one cookie for each sign-in under way, since several tabs may each have one.
 */
export const PENDING_COOKIE = '__Host-registrar-sign-in-'

/** What the provider's answer must match; sealed in a cookie of the browser that started the sign-in. */
export interface PendingSignIn {
  issuer: string
  nonce: string
  code_verifier: string
  /** Seconds; set only when the provider was asked for a recent sign-in. */
  max_age: number | undefined
  /** The provider was told to prompt the person even if it remembers one. */
  prompted: boolean
  return_to: string
  /** The path that the provider sends its answer to. */
  callback: string
}

export type SignInReason =
  /** Started in another browser, too long ago, or already answered. */
  | 'not_ours'
  /** The person or the provider refused. */
  | 'declined'
  /** The provider cannot be reached, or fails. */
  | 'away'
  /** The answer fails a check: signature, issuer, nonce, age. */
  | 'unverified'
  /** The provider does not accept what the operator configured. */
  | 'misconfigured'
  /** The same, according to a redirect, which anybody can make up. */
  | 'rejected'

/** The status and the words of the page that reports it. */
export const SIGN_IN_FAILURES: Record<
  SignInReason,
  { status: number; title: string; text: string }
> = {
  not_ours: {
    status: 400,
    title: 'This sign-in is over',
    text: 'It took too long, was used already, was started in another browser, or yours keeps no cookies for this site. Nothing was changed. If your agent gave you a link, open it again.',
  },
  declined: {
    status: 403,
    title: 'You are not signed in',
    text: 'The sign-in was cancelled or refused. Nothing was changed.',
  },
  away: {
    status: 503,
    title: 'Sign-in does not answer right now',
    text: 'Nothing is lost: wait a moment, then try again.',
  },
  unverified: {
    status: 400,
    title: 'This sign-in could not be verified',
    text: 'What came back does not fit what was asked. Nothing was changed.',
  },
  rejected: {
    status: 400,
    title: 'Sign-in is not set up right',
    text: 'The provider refused what it was asked. Please tell whoever runs this service.',
  },
  misconfigured: {
    status: 500,
    title: 'Sign-in is not set up right',
    text: 'We have made a note of it. Please tell whoever runs this service.',
  },
}
