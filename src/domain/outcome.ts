/**
 * How the log, the metrics and the traces classify a request: by names from short lists, never by what the caller sent.
 */

export type Surface =
  | 'identity'
  | 'claim'
  | 'token'
  | 'revoke'
  | 'introspect'
  | 'events'
  | 'discovery'
  | 'api'
  | 'health'
  | 'pages'
  /** No route: an unknown path, a wrong method, a preflight. */
  | 'none'

const SURFACES: [RegExp, Surface][] = [
  [/^\/agent\/identity$/, 'identity'],
  [/^\/agent\/identity\/claim$/, 'claim'],
  [/^\/agent\/(event\/notify|auth\/revoke)$/, 'events'],
  [/^\/oauth2\/token$/, 'token'],
  [/^\/oauth2\/revoke$/, 'revoke'],
  [/^\/oauth2\/introspect$/, 'introspect'],
  [/^\/api\//, 'api'],
  [/^\/(healthz|readyz)$/, 'health'],
  [/^\/(\.well-known\/.+|auth\.md)$/, 'discovery'],
]

/** The surface of a route, by its pattern without the issuer's path. Every other route is a page for people. */
export function surfaceOf(pattern: string): Surface {
  return SURFACES.find(([patterns]) => patterns.test(pattern))?.[1] ?? 'pages'
}

export type Outcome =
  | 'ok'
  | 'refused'
  | 'rate_limited'
  | 'unavailable'
  | 'error'
  /** The caller hung up before the answer. */
  | 'aborted'

export function outcomeOf(status: number): Outcome {
  if (status < 400) return 'ok'
  if (status === 429) return 'rate_limited'
  if (status === 503) return 'unavailable'
  return status < 500 ? 'refused' : 'error'
}
