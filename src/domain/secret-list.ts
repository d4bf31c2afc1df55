/** SECRET is a list while it is rotated: which of its secrets the database knows, and which of them seals. */
import { deriveKey } from './secrets.js'
import { openSigningKey, type SealedSigningKey } from './signing-key.js'

/** Says nothing of the secret it was derived from, and differs from that of any other. */
export function secretFingerprint(secret: Buffer): string {
  return deriveKey(secret, 'fingerprint').toString('base64url')
}

export interface KnownSecret {
  fingerprint: string
  /** For so long that every replica has it by now. */
  settled: boolean
}

export function isKnown(secret: Buffer, known: KnownSecret[]): boolean {
  return rank(secret, known) !== -1
}

/** Whether one of the secrets is this database's. Keys from before there were fingerprints tell by themselves. */
export function isOwnDatabase(
  secrets: Buffer[],
  known: KnownSecret[],
  keys: SealedSigningKey[],
): boolean {
  if (known.length > 0) return secrets.some((secret) => isKnown(secret, known))
  return keys.length === 0 || keys.some((key) => openSigningKey(secrets, key))
}

/**
 * The secret that seals: the first of the list that has settled. Before that the one that is known longest, which
 * replicas that have not got the new one yet can open. `known`: the longest known first, all of the list among them.
 */
export function sealingSecret(secrets: Buffer[], known: KnownSecret[]): Buffer {
  const settled = (secret: Buffer) => known[rank(secret, known)]!.settled
  const byAge = secrets.toSorted((a, b) => rank(a, known) - rank(b, known))
  return secrets.find(settled) ?? byAge[0]!
}

/** Only ever from an older secret to a newer one: else replicas whose lists differ in order would take turns. */
export function isNewer(secret: Buffer, than: Buffer, known: KnownSecret[]): boolean {
  return rank(secret, known) > rank(than, known)
}

function rank(secret: Buffer, known: KnownSecret[]): number {
  const own = secretFingerprint(secret)
  return known.findIndex(({ fingerprint }) => fingerprint === own)
}
