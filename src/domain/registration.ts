/** What a registration is at a moment, derived from its times (PROTOCOL §11), and what that lets it do. */

export const REGISTRATION_TYPES = ['anonymous', 'service_auth', 'identity_assertion'] as const

export interface Registration {
  id: string
  registration_type: (typeof REGISTRATION_TYPES)[number]
  user_id: string | null
  /** The user's verified email. */
  email: string | null
  generation: number
  claim_expires_at: Date | null
  claim_token_used_at: Date | null
  claimed_at: Date | null
  revoked_at: Date | null
  /** The provider and its subject that the registration came with, if any. */
  issuer: string | null
  subject: string | null
  /** False once the provider was taken off the trust list. */
  issuer_active: boolean
  /** Bound before the user's first sign-in: dead until the user confirms it. */
  set_aside_at: Date | null
  /** What the provider narrowed it to. */
  scopes: string[] | null
}

/** The current ceremony of a registration. */
export interface Attempt {
  id: string
  expires_at: Date
  wrong_codes: number
  declined_at: Date | null
  confirmed_at: Date | null
}

export const STATUSES = ['unclaimed', 'pending_claim', 'claimed', 'expired', 'revoked'] as const
export type Status = (typeof STATUSES)[number]

/** `now` is the database's clock, read with the row: replicas may disagree about the time. */
export function registrationStatus(
  registration: Pick<Registration, 'revoked_at' | 'claimed_at' | 'claim_expires_at'>,
  attempt: Attempt | undefined,
  maxTries: number,
  now: Date,
): Status {
  if (registration.revoked_at) return 'revoked'
  if (registration.claimed_at) return 'claimed'
  if (registration.claim_expires_at && registration.claim_expires_at <= now) return 'expired'
  return attempt && isLive(attempt, maxTries, now) ? 'pending_claim' : 'unclaimed'
}

/** An attempt can still be confirmed or declined. */
function isLive(attempt: Attempt, maxTries: number, now: Date): boolean {
  return (
    attempt.expires_at > now &&
    attempt.wrong_codes < maxTries &&
    !attempt.declined_at &&
    !attempt.confirmed_at
  )
}

/** Whether what was minted under `generation` still counts: neither revoked, nor expired, nor superseded. */
export function isAlive(
  registration: Pick<
    Registration,
    'revoked_at' | 'claimed_at' | 'claim_expires_at' | 'set_aside_at' | 'generation'
  >,
  generation: number,
  now: Date,
): boolean {
  const status = registrationStatus(registration, undefined, 0, now)
  if (status === 'revoked' || status === 'expired' || registration.set_aside_at) return false
  return registration.generation === generation
}
