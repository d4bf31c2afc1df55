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

/** The sign-in that leads on to a page of ours: at one provider, or as another account than the one it remembers. */
export function loginPath(
  return_to: string,
  { provider, another = false }: { provider?: string; another?: boolean } = {},
): string {
  const at = provider === undefined ? '' : `&provider=${encodeURIComponent(provider)}`
  const prompt = another ? '&prompt=select_account' : ''
  return `/login?return_to=${encodeURIComponent(return_to)}${at}${prompt}`
}
