/** The security event tokens that providers push (RFC 8417, RFC 8935), and their older form (auth.md v0.2). */
import { audiences, hasType, isName, isNumericDate, isObject, type Jwt } from './jwt.js'
import { subjectKey } from './id-jag.js'
import type { Issuer } from './issuer.js'

/** The event that says: the provider no longer vouches for this subject. */
export const REVOKED_EVENT =
  'https://schemas.workos.com/events/agent/auth/identity/assertion/revoked'

/** OpenID Connect Back-Channel Logout §4 recommends two minutes at most. */
const LOGOUT_LIFETIME_SECONDS = 120

export type EventReason = 'invalid_request' | 'invalid_audience'

export interface SecurityEvent {
  subject: string
  jti: string
  revoked: boolean
}

type Checked = { ok: true; event: SecurityEvent } | { ok: false; reason: EventReason }
const no = (reason: EventReason): Checked => ({ ok: false, reason })

interface EventSettings {
  issuer: string
  skewSeconds: number
}

/** Checks a SET (`typ: secevent+jwt`). Its `iat` may be old: a late event still revokes. */
export function checkSecurityEvent(
  jwt: Jwt,
  issuer: Issuer,
  settings: EventSettings,
  now: Date,
): Checked {
  return hasType(jwt, 'secevent+jwt') ? check(jwt, issuer, settings, now) : no('invalid_request')
}

/**
 * Checks a token of the v0.2 form (`typ: logout+jwt`): no `nonce`, the revoked event among its events, and a recent
 * `iat` if it has no `exp`.
 */
export function checkLogoutToken(
  jwt: Jwt,
  issuer: Issuer,
  settings: EventSettings,
  now: Date,
): Checked {
  const { nonce, exp, iat } = jwt.payload
  if (!hasType(jwt, 'logout+jwt') || nonce !== undefined) return no('invalid_request')
  const oldest = now.getTime() / 1000 - LOGOUT_LIFETIME_SECONDS - settings.skewSeconds
  if (exp === undefined && isNumericDate(iat) && iat < oldest) return no('invalid_request')
  const checked = check(jwt, issuer, settings, now)
  // A provider that gets a 200 takes its user to be logged out (Back-Channel Logout §2.6).
  return checked.ok && !checked.event.revoked ? no('invalid_request') : checked
}

function check({ payload }: Jwt, issuer: Issuer, settings: EventSettings, now: Date): Checked {
  const { iss, aud, iat, nbf = 0, exp, jti, events } = payload
  if (iss !== issuer.issuer || !isName(jti)) return no('invalid_request')
  if (!audiences(aud).includes(settings.issuer)) return no('invalid_audience')
  const seconds = now.getTime() / 1000
  if (!isNumericDate(iat) || !isNumericDate(nbf)) return no('invalid_request')
  if (Math.max(iat, nbf) > seconds + settings.skewSeconds) return no('invalid_request')
  if (exp !== undefined && (!isNumericDate(exp) || exp <= seconds - settings.skewSeconds))
    return no('invalid_request')
  const subject = subjectKey(payload, issuer)
  if (subject === undefined) return no('invalid_request')
  if (!isObject(events)) return no('invalid_request')
  const members = Object.values(events)
  if (members.length === 0 || !members.every(isObject)) return no('invalid_request')
  return { ok: true, event: { subject, jti, revoked: Object.hasOwn(events, REVOKED_EVENT) } }
}
