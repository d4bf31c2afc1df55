/** What is the same in every answer, whichever part of the server gives it (PROTOCOL §3). */
import type { IncomingHttpHeaders } from 'node:http'
import { newRequestId } from './secrets.js'

export const NO_SNIFFING = { 'x-content-type-options': 'nosniff' }

/** Any origin may read the answer, without credentials. */
export const ANY_ORIGIN = {
  'access-control-allow-origin': '*',
  'access-control-expose-headers': 'WWW-Authenticate, Retry-After, RateLimit, RateLimit-Policy',
}

/** The one that the caller or a proxy gave the request, or a new one. */
export function requestId({ headers }: { headers: IncomingHttpHeaders }): string {
  const id = headers['x-request-id']
  return typeof id === 'string' && /^[A-Za-z0-9-]{1,64}$/.test(id) ? id : newRequestId()
}
