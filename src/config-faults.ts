/** What is wrong with settings: each by itself, in words; in combination; and what their URLs may look like. */
import { isIP } from 'node:net'
import type { TSchema } from '@sinclair/typebox'
import { ValueErrorType, type ValueError } from '@sinclair/typebox/value'
import pg from 'pg'
import type { Config } from './config.js'
import { accentFault } from './domain/color.js'

/**
 * Faults of settings in combination. Reads only what is safe to read although refused: SCOPES is not, unless
 * `scopesRead`.
 */
export function crossFaults(config: Config, scopesRead: boolean): string[] {
  const faults = [
    ...urlFaults(config),
    ...databaseFaults(config),
    ...signInFaults(config),
    ...brandFaults(config),
  ]
  if (scopesRead) {
    const unknown = config.PRE_CLAIM_SCOPES.filter((scope) => !Object.hasOwn(config.SCOPES, scope))
    if (unknown.length > 0) faults.push(`PRE_CLAIM_SCOPES: ${unknown.join(', ')} not in SCOPES`)
  }
  if (!URL.canParse(config.OTEL_EXPORTER_OTLP_ENDPOINT ?? 'http://localhost'))
    faults.push('OTEL_EXPORTER_OTLP_ENDPOINT: not a URL')
  if (config.METRICS_PORT && config.METRICS_PORT === config.PORT)
    faults.push('METRICS_PORT: must differ from PORT, which is for everyone')
  const base64 = config.SECRET.every((text) => /^[\w+/-]+=*$/.test(text))
  if (!base64 || config.secrets.some((secret) => secret.length < 32 || new Set(secret).size < 16))
    faults.push('SECRET: at least 32 random bytes in base64; make one with openssl rand -base64 32')
  const hops = config.TRUST_PROXY.length === 1 && /^\d+$/.test(config.TRUST_PROXY[0]!)
  if (!hops && !config.TRUST_PROXY.every(isNetwork))
    faults.push('TRUST_PROXY: either one hop count or a list of addresses and networks')
  if (config.local) return faults
  if (config.secrets.length === 0)
    faults.push('SECRET: required off localhost; make one with openssl rand -base64 32')
  if (!config.DATABASE_URL)
    faults.push('DATABASE_URL: required off localhost; the embedded Postgres is for trying things')
  if (config.SIGN_IN === 'development')
    faults.push('SIGN_IN: the development sign-in lets anyone in; only for an ISSUER on localhost')
  return faults
}

function urlFaults({ ISSUER, RESOURCE, local }: Config): string[] {
  const faults: string[] = []
  const issuer = parseUrl(ISSUER)
  if (!issuer) faults.push('ISSUER: not a URL')
  else if (issuer.protocol !== 'https:' && !local)
    faults.push('ISSUER: https is required off localhost')
  else if (issuer.href.replace(/\/$/, '') !== ISSUER || /[?#@]/.test(ISSUER))
    faults.push(
      `ISSUER: write it without user, trailing slash, query or fragment: ${issuer.origin}${issuer.pathname.replace(/\/+$/, '')}`,
    )
  // Other characters would mean something to the router, which serves everything below this path.
  else if (!/^[\w.~/-]*$/.test(issuer.pathname))
    faults.push('ISSUER: only letters, digits and . _ ~ - in its path')
  // The default RESOURCE repeats the issuer's fault.
  if (faults.length > 0 && RESOURCE === `${ISSUER}/api`) return faults
  const resource = parseUrl(RESOURCE)
  // The router compares decoded paths, so a path with an escape would never match.
  if (!resource || /[?#%\s]|\/\/[^/]*@/.test(RESOURCE))
    faults.push('RESOURCE: an absolute URL without user, query, fragment or escapes')
  else if (resource.protocol !== 'https:' && !isLocal(RESOURCE))
    faults.push('RESOURCE: https is required off localhost')
  // Access tokens and assertions must not have the same audience.
  else if (RESOURCE === ISSUER) faults.push('RESOURCE: must differ from ISSUER')
  return faults
}

/** Parsed by pg, which will use it, and not repeated in the fault: it contains a password. */
function databaseFaults({ DATABASE_URL: url }: Config): string[] {
  if (!url?.startsWith('postgres')) return []
  try {
    // This does not connect yet, and ignores what follows a #.
    const { port } = new pg.Client({ connectionString: url })
    if (port <= 65_535 && !url.includes('#')) return []
  } catch (error) {
    const { message, path } = error as NodeJS.ErrnoException
    // A file that the URL names, such as sslrootcert, cannot be read.
    if (path !== undefined) return [`DATABASE_URL: ${message}`]
  }
  return [
    'DATABASE_URL: not a URL; percent-encode special characters in user and password, as %23 for #, and give a port of at most 65535',
  ]
}

/** Does not repeat the URL: people write passwords into them. */
function providerFault(issuer: string, { ISSUER, local }: Config): string | undefined {
  const url = parseUrl(issuer)
  if (!url || /[?#\s]|\/\/[^/]*@/.test(issuer))
    return 'an absolute URL without user, query or fragment'
  if (url.protocol !== 'https:' && !(local && isLocal(issuer)))
    return 'https is required off localhost'
  return url.href.replace(/\/$/, '') === ISSUER ? 'must not be our own ISSUER' : undefined
}

function signInFaults(config: Config): string[] {
  const { SIGN_IN, OIDC_ISSUER, OIDC_CLIENT_ID, OIDC_CLIENT_SECRET, oidcProviders } = config
  // A value that is not a list has a fault already.
  const listed = Array.isArray(config.OIDC_PROVIDERS) ? config.OIDC_PROVIDERS.length : undefined
  const faults: string[] = []
  if (OIDC_ISSUER && listed)
    faults.push('OIDC_ISSUER: not together with OIDC_PROVIDERS, which lists every provider')
  if (OIDC_ISSUER && !OIDC_CLIENT_ID) faults.push('OIDC_CLIENT_ID: required with OIDC_ISSUER')
  if (!OIDC_ISSUER && (OIDC_CLIENT_ID || OIDC_CLIENT_SECRET))
    faults.push('OIDC_ISSUER: required with OIDC_CLIENT_ID and OIDC_CLIENT_SECRET')
  else if (SIGN_IN === 'oidc' && !OIDC_ISSUER && listed === 0)
    faults.push('OIDC_ISSUER or OIDC_PROVIDERS: required for SIGN_IN=oidc')
  const issuers = oidcProviders.map(({ issuer }) => issuer)
  for (const [i, issuer] of issuers.entries()) {
    const fault = providerFault(issuer, config)
    if (fault)
      faults.push(`${OIDC_ISSUER ? 'OIDC_ISSUER' : `OIDC_PROVIDERS item ${i}/issuer`}: ${fault}`)
  }
  if (new Set(issuers).size < issuers.length)
    faults.push('OIDC_PROVIDERS: an issuer is there twice')
  const many = SIGN_IN === 'oidc' && issuers.length > 1
  if (config.TOKEN_SUBJECT === 'sign_in' && (SIGN_IN === 'none' || many))
    faults.push('TOKEN_SUBJECT: sign_in needs one provider that people sign in with')
  return faults
}

function brandFaults({ BRAND_LOGO_URI: logo, BRAND_COLOR: color, local }: Config): string[] {
  const faults: string[] = []
  const { protocol, username, password } = parseUrl(logo ?? 'data:') ?? {}
  if (!/^(data|file|https?):$/.test(protocol ?? '') || username || password)
    faults.push('BRAND_LOGO_URI: a data:, file: or https: URL without user')
  else if (protocol === 'http:' && !local)
    faults.push('BRAND_LOGO_URI: https is required off localhost')
  const fault = color !== undefined && /^#[\da-f]{6}$/i.test(color) && accentFault(color)
  if (fault)
    faults.push(
      `BRAND_COLOR: ${color} on white has a contrast of ${Math.floor(fault.ratio * 100) / 100}:1, and text needs 4.5:1; the nearest colour that works is ${fault.nearest}`,
    )
  return faults
}

/** Whether `text` is an address, or an address with a prefix length. */
function isNetwork(text: string): boolean {
  const [address = '', length, more] = text.split('/')
  const bits = { 0: 0, 4: 32, 6: 128 }[isIP(address)]!
  return (
    bits > 0 &&
    more === undefined &&
    (length === undefined || (/^[1-9]\d*$/.test(length) && Number(length) <= bits))
  )
}

export function isLocal(url: string): boolean {
  const { protocol = '', hostname = '' }: Partial<URL> = parseUrl(url) ?? {}
  return (
    /^https?:$/.test(protocol) && /^(localhost|.+\.localhost|127(\.\d+){3}|\[::1\])$/.test(hostname)
  )
}

export function parseUrl(text: string): URL | undefined {
  return URL.canParse(text) ? new URL(text) : undefined
}

/** What is wrong with one setting, for whoever wrote it. `expected` of a schema is its pattern in words. */
export function inWords({ type, message, schema, value }: ValueError): string {
  const inQuotes = typeof value === 'string' ? ': this is not JSON, or has quotes around it' : ''
  switch (type) {
    case ValueErrorType.Union:
      return `Expected one of ${schema.anyOf.map((choice: TSchema) => choice.const).join(', ')}`
    case ValueErrorType.StringPattern:
      return `Expected ${schema.expected}`
    case ValueErrorType.Integer:
      return 'Expected a whole number, without unit or spaces'
    case ValueErrorType.Object:
      return `Expected a JSON object${inQuotes}`
    case ValueErrorType.Array:
      return `Expected a JSON list${inQuotes}`
    default:
      return message
  }
}
