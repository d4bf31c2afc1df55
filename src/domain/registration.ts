/**
 * The status of a registration at a given time, derived from its timestamps (PROTOCOL §11), and whether its tokens
 * still count.
 */

export const REGISTRATION_TYPES = ['anonymous', 'service_auth', 'identity_assertion'] as const

/** The generation of a new registration: the column's default. */
export const FIRST_GENERATION = 1

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
  /** The provider whose assertion the registration came with or was claimed with, and its subject there, if any. */
  issuer: string | null
  subject: string | null
  /** False once the provider has been disabled or removed from the trust list. */
  issuer_active: boolean
  /** When it was set aside, because it was bound before the user's first sign-in: dead until the user confirms it. */
  set_aside_at: Date | null
  /** The scopes that the provider narrowed it to; null: no narrowing. */
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

/** `now` is the database's clock, read with the row, because replicas' clocks may differ. */
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

/** Whether the attempt can still be confirmed or declined. */
function isLive(attempt: Attempt, maxTries: number, now: Date): boolean {
  return (
    attempt.expires_at > now &&
    attempt.wrong_codes < maxTries &&
    !attempt.declined_at &&
    !attempt.confirmed_at
  )
}

/**
 * Whether tokens minted under `generation` still count: the registration is not revoked, expired or set aside, and no
 * later generation has superseded them.
 */
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
