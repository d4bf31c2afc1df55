/** Our signing keys: ES256 (RFC 7518 §3.4), named by their thumbprints, sealed for the database. */
import { createHash, generateKeyPairSync } from 'node:crypto'
import { seal, unseal } from './sealing.js'
import { deriveKey } from './secrets.js'

export interface SealedSigningKey {
  kid: string
  public_jwk: Record<string, string>
  private_jwk_sealed: Buffer
}

/** How often a replica checks the database for changed keys. */
export const REPLICAS_LOOK_EVERY_MS = 5_000
/** By then every replica has seen a change, even with a slow database. */
const REPLICAS_FOLLOW_SECONDS = 60

/** Seconds from a key's publication to its first signature: by then no cache holds a JWKS without it. */
export function publishedAheadSeconds(maxAgeSeconds: number): number {
  return maxAgeSeconds + REPLICAS_FOLLOW_SECONDS
}

export interface TokenLifetimes {
  ASSERTION_TTL_SECONDS: number
  ACCESS_TOKEN_TTL_SECONDS: number
  CLOCK_SKEW_SECONDS: number
}

/** Seconds from the end of a key's turn to sign until everything it signed has expired, everywhere. */
export function longestLifetimeSeconds(lifetimes: TokenLifetimes): number {
  const { ASSERTION_TTL_SECONDS, ACCESS_TOKEN_TTL_SECONDS, CLOCK_SKEW_SECONDS } = lifetimes
  const longest = Math.max(ASSERTION_TTL_SECONDS, ACCESS_TOKEN_TTL_SECONDS)
  return longest + CLOCK_SKEW_SECONDS + REPLICAS_FOLLOW_SECONDS
}

export function newSigningKey(secret: Buffer): SealedSigningKey {
  const { publicKey, privateKey } = newKeyPair()
  const { kty, crv, x, y } = publicKey
  // RFC 7638 §3.2: exactly these members, in this order.
  const thumbprint = createHash('sha256').update(JSON.stringify({ crv, kty, x, y }))
  const kid = thumbprint.digest('base64url')
  // The operator's command, needed to retire a leaked key, would take such a kid for an option.
  if (kid.startsWith('-')) return newSigningKey(secret)
  return {
    kid,
    public_jwk: { kty, crv, x, y, kid, use: 'sig', alg: 'ES256' },
    private_jwk_sealed: sealSigningKey(secret, kid, JSON.stringify(privateKey)),
  }
}

interface KeyPair {
  publicKey: Record<'kty' | 'crv' | 'x' | 'y', string>
  privateKey: object
}

/**
 * Generates the pair as JWKs. On Node 20 `export()` of a pair just generated hangs for ever if garbage is collected at
 * the wrong moment.
 */
function newKeyPair(): KeyPair {
  const encoding = { publicKeyEncoding: { format: 'jwk' }, privateKeyEncoding: { format: 'jwk' } }
  const options = { namedCurve: 'P-256', ...encoding }
  // The types leave out JWK (https://nodejs.org/api/crypto.html#cryptogeneratekeypairsynctype-options).
  return generateKeyPairSync('ec', options as never) as unknown as KeyPair
}

interface OpenedSigningKey {
  /** The secret that opened it. */
  secret: Buffer
  privateJwk: string
}

/** Opens the private key with the first of the secrets that can; undefined when none can. */
export function openSigningKey(
  secrets: Buffer[],
  { kid, private_jwk_sealed }: SealedSigningKey,
): OpenedSigningKey | undefined {
  for (const secret of secrets) {
    const privateJwk = unseal([sealingKey(secret)], kid, private_jwk_sealed)
    if (privateJwk !== undefined) return { secret, privateJwk }
  }
  return undefined
}

export function sealSigningKey(secret: Buffer, kid: string, privateJwk: string): Buffer {
  return seal(sealingKey(secret), kid, privateJwk)
}

function sealingKey(secret: Buffer): Buffer {
  return deriveKey(secret, 'signing-key-seal')
}
