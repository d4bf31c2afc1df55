/** The claims of a provider's ID-JAG (draft-ietf-oauth-identity-assertion-authz-grant, PROTOCOL §5). */
import { audiences, hasType, isName, isNumericDate, type Jwt } from './jwt.js'
import type { Issuer } from './issuer.js'
import { canonicalEmail } from './login-hint.js'
import { narrowScope } from './scope.js'

const ID_JAG_TYP = 'oauth-id-jag+jwt'
const MAX_LIFETIME_SECONDS = 600

export interface IdJagSettings {
  issuer: string
  resource: string
  scopes: string[]
  skewSeconds: number
}

export type IdJagReason =
  | 'wrong_type'
  | 'wrong_issuer'
  | 'wrong_audience'
  | 'bad_subject'
  | 'bad_jti'
  | 'bad_times'
  | 'lives_too_long'
  | 'not_yet_valid'
  | 'expired'
  | 'wrong_client'
  | 'wrong_resource'
  | 'bad_scope'
  | 'unsupported_authorization_details'
  | 'sender_constrained'

export interface IdJag {
  /** The person's key at the provider; it includes the tenant where subjects are unique only within one. */
  subject: string
  audience: string
  jti: string
  /** Seconds since the epoch. */
  exp: number
  scopes: string[] | null
}

type Checked = { ok: true; idJag: IdJag } | { ok: false; reason: IdJagReason }
const no = (reason: IdJagReason): Checked => ({ ok: false, reason })

/**
 * Checks the claims about the assertion itself, in the order of PROTOCOL §5. The signature was checked before; replay
 * and `checkVouched` come after.
 */
export function checkIdJag(jwt: Jwt, issuer: Issuer, settings: IdJagSettings, now: Date): Checked {
  const { payload: claims } = jwt
  if (!hasType(jwt, ID_JAG_TYP)) return no('wrong_type')
  if (claims.iss !== issuer.issuer) return no('wrong_issuer')
  const accepted =
    issuer.audiences.length > 0 ? issuer.audiences : [settings.issuer, settings.resource]
  const [audience, more] = audiences(claims.aud)
  if (audience === undefined || more !== undefined || !accepted.includes(audience))
    return no('wrong_audience')
  const subject = subjectKey(claims, issuer)
  if (subject === undefined) return no('bad_subject')
  if (!isName(claims.jti)) return no('bad_jti')
  const timing = checkTimes(claims, settings.skewSeconds, now)
  if (timing) return no(timing)
  const { client_id } = claims
  if (typeof client_id !== 'string' || ![issuer.issuer, ...issuer.client_ids].includes(client_id))
    return no('wrong_client')
  const asked = checkAsked(claims, settings)
  if (!asked.ok) return asked
  const { jti, exp } = claims as { jti: string; exp: number }
  return { ok: true, idJag: { subject, audience, jti, exp, scopes: asked.scopes } }
}

/**
 * `sub`, or for a multi-tenant issuer tenant and `sub`, encoded so that no other pair gives the same key. Undefined
 * when a part is missing or unusable.
 */
export function subjectKey(
  claims: Record<string, unknown>,
  { multi_tenant }: Issuer,
): string | undefined {
  if (!isName(claims.sub)) return undefined
  if (!multi_tenant) return claims.sub
  return isName(claims.tenant) ? JSON.stringify([claims.tenant, claims.sub]) : undefined
}

function checkTimes(
  { exp, iat, nbf }: Record<string, unknown>,
  skew: number,
  now: Date,
): IdJagReason | undefined {
  if (!isNumericDate(exp) || !isNumericDate(iat)) return 'bad_times'
  if (nbf !== undefined && !isNumericDate(nbf)) return 'bad_times'
  if (exp - iat > MAX_LIFETIME_SECONDS) return 'lives_too_long'
  const seconds = now.getTime() / 1000
  if (iat > seconds + skew || (nbf ?? 0) > seconds + skew) return 'not_yet_valid'
  if (exp <= seconds - skew || iat <= seconds - MAX_LIFETIME_SECONDS - skew) return 'expired'
  return undefined
}

function checkAsked(
  { resource, scope, authorization_details, cnf }: Record<string, unknown>,
  settings: IdJagSettings,
): { ok: true; scopes: string[] | null } | { ok: false; reason: IdJagReason } {
  if (resource !== undefined) {
    const resources = audiences(resource)
    if (resources.length === 0 || resources.some((uri) => uri !== settings.resource))
      return { ok: false, reason: 'wrong_resource' }
  }
  if (scope !== undefined && typeof scope !== 'string') return { ok: false, reason: 'bad_scope' }
  const scopes = scope === undefined ? null : narrowScope(settings.scopes, scope)
  if (scopes === undefined) return { ok: false, reason: 'bad_scope' }
  // RFC 9396 §5: what we cannot honour is refused, never dropped.
  if (authorization_details !== undefined)
    if (!Array.isArray(authorization_details) || authorization_details.length > 0)
      return { ok: false, reason: 'unsupported_authorization_details' }
  // The token is bound to a key, and we ask for no proof of it: accepting it as a bearer token would undo the binding.
  if (cnf !== undefined) return { ok: false, reason: 'sender_constrained' }
  return { ok: true, scopes }
}

export type VouchedReason = 'nothing_verified' | 'login_required'

/** What the provider verified, as opposed to merely said. */
export interface Vouched {
  email: string | null
  phone_number: string | null
}

/**
 * Whom the provider vouches for, and that they signed in there recently with the methods that the operator requires
 * (`auth_time`, `amr`). Checked once the assertion is spent.
 */
export function checkVouched(
  { payload: claims }: Jwt,
  issuer: Issuer,
  settings: { maxAuthAgeSeconds: number; skewSeconds: number },
  now: Date,
): { ok: true; vouched: Vouched } | { ok: false; reason: VouchedReason } {
  const email = claims.email_verified === true ? vouchedEmail(claims.email, issuer) : null
  const phone_number =
    claims.phone_number_verified === true ? vouchedPhone(claims.phone_number) : null
  if (email === null && phone_number === null) return { ok: false, reason: 'nothing_verified' }
  const { auth_time, amr } = claims
  const age = isNumericDate(auth_time) ? now.getTime() / 1000 - auth_time : Infinity
  if (age > settings.maxAuthAgeSeconds + settings.skewSeconds || age < -settings.skewSeconds)
    return { ok: false, reason: 'login_required' }
  const methods = Array.isArray(amr) ? amr : []
  if (!issuer.required_amr.every((method) => methods.includes(method)))
    return { ok: false, reason: 'login_required' }
  return { ok: true, vouched: { email, phone_number } }
}

function vouchedEmail(value: unknown, { email_domains }: Issuer): string | null {
  const email = typeof value === 'string' ? canonicalEmail(value) : undefined
  if (email === undefined) return null
  const domain = email.slice(email.indexOf('@') + 1)
  return email_domains.length === 0 || email_domains.includes(domain) ? email : null
}

/** In E.164 form, without separators; null if it is no such number. */
function vouchedPhone(value: unknown): string | null {
  const digits = typeof value === 'string' ? value.replace(/[ ().-]/g, '') : ''
  return /^\+[1-9]\d{6,14}$/.test(digits) ? digits : null
}
