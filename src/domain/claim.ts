/** The ceremony's decisions: who may start, see, confirm and poll a claim (PROTOCOL §6, §7, §8). */
import { hinted, type Claimant } from './ceremony.js'
import type { LoginHint } from './login-hint.js'
import type { TokenLifetimes } from './signing-key.js'
import { registrationStatus, type Attempt, type Registration } from './registration.js'

/** How long a claim token answers after its first success, so that a lost response can be fetched again. */
export const CLAIM_TOKEN_GRACE_MS = 60_000

/**
 * Wrong codes allowed in a day for one registration, over all its ceremonies, and for one account, over all its claims:
 * neither renewals nor new registrations may buy endless tries.
 */
export const WRONG_CODES_PER_DAY = 15

export type StartReason = 'unknown' | 'claimed' | 'over' | 'hint_missing' | 'pinned'

/** Whether a ceremony may be started or renewed, and for whom: a renewal without a hint keeps the last one. */
export function decideStart(
  registration: Registration | undefined,
  asked: { last: Claimant | undefined; given: LoginHint | undefined },
  now: Date,
):
  | { ok: true; registration: Registration; claimant: Claimant }
  | { ok: false; reason: StartReason } {
  if (!registration) return { ok: false, reason: 'unknown' }
  const status = registrationStatus(registration, undefined, 0, now)
  if (status === 'claimed') return { ok: false, reason: 'claimed' }
  if (status === 'revoked' || status === 'expired' || !registration.issuer_active)
    return { ok: false, reason: 'over' }
  // The provider named the person: whoever holds the claim token must not give its subject to somebody else.
  if (asked.given && registration.issuer) return { ok: false, reason: 'pinned' }
  const claimant = asked.given ? hinted(asked.given) : asked.last
  return claimant ? { ok: true, registration, claimant } : { ok: false, reason: 'hint_missing' }
}

export type PollReason =
  'pending' | 'ceremony_over' | 'window_over' | 'spent' | 'declined' | 'revoked'

/** The claim grant's state table (PROTOCOL §8): `ok` when the tokens may be fetched now. */
export function decidePoll(
  registration: Registration,
  attempt: Attempt | undefined,
  maxTries: number,
  now: Date,
): { ok: true } | { ok: false; reason: PollReason } {
  if (!registration.issuer_active || registration.set_aside_at)
    return { ok: false, reason: 'revoked' }
  switch (registrationStatus(registration, attempt, maxTries, now)) {
    case 'revoked':
      return { ok: false, reason: 'revoked' }
    case 'claimed':
      return now.getTime() <= fetchableUntil(registration)
        ? { ok: true }
        : { ok: false, reason: 'spent' }
    case 'expired':
      return { ok: false, reason: 'window_over' }
    case 'pending_claim':
      return { ok: false, reason: 'pending' }
    case 'unclaimed':
      if (!attempt) return { ok: false, reason: 'pending' }
      return { ok: false, reason: attempt.declined_at ? 'declined' : 'ceremony_over' }
  }
}

type Claimed = Pick<
  Registration,
  'issuer' | 'claim_token_used_at' | 'claimed_at' | 'claim_expires_at'
>

/**
 * Milliseconds since the epoch. A confirmed claim can be fetched until its window ends, at least for the grace; once
 * fetched, again within the grace.
 */
function fetchableUntil({ claim_token_used_at, claimed_at, claim_expires_at }: Claimed): number {
  const since = (claim_token_used_at ?? claimed_at)!.getTime() + CLAIM_TOKEN_GRACE_MS
  return claim_token_used_at ? since : Math.max(since, claim_expires_at!.getTime())
}

/**
 * When the last token of a claimed registration expires, or when its claim token can no longer fetch one; undefined
 * when a provider can vouch for the registration again.
 */
export function accessEnd(registration: Claimed, lifetimes: TokenLifetimes): Date | undefined {
  if (registration.issuer) return undefined
  const minted = registration.claim_token_used_at ? longestAccessMs(lifetimes) : 0
  return new Date(fetchableUntil(registration) + minted)
}

/**
 * Claim tokens first used before this time give no access any more, as `accessEnd` computes it for one registration:
 * for queries.
 */
export function usedSince(lifetimes: TokenLifetimes, now: Date): Date {
  return new Date(now.getTime() - CLAIM_TOKEN_GRACE_MS - longestAccessMs(lifetimes))
}

/** The clock skew counts because an expired assertion can still be exchanged that long. */
function longestAccessMs(lifetimes: TokenLifetimes): number {
  return (accessSeconds(lifetimes) + lifetimes.CLOCK_SKEW_SECONDS) * 1000
}

/** An attempt and its registration, as the claim page loads them by the token in the person's link. */
export interface PageClaim {
  registration: Registration
  attempt: Attempt & Claimant & { superseded_at: Date | null }
}

export interface Person {
  user_id: string
  /** Verified. */
  email: string | null
}

export type PageReason =
  | 'not_found'
  | 'wrong_account'
  | 'already_done'
  | 'declined'
  | 'too_many_codes'
  | 'link_expired'
  | 'registration_over'

/**
 * What the signed-in person may do with the link. Anybody but the right person is told of a live link only that it is
 * not theirs; a link that is used, superseded or unknown looks the same to everyone else.
 */
export function decidePage<Claim extends PageClaim>(
  claim: Claim | undefined,
  person: Person,
  maxTries: number,
  now: Date,
): { ok: true; claim: Claim } | { ok: false; reason: PageReason } {
  if (!claim || claim.attempt.superseded_at) return { ok: false, reason: 'not_found' }
  const { registration, attempt } = claim
  if (attempt.confirmed_at) {
    if (registration.user_id !== person.user_id) return { ok: false, reason: 'not_found' }
    return { ok: false, reason: registration.revoked_at ? 'registration_over' : 'already_done' }
  }
  const theirs = attempt.pinned_user_id
    ? attempt.pinned_user_id === person.user_id
    : attempt.login_hint === person.email
  if (!theirs) return { ok: false, reason: 'wrong_account' }
  const status = registrationStatus(registration, attempt, maxTries, now)
  if (!registration.issuer_active || (status !== 'pending_claim' && status !== 'unclaimed'))
    return { ok: false, reason: 'registration_over' }
  if (attempt.declined_at) return { ok: false, reason: 'declined' }
  if (attempt.wrong_codes >= maxTries) return { ok: false, reason: 'too_many_codes' }
  return status === 'pending_claim' ? { ok: true, claim } : { ok: false, reason: 'link_expired' }
}

/**
 * The six digits of a code as people type and copy them: `12 34-56`, full-width, `**123456**` (RFC 8628 §6.1), as
 * emoji, or with invisible characters. Undefined for anything that is not a code.
 */
export function normalizeUserCode(text: string): string | undefined {
  const code = text.normalize('NFKC').replace(/[\s\p{Cf}\p{M}\p{P}`−]/gu, '')
  return /^[0-9]{6}$/.test(code) ? code : undefined
}

/** Seconds that an agent without a provider has access, from when it fetches its assertion. */
export function accessSeconds(lifetimes: TokenLifetimes): number {
  return lifetimes.ASSERTION_TTL_SECONDS + lifetimes.ACCESS_TOKEN_TTL_SECONDS
}

export type AssertionClaimReason = 'unknown' | 'over' | 'claimed_or_in_flight'

/** Whether an anonymous registration may be claimed with a provider's assertion instead of a ceremony. */
export function decideAssertionClaim(
  registration: Registration | undefined,
  attempt: Attempt | undefined,
  maxTries: number,
  now: Date,
): { ok: true; registration: Registration } | { ok: false; reason: AssertionClaimReason } {
  if (!registration) return { ok: false, reason: 'unknown' }
  const status = registrationStatus(registration, attempt, maxTries, now)
  if (status === 'revoked' || status === 'expired') return { ok: false, reason: 'over' }
  if (status !== 'unclaimed' || registration.registration_type !== 'anonymous')
    return { ok: false, reason: 'claimed_or_in_flight' }
  return { ok: true, registration }
}
