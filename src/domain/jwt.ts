/** A JWT's parts, read strictly once; nothing in them is believed before the signature (RFC 7519, RFC 8725 §3.14). */

export interface Jwt {
  header: Record<string, unknown>
  payload: Record<string, unknown>
  /** Undefined where it is spelled as no signature is: it cannot hold. */
  signature: Buffer | undefined
}

const PARTS = /^([\w-]+)\.([\w-]+)\.([\w-]*)$/
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

export function parseJwt(token: string): Jwt | undefined {
  const [head, body, signature] = PARTS.exec(token)?.slice(1).map(decode) ?? []
  if (!head || !body) return undefined
  try {
    const header: unknown = JSON.parse(utf8.decode(head))
    const payload: unknown = JSON.parse(utf8.decode(body))
    return isObject(header) && isObject(payload) ? { header, payload, signature } : undefined
  } catch {
    return undefined
  }
}

/** Libraries accept padding, white space and stray bits that the one right spelling does not have (RFC 4648 §3.5). */
function decode(part: string): Buffer | undefined {
  const bytes = Buffer.from(part, 'base64url')
  return bytes.toString('base64url') === part ? bytes : undefined
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** A string that can name something in our database: neither empty, nor long, nor with what Postgres cannot store. */
export function isName(value: unknown): value is string {
  return typeof value === 'string' && /^[^\p{Cc}\p{Cs}]{1,255}$/u.test(value)
}

/** RFC 7519 §2 NumericDate; JSON.parse turns 1e400 into Infinity. */
export function isNumericDate(value: unknown): value is number {
  return typeof value === 'number' && Number.isFinite(value) && value >= 0
}

/** RFC 8725 §3.11: compared as a media type, with or without `application/`. */
export function hasType({ header: { typ } }: Jwt, type: string): boolean {
  return typeof typ === 'string' && typ.toLowerCase().replace(/^application\//, '') === type
}

/** RFC 7519 §4.1.3: one value, alone or in a list. */
export function audiences(aud: unknown): string[] {
  const list = Array.isArray(aud) ? aud : [aud]
  return list.every((value) => typeof value === 'string') ? list : []
}
