/** SECRET is a list while it is being rotated: which of its secrets the database knows, and which one seals. */
import { deriveKey } from './secrets.js'
import { openSigningKey, type SealedSigningKey } from './signing-key.js'

/** Identifies a secret without revealing anything about it. */
export function secretFingerprint(secret: Buffer): string {
  return deriveKey(secret, 'fingerprint').toString('base64url')
}

export interface KnownSecret {
  fingerprint: string
  /** Known for so long that every replica has it by now. */
  settled: boolean
}

export function isKnown(secret: Buffer, known: KnownSecret[]): boolean {
  return rank(secret, known) !== -1
}

/**
 * Whether one of the secrets belongs to this database. One from before fingerprints existed is recognised by its
 * signing keys, one of which a secret must open; with neither it is new, and anybody's.
 */
export function isOwnDatabase(
  secrets: Buffer[],
  known: KnownSecret[],
  keys: SealedSigningKey[],
): boolean {
  if (known.length > 0) return secrets.some((secret) => isKnown(secret, known))
  return keys.length === 0 || keys.some((key) => openSigningKey(secrets, key))
}

/**
 * The secret that seals: the first of the list that has settled. If none has, the one known longest, which replicas
 * that do not have the new one yet can open. `known` holds all of `secrets`, the longest known first.
 */
export function sealingSecret(secrets: Buffer[], known: KnownSecret[]): Buffer {
  const settled = (secret: Buffer) => known[rank(secret, known)]!.settled
  const byAge = secrets.toSorted((a, b) => rank(a, known) - rank(b, known))
  return secrets.find(settled) ?? byAge[0]!
}

/**
 * Whether the database learned of `secret` after `than`. Keys are resealed only from an older secret to a newer one:
 * otherwise replicas whose lists differ in order would reseal them in turns for ever.
 */
export function isNewer(secret: Buffer, than: Buffer, known: KnownSecret[]): boolean {
  return rank(secret, known) > rank(than, known)
}

function rank(secret: Buffer, known: KnownSecret[]): number {
  const own = secretFingerprint(secret)
  return known.findIndex(({ fingerprint }) => fingerprint === own)
}
