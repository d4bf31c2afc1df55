/**
 * Our own tokens: compact JWS under ES256 (RFC 7515 §7.1, RFC 7518 §3.4), whose claims must be complete and in date
 * (RFC 7519 §4.1). Uses node:crypto, which takes half the time of WebCrypto.
 */
import {
  createPrivateKey,
  createPublicKey,
  sign,
  verify,
  type JsonWebKey,
  type KeyObject,
} from 'node:crypto'
import { hasType, isName, isNumericDate, parseJwt, type Jwt } from './jwt.js'

export interface SigningKey {
  kid: string
  key: KeyObject
}

export interface Expected {
  typ: string
  issuer: string
  audience: string
  /** Refuses tokens that are older than this, or that were issued to live longer, whatever their `exp` says. */
  maxAgeSeconds?: number
  clockToleranceSeconds?: number
}

export type RefusedReason =
  | 'not_compact'
  | 'wrong_header'
  | 'wrong_type'
  | 'unknown_key'
  | 'wrong_signature'
  | 'wrong_claims'
  | 'expired'

const ALGORITHM = 'ES256'
/** R ‖ S, not DER (RFC 7518 §3.4). */
const ENCODING = 'ieee-p1363'

export function importSigningKey(kid: string, jwk: JsonWebKey): SigningKey {
  return { kid, key: createPrivateKey({ key: jwk, format: 'jwk' }) }
}

export function importPublicKeys(jwks: JsonWebKey[]): Map<string, KeyObject> {
  return new Map(jwks.map((key) => [String(key.kid), createPublicKey({ key, format: 'jwk' })]))
}

export function signJws(typ: string, claims: object, { kid, key }: SigningKey): string {
  const content = `${encoded({ alg: ALGORITHM, typ, kid })}.${encoded(claims)}`
  const signature = sign('sha256', Buffer.from(content), { key, dsaEncoding: ENCODING })
  return `${content}.${signature.toString('base64url')}`
}

export type Refused = { ok: false; reason: RefusedReason }

/**
 * Checks a token in all but its signature, which takes far longer: nothing in `unverified` may be trusted before
 * `isSigned`, unless the caller knows otherwise that we issued this very token.
 */
export function readJws(
  token: string,
  keys: Map<string, KeyObject>,
  expected: Expected,
  now: Date,
): { ok: true; unverified: Record<string, unknown>; isSigned: () => boolean } | Refused {
  const refused = (reason: RefusedReason) => ({ ok: false as const, reason })
  const jwt = parseJwt(token)
  if (!jwt) return refused('not_compact')
  // We understand no extensions (RFC 7515 §4.1.11), and ignore keys in the header.
  if (jwt.header.alg !== ALGORITHM || jwt.header.crit !== undefined) return refused('wrong_header')
  if (!hasType(jwt, expected.typ)) return refused('wrong_type')
  const key = keyOf(jwt, keys)
  if (!key) return refused('unknown_key')
  if (!areOurs(jwt, expected)) return refused('wrong_claims')
  if (!isInTime(jwt, expected, now.getTime() / 1000)) return refused('expired')
  return { ok: true, unverified: jwt.payload, isSigned: () => isSigned(token, jwt, key) }
}

function isSigned(token: string, { signature }: Jwt, key: KeyObject): boolean {
  const content = Buffer.from(token.slice(0, token.lastIndexOf('.')))
  return !!signature && verify('sha256', content, { key, dsaEncoding: ENCODING }, signature)
}

/** Without a `kid` a token can be verified only if there is just one key. */
function keyOf({ header: { kid } }: Jwt, keys: Map<string, KeyObject>): KeyObject | undefined {
  if (kid === undefined && keys.size === 1) return keys.values().next().value
  return typeof kid === 'string' ? keys.get(kid) : undefined
}

function areOurs({ payload }: Jwt, { issuer, audience }: Expected): boolean {
  const { iss, aud, sub, jti, generation } = payload
  const named = isName(sub) && isName(jti)
  return iss === issuer && aud === audience && named && Number.isInteger(generation)
}

function isInTime(
  { payload: { iat, exp, nbf = 0 } }: Jwt,
  { maxAgeSeconds = Infinity, clockToleranceSeconds: skew = 0 }: Expected,
  now: number,
): boolean {
  if (!isNumericDate(iat) || !isNumericDate(exp) || !isNumericDate(nbf)) return false
  if (exp <= now - skew || nbf > now + skew) return false
  if (maxAgeSeconds === Infinity) return true
  const longest = maxAgeSeconds + skew
  return iat <= now + skew && now - iat <= longest && exp - iat <= longest
}

function encoded(value: object): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url')
}
