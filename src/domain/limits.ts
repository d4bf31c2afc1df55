/**
 * The rate limits: what they count, their quotas per hour, and the headers that report them
 * (draft-ietf-httpapi-ratelimit-headers-11).
 */
import { WRONG_CODES_PER_DAY } from './claim.js'

/** The default quotas. `_per_ip`: from one IPv4 address or one IPv6 /64. */
export const LIMITS = {
  anonymous_per_ip: 5,
  anonymous: 100,
  /** ID-JAGs whose signature is checked. */
  identity_assertion_per_ip: 60,
  /** ID-JAGs that have passed verification. */
  identity_assertion: 1000,
  service_auth_per_ip: 20,
  service_auth: 1000,
  /** Ceremonies started or renewed with a claim token. */
  claims_per_ip: 60,
  /** Ceremonies started or renewed for one hinted address. */
  ceremonies_per_hint: 5,
  /** All tries of the development sign-in, but only the failed ones at a provider. */
  sign_in_per_ip: 60,
  introspection_failures_per_ip: 60,
  unknown_claim_tokens_per_ip: 60,
  unknown_links_per_ip: 60,
}

export type LimitName = keyof typeof LIMITS
export const LIMIT_NAMES = Object.keys(LIMITS) as LimitName[]
/** Quotas per hour; 0 means no limit. */
export type Limits = Record<LimitName, number>

export const NO_LIMITS = Object.fromEntries(LIMIT_NAMES.map((name) => [name, 0])) as Limits

export const HOUR_SECONDS = 3600
const DAY_SECONDS = 86_400

/**
 * What is left of a caller's quota, and in how many seconds all of it is available again. `ok`: this request may pass.
 */
export interface Standing {
  ok: boolean
  remaining: number
  seconds: number
}

/** The policy's name in the headers: `anonymous_per_ip` → `anonymous-ip`. */
export function policyOf(name: LimitName): string {
  return name.replace('_per_', '_').replaceAll('_', '-')
}

export function rateLimitHeaders(
  policy: string,
  { quota, window }: { quota: number; window: number },
  { remaining, seconds }: Omit<Standing, 'ok'>,
): Record<string, string> {
  return {
    'ratelimit-policy': `"${policy}";q=${quota};w=${window}`,
    ratelimit: `"${policy}";r=${remaining};t=${seconds}`,
  }
}

/** The headers of a 429 for too many wrong codes; `seconds`: how long to wait. */
export function wrongCodeHeaders(seconds: number): Record<string, string> {
  const limit = { quota: WRONG_CODES_PER_DAY, window: DAY_SECONDS }
  return {
    'retry-after': String(seconds),
    ...rateLimitHeaders('wrong-codes', limit, { remaining: 0, seconds }),
  }
}
