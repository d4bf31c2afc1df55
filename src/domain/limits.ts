/** What is limited, how often it may happen in an hour, and how that is told (draft-ietf-httpapi-ratelimit-headers-11). */
import { WRONG_CODES_PER_DAY } from './claim.js'

/** `_per_ip`: from one IPv4 address or one IPv6 /64. */
export const LIMITS = {
  anonymous_per_ip: 5,
  anonymous: 100,
  /** ID-JAGs whose signature is looked at. */
  identity_assertion_per_ip: 60,
  /** ID-JAGs that hold. */
  identity_assertion: 1000,
  service_auth_per_ip: 20,
  service_auth: 1000,
  /** Ceremonies that are started or renewed with a claim token. */
  claims_per_ip: 60,
  /** Started or renewed for one hinted address. */
  ceremonies_per_hint: 5,
  /** Of the development sign-in every try, of a provider's the failed ones. */
  sign_in_per_ip: 60,
  introspection_failures_per_ip: 60,
  unknown_claim_tokens_per_ip: 60,
  unknown_links_per_ip: 60,
}

export type LimitName = keyof typeof LIMITS
/** In an hour; 0: as often as anybody likes. */
export type Limits = Record<LimitName, number>

export const NO_LIMITS = Object.fromEntries(Object.keys(LIMITS).map((name) => [name, 0])) as Limits

export const HOUR_SECONDS = 3600
const DAY_SECONDS = 86_400

/** Where a caller stands: how much is left, and in how many seconds all of it is back. */
export interface Standing {
  ok: boolean
  remaining: number
  seconds: number
}

/** `anonymous_per_ip` → `anonymous-ip` */
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

/** Of a 429 for too many wrong codes: in so many seconds there may be another. */
export function wrongCodeHeaders(seconds: number): Record<string, string> {
  const limit = { quota: WRONG_CODES_PER_DAY, window: DAY_SECONDS }
  return {
    'retry-after': String(seconds),
    ...rateLimitHeaders('wrong-codes', limit, { remaining: 0, seconds }),
  }
}
