/** Where a sign-in may lead: only to pages of our own (RFC 9700 §4.11). */

const PAGES = ['/claim', '/agents', '/']
const BASE = 'http://registrar.invalid'

/**
 * The path and query after the issuer, re-serialized by the URL parser so that what was checked is what is sent;
 * `/` for anything else.
 */
export function safeReturnTo(value: unknown): string {
  if (typeof value !== 'string' || value.length > 2048 || !value.startsWith('/')) return '/'
  try {
    const { origin, pathname, search } = new URL(value, BASE)
    return origin === BASE && PAGES.includes(pathname) ? pathname + search : '/'
  } catch {
    return '/'
  }
}
