/** What a registration is at a moment, derived from its times (PROTOCOL §11), and what that lets it do. */

export interface Registration {
  id: string
  registration_type: 'anonymous' | 'service_auth' | 'identity_assertion'
  user_id: string | null
  /** The user's verified email. */
  email: string | null
  generation: number
  claim_expires_at: Date | null
  claim_token_used_at: Date | null
  claimed_at: Date | null
  revoked_at: Date | null
}

/** The current ceremony of a registration. */
export interface Attempt {
  id: string
  expires_at: Date
  wrong_codes: number
  declined_at: Date | null
  confirmed_at: Date | null
}

export type Status = 'revoked' | 'claimed' | 'expired' | 'pending_claim' | 'unclaimed'

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
export function isLive(attempt: Attempt, maxTries: number, now: Date): boolean {
  return (
    attempt.expires_at > now &&
    attempt.wrong_codes < maxTries &&
    !attempt.declined_at &&
    !attempt.confirmed_at
  )
}

/** Whether what was minted under `generation` still counts: neither revoked, nor expired, nor superseded. */
export function isAlive(
  registration: Pick<Registration, 'revoked_at' | 'claimed_at' | 'claim_expires_at' | 'generation'>,
  generation: number,
  now: Date,
): boolean {
  const status = registrationStatus(registration, undefined, 0, now)
  return status !== 'revoked' && status !== 'expired' && registration.generation === generation
}
