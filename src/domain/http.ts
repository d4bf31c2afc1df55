/** What every answer has in common, whichever part of the server gives it (PROTOCOL §3). */
import type { IncomingHttpHeaders } from 'node:http'
import { newRequestId } from './secrets.js'

export const NO_SNIFFING = { 'x-content-type-options': 'nosniff' }

/** Any origin may read the answer, without credentials. */
export const ANY_ORIGIN = {
  'access-control-allow-origin': '*',
  'access-control-expose-headers': 'WWW-Authenticate, Retry-After, RateLimit, RateLimit-Policy',
}

const HOST = /^(?:\[[\w.:%]+\]|[\w.~!$&'()*+,;=%-]*)(?::\d*)?$/

/**
 * RFC 9112 §3.2: at most one Host line, and a well-formed one. Node has already refused requests that need one and have
 * none.
 */
export function isHostValid({ rawHeaders }: { rawHeaders: string[] }): boolean {
  let host: string | undefined
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i]!
    // This runs over every header of every request, so it compares lengths first.
    if (name.length !== 4 || name.toLowerCase() !== 'host') continue
    if (host !== undefined) return false
    host = rawHeaders[i + 1]!
  }
  return host === undefined || HOST.test(host)
}

/** The `X-Request-Id` of the caller or a proxy, if it is usable (1 to 64 letters, digits and hyphens), or a new one. */
export function requestId({ headers }: { headers: IncomingHttpHeaders }): string {
  const id = headers['x-request-id']
  return typeof id === 'string' && /^[A-Za-z0-9-]{1,64}$/.test(id) ? id : newRequestId()
}
