/**
 * Authenticated encryption (AES-256-GCM) of values that are stored where others could read them, each bound to a name.
 */
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto'

const NONCE_BYTES = 12
const TAG_BYTES = 16

/** Returns nonce ‖ tag ‖ ciphertext. `name` is authenticated: a sealed value moved to another name does not open. */
export function seal(key: Buffer, name: string, plain: string): Buffer {
  const nonce = randomBytes(NONCE_BYTES)
  const cipher = createCipheriv('aes-256-gcm', key, nonce).setAAD(Buffer.from(name))
  const body = Buffer.concat([cipher.update(plain, 'utf8'), cipher.final()])
  return Buffer.concat([nonce, cipher.getAuthTag(), body])
}

/** The plain text, by the first of the keys that opens it; undefined when none does. */
export function unseal(keys: Buffer[], name: string, sealed: Buffer): string | undefined {
  for (const key of keys) {
    try {
      // With its length fixed, a truncated tag throws; GCM would accept one of four octets.
      const decipher = createDecipheriv('aes-256-gcm', key, sealed.subarray(0, NONCE_BYTES), {
        authTagLength: TAG_BYTES,
      })
      decipher.setAAD(Buffer.from(name))
      decipher.setAuthTag(sealed.subarray(NONCE_BYTES, NONCE_BYTES + TAG_BYTES))
      const plain = decipher.update(sealed.subarray(NONCE_BYTES + TAG_BYTES))
      return Buffer.concat([plain, decipher.final()]).toString('utf8')
    } catch {
      continue
    }
  }
  return undefined
}
