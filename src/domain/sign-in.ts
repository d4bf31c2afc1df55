/** Signing in: what a browser keeps while its person is away at an identity provider, and why it can fail. */

/** The pseudo-issuer of the development sign-in; its subjects are the addresses themselves. */
export const DEVELOPMENT_ISSUER = 'development'

/** An account at an identity provider: (issuer, subject), and the address it verified, if any. */
export interface SignIn {
  issuer: string
  subject: string
  /** Canonical; null: none, or none that is verified. */
  email: string | null
}

/** Before the state: one cookie for each sign-in under way, since several tabs may each have theirs. */
export const PENDING_COOKIE = '__Host-registrar-sign-in-'

/** What the answer of the provider must fit; sealed in a cookie of the browser that asked. */
export interface PendingSignIn {
  issuer: string
  nonce: string
  code_verifier: string
  /** Seconds; only when the provider was asked for a fresh sign-in. */
  max_age: number | undefined
  /** The provider was asked to look who is there, whomever it remembers. */
  prompted: boolean
  return_to: string
  /** The path that the provider sends its answer to. */
  callback: string
}

export type SignInReason =
  /** Started in another browser, or too long ago, or answered twice. */
  | 'not_ours'
  /** The person, or the provider, said no. */
  | 'declined'
  /** The provider cannot be reached or answers with a fault of its own. */
  | 'away'
  /** The answer does not hold: signature, issuer, nonce, age. */
  | 'unverified'
  /** The provider does not accept what the operator configured. */
  | 'misconfigured'
  /** The same, or so the browser says. */
  | 'rejected'

/** What the page says of it. */
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
