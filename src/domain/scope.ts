/** Scopes: what a registration may have, and what a request narrows it to (RFC 6749 §3.3). */

/** Scope tokens with a single space between them and none around them. */
const SCOPE = /^[\x21\x23-\x5B\x5D-\x7E]+( [\x21\x23-\x5B\x5D-\x7E]+)*$/

/** `requested` may narrow what is allowed, never widen it. Undefined when it is malformed or none of it is allowed. */
export function narrowScope(
  allowed: string[],
  requested: string | undefined,
): string[] | undefined {
  if (requested === undefined) return allowed
  if (!SCOPE.test(requested)) return undefined
  const wanted = new Set(requested.split(' '))
  const granted = allowed.filter((scope) => wanted.has(scope))
  return granted.length > 0 ? granted : undefined
}

/** The scopes offered here, without those that the provider left out. */
export function grantableScopes(offered: string[], narrowed: string[] | null): string[] {
  return narrowed ? offered.filter((scope) => narrowed.includes(scope)) : offered
}
