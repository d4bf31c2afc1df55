/** An entry of the trust list: a provider that we trust, and how far. */
import { isName } from './jwt.js'
import { canonicalEmail } from './login-hint.js'

export const ALGORITHMS = ['RS256', 'ES256', 'EdDSA'] as const

export interface Issuer {
  issuer: string
  /** The name that people see. */
  name: string
  jwks_uri: string
  client_ids: string[]
  algorithms: string[]
  /** Domains it may vouch for; empty: any. */
  email_domains: string[]
  /** `aud` values it may use; empty: our issuer or our resource. */
  audiences: string[]
  /** Authentication methods that must be among its `amr`. */
  required_amr: string[]
  multi_tenant: boolean
}

/**
 * What is wrong with an entry, in sentences; none when it is valid. Plain http is allowed only while our own issuer is
 * local.
 */
export function issuerFaults(entry: Issuer, own: { issuer: string; local: boolean }): string[] {
  const faults: string[] = []
  if (entry.issuer === own.issuer) faults.push('This is our own issuer: it cannot vouch to itself.')
  if (!isServerUrl(entry.issuer, own.local))
    faults.push(
      'The issuer must be an https URL without query or fragment, of at most 255 characters.',
    )
  if (!isServerUrl(entry.jwks_uri.replace(/\?[^#]*/, ''), own.local))
    faults.push('The JWKS URI must be an https URL.')
  if (entry.name.trim() === '' || entry.name.length > 100)
    faults.push('The name must have 1 to 100 characters.')
  if (!entry.email_domains.every((domain) => canonicalDomain(domain) === domain))
    faults.push('An email domain must be a bare domain, like example.com.')
  if (!entry.audiences.every((uri) => URL.canParse(uri)))
    faults.push('An audience must be an absolute URI.')
  if ([...entry.client_ids, ...entry.required_amr].some((value) => value.trim() === ''))
    faults.push('A client id or an authentication method must not be empty.')
  const unknown = entry.algorithms.filter(
    (name) => !(ALGORITHMS as readonly string[]).includes(name),
  )
  if (unknown.length > 0)
    faults.push(`Unknown algorithms: ${unknown.join(', ')}. Use ${ALGORITHMS.join(', ')}.`)
  return faults
}

/** The domain in lower case and A-labels; undefined when it cannot be an email domain. */
export function canonicalDomain(domain: string): string | undefined {
  return canonicalEmail(`x@${domain}`)?.slice(2)
}

function isServerUrl(text: string, local: boolean): boolean {
  if (!isName(text) || !/^https?:\/\/[^\s?#]+$/.test(text) || !URL.canParse(text)) return false
  const { protocol, username, password } = new URL(text)
  return (protocol === 'https:' || local) && !username && !password
}
