/** Where a sign-in may lead: only to pages of our own (RFC 9700 §4.11). */

const PAGES = ['/claim', '/agents', '/']
const BASE = 'http://registrar.invalid'
/** Ours have a hundred characters. */
const MAX_LENGTH = 256

/**
 * The path and query after the issuer, re-serialized by the URL parser so that what was checked is what is sent;
 * `/` for anything else, and for what would make headers long: cookies keep it, and redirects repeat it.
 */
export function safeReturnTo(value: unknown): string {
  if (typeof value !== 'string' || !value.startsWith('/')) return '/'
  try {
    const { origin, pathname, search } = new URL(value, BASE)
    const ours = origin === BASE && PAGES.includes(pathname)
    // As it is sent: percent-encoding makes nine of one.
    return ours && pathname.length + search.length <= MAX_LENGTH ? pathname + search : '/'
  } catch {
    return '/'
  }
}

/** The sign-in that leads on to a page of ours: at one provider, or as another account than the one it remembers. */
export function loginPath(
  return_to: string,
  { provider, another = false }: { provider?: string; another?: boolean } = {},
): string {
  const at = provider === undefined ? '' : `&provider=${encodeURIComponent(provider)}`
  const prompt = another ? '&prompt=select_account' : ''
  return `/login?return_to=${encodeURIComponent(return_to)}${at}${prompt}`
}
