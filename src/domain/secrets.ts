/** Identifiers and secrets, and the only forms of them that are stored (PROTOCOL §2). */
import { createHmac, hash, hkdfSync, randomBytes, randomInt, timingSafeEqual } from 'node:crypto'

/** Drawn for many at once, as node:crypto does for its UUIDs: each draw costs 4 µs, however little it brings. */
const DRAWN_BYTES = 4_096
let drawn = Buffer.alloc(0)
let used = 0

/** No bit of it is ever handed out twice. */
function random(bytes: number, encoding: 'base64url' | 'hex' = 'base64url'): string {
  if (used + bytes > drawn.length) {
    drawn = randomBytes(DRAWN_BYTES)
    used = 0
  }
  return drawn.toString(encoding, used, (used += bytes))
}

/** 128 random bits behind a prefix: names a thing, opens nothing. */
export function newId(prefix: 'user_' | 'rs_' | ''): string {
  return prefix + random(16)
}

/**
 * As `newId`, of what is made all the time: 78 random bits behind the time. The newest stand side by side in every index,
 * so that one more touches no more pages of a large store than of a small one.
 */
export function newSortedId(prefix: 'reg_' | 'cla_', now: Date): string {
  return prefix + now.getTime().toString(32).padStart(9, '0') + random(10).slice(0, 13)
}

/** 128 random bits, of letters and digits only: of a request, in its answer and in the log. */
export function newRequestId(): string {
  return random(16, 'hex')
}

/**
 * Whether it could be taken for the id of a user or registration of ours, also by who folds case or trims. Not by its
 * prefix alone: some providers name all their users `user_…`, in other lengths.
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

/** How secrets of 256 random bits are stored and looked up. */
export function hashSecret(secret: string): Buffer {
  // As a string first: a buffer that node:crypto makes has memory of its own, and takes three times as long.
  return Buffer.from(hash('sha256', secret, 'binary'), 'binary')
}

/**
 * How a user code is stored: six digits fall to any plain hash at once, so the key stays out of the database,
 * and the attempt's id makes equal codes of two attempts differ.
 */
export function userCodeMac(key: Buffer, attemptId: string, code: string): Buffer {
  return createHmac('sha256', key).update(`1|${attemptId}|${code}`).digest()
}

/** Whether the code fits under any of the keys: a rotated SECRET still opens codes made under the one before. */
export function userCodeMatches(
  keys: Buffer[],
  mac: Buffer,
  attemptId: string,
  code: string,
): boolean {
  return keys.some((key) => secretsEqual(userCodeMac(key, attemptId, code), mac))
}

/** Compares in constant time; different lengths are just unequal. */
export function secretsEqual(a: Buffer, b: Buffer): boolean {
  return a.length === b.length && timingSafeEqual(a, b)
}

/** One independent 256-bit key for each purpose from one secret (RFC 5869). */
export function deriveKey(
  secret: Buffer,
  purpose: 'user-code' | 'signing-key-seal' | 'csrf' | 'cookie' | 'id-token' | 'fingerprint',
): Buffer {
  return Buffer.from(hkdfSync('sha256', secret, '', `agent-registrar/${purpose}`, 32))
}
