/**
 * Parses HTTP Basic credentials as OAuth uses them: id and secret are form-encoded before they are joined (RFC 6749
 * §2.3.1, RFC 7617). Undefined when the header is missing or malformed.
 */
export function parseBasicCredentials(
  header: string | undefined,
): { id: string; secret: string } | undefined {
  const encoded = /^basic +([A-Za-z0-9+/]+=*) *$/i.exec(header ?? '')?.[1]
  if (!encoded) return undefined
  const text = Buffer.from(encoded, 'base64').toString('utf8')
  const colon = text.indexOf(':')
  if (colon < 1) return undefined
  try {
    const id = decode(text.slice(0, colon))
    const secret = decode(text.slice(colon + 1))
    // RFC 7617 §2: no control characters. Postgres cannot store a NUL in text either.
    return /\p{Cc}/u.test(id + secret) ? undefined : { id, secret }
  } catch {
    return undefined
  }
}

const decode = (text: string) => decodeURIComponent(text.replaceAll('+', ' '))

/**
 * The header's value. Characters that need no encoding stay as they are: GitLab and others do not decode, and their
 * secrets contain hyphens.
 */
export function basicCredentials(id: string, secret: string): string {
  return `Basic ${Buffer.from(`${encode(id)}:${encode(secret)}`).toString('base64')}`
}

const encode = (text: string) => encodeURIComponent(text).replaceAll('%20', '+')
