/** Where a sign-in may lead: only to our own pages (RFC 9700 §4.11). */

const PAGES = ['/claim', '/agents', '/']
const BASE = 'http://registrar.invalid'
/** Our own paths have fewer than a hundred characters. */
const MAX_LENGTH = 256

/**
 * The path and query, relative to the issuer, re-serialized by the URL parser so that what was checked is what is sent.
 * `/` for anything else, and for anything long, since cookies store it and redirects repeat it.
 */
export function safeReturnTo(value: unknown): string {
  if (typeof value !== 'string' || !value.startsWith('/')) return '/'
  try {
    const { origin, pathname, search } = new URL(value, BASE)
    const ours = origin === BASE && PAGES.includes(pathname)
    // Measured as sent: percent-encoding can turn one character into nine.
    return ours && pathname.length + search.length <= MAX_LENGTH ? pathname + search : '/'
  } catch {
    return '/'
  }
}

/**
 * The path of a sign-in that leads on to `return_to`: at one `provider`, or, with `another`, with a different account
 * from the one the provider remembers.
 */
export function loginPath(
  return_to: string,
  { provider, another = false }: { provider?: string; another?: boolean } = {},
): string {
  const at = provider === undefined ? '' : `&provider=${encodeURIComponent(provider)}`
  const prompt = another ? '&prompt=select_account' : ''
  return `/login?return_to=${encodeURIComponent(return_to)}${at}${prompt}`
}
