/** Identifiers and secrets, and the only forms in which secrets are stored (PROTOCOL §2). */
import { createHmac, hash, hkdfSync, randomBytes, randomInt, timingSafeEqual } from 'node:crypto'

/** Random bytes are drawn in bulk, as node:crypto does for its UUIDs: each draw costs 4 µs, however small it is. */
const DRAWN_BYTES = 4_096
let drawn = Buffer.alloc(0)
let used = 0

/** Never hands out the same bit twice. */
function random(bytes: number, encoding: 'base64url' | 'hex' = 'base64url'): string {
  if (used + bytes > drawn.length) {
    drawn = randomBytes(DRAWN_BYTES)
    used = 0
  }
  return drawn.toString(encoding, used, (used += bytes))
}

/** 128 random bits behind a prefix: an identifier, not a secret. */
export function newId(prefix: 'user_' | 'rs_' | ''): string {
  return prefix + random(16)
}

/**
 * Like `newId`, for what is created all the time: 78 random bits behind the time in milliseconds. The newest ids are
 * next to each other in every index, so that adding one touches no more pages of a large table than of a small one.
 */
export function newSortedId(prefix: 'reg_' | 'cla_', now: Date): string {
  return prefix + now.getTime().toString(32).padStart(9, '0') + random(10).slice(0, 13)
}

/** 128 random bits, in letters and digits only: identifies a request in its answer and in the log. */
export function newRequestId(): string {
  return random(16, 'hex')
}

/**
 * Whether the text could be mistaken for the id of one of our users or registrations, even by software that folds case
 * or trims. The prefix alone does not decide: some providers name all their users `user_…`, with other lengths.
 */
export function isOwnId(text: string): boolean {
  return /^\s*(user|reg)_[\w-]{22}\s*$/i.test(text)
}

/** 256 random bits behind a prefix (RFC 6749 §10.10). */
export function newSecret(prefix: 'clm_' | 'cat_' | 'rss_' | ''): string {
  return prefix + random(32)
}

/** Six uniform decimal digits, leading zeros kept. */
export function newUserCode(): string {
  return randomInt(1_000_000).toString().padStart(6, '0')
}

/** SHA-256, the form in which secrets too long to be guessed are stored. */
export function hashSecret(secret: string): Buffer {
  // Via a string: a buffer made by node:crypto gets memory of its own, which takes three times as long.
  return Buffer.from(hash('sha256', secret, 'binary'), 'binary')
}

/**
 * HMAC-SHA-256, the form in which a user code is stored. Six digits can be guessed from any plain hash, so the key
 * stays out of the database; the attempt's id makes equal codes of two attempts differ.
 */
export function userCodeMac(key: Buffer, attemptId: string, code: string): Buffer {
  return createHmac('sha256', key).update(`1|${attemptId}|${code}`).digest()
}

/**
 * Whether the code matches under any of the keys: codes made under the previous SECRET remain valid after a rotation.
 */
export function userCodeMatches(
  keys: Buffer[],
  mac: Buffer,
  attemptId: string,
  code: string,
): boolean {
  return keys.some((key) => secretsEqual(userCodeMac(key, attemptId, code), mac))
}

/** Compares in constant time; buffers of different lengths are unequal. */
export function secretsEqual(a: Buffer, b: Buffer): boolean {
  return a.length === b.length && timingSafeEqual(a, b)
}

/** Derives an independent 256-bit key for each purpose from one secret (HKDF, RFC 5869). */
export function deriveKey(
  secret: Buffer,
  purpose: 'user-code' | 'signing-key-seal' | 'csrf' | 'cookie' | 'id-token' | 'fingerprint',
): Buffer {
  return Buffer.from(hkdfSync('sha256', secret, '', `agent-registrar/${purpose}`, 32))
}
