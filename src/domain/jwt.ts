/**
 * A JWT's parts, parsed strictly and only once; nothing in them may be trusted before the signature is checked (RFC
 * 7519, RFC 8725 §3.14).
 */

export interface Jwt {
  header: Record<string, unknown>
  payload: Record<string, unknown>
  /** Undefined when it is not canonical base64url: no valid signature is written like that. */
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

/**
 * Undefined unless the text is canonical base64url: libraries also accept padding, white space and stray bits (RFC 4648
 * §3.5).
 */
function decode(part: string): Buffer | undefined {
  const bytes = Buffer.from(part, 'base64url')
  return bytes.toString('base64url') === part ? bytes : undefined
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/**
 * A string usable as a name in our database: 1 to 255 characters, with nothing that Postgres cannot store (NUL, lone
 * surrogates) and no other control characters.
 */
export function isName(value: unknown): value is string {
  return typeof value === 'string' && /^[^\p{Cc}\p{Cs}]{1,255}$/u.test(value)
}

/** A NumericDate of RFC 7519 §2, in seconds, and not negative. JSON.parse turns 1e400 into Infinity, which is none. */
export function isNumericDate(value: unknown): value is number {
  return typeof value === 'number' && Number.isFinite(value) && value >= 0
}

/** RFC 8725 §3.11: `typ` is compared as a media type, with or without `application/`, in any case. */
export function hasType({ header: { typ } }: Jwt, type: string): boolean {
  return typeof typ === 'string' && typ.toLowerCase().replace(/^application\//, '') === type
}

/** RFC 7519 §4.1.3: `aud` is one string or a list of them. Empty when any value is not a string. */
export function audiences(aud: unknown): string[] {
  const list = Array.isArray(aud) ? aud : [aud]
  return list.every((value) => typeof value === 'string') ? list : []
}
