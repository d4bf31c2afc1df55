/** Fetches a provider's JWKS: without redirects, limited in time and size, never from an address inside our network. */
import { lookup } from 'node:dns'
import { request as httpRequest, type IncomingMessage } from 'node:http'
import { request as httpsRequest, type RequestOptions } from 'node:https'
import { BlockList, isIP, type LookupFunction } from 'node:net'
import type { JSONWebKeySet } from 'jose'
import { isObject } from '../domain/jwt.js'

const MAX_BYTES = 65_536
/** For the whole exchange, from the name's resolution to the last byte. */
const TIMEOUT_MS = 3_000

const HEADERS = {
  accept: 'application/jwk-set+json, application/json',
  // Without this header every coding is acceptable (RFC 9110 §12.5.3).
  'accept-encoding': 'identity',
  // The firewalls of some providers and CDNs refuse clients that do not say what they are.
  'user-agent': 'agent-registrar',
}

/** Special-use addresses (RFC 6890): whoever can name a host must not reach what only we can reach. */
const INSIDE = new BlockList()
for (const [network, prefix] of [
  ['0.0.0.0', 8],
  ['10.0.0.0', 8],
  ['100.64.0.0', 10],
  ['127.0.0.0', 8],
  ['169.254.0.0', 16],
  ['172.16.0.0', 12],
  ['192.0.0.0', 24],
  ['192.0.2.0', 24],
  ['192.88.99.0', 24],
  ['192.168.0.0', 16],
  ['198.18.0.0', 15],
  ['198.51.100.0', 24],
  ['203.0.113.0', 24],
  ['224.0.0.0', 4],
  ['240.0.0.0', 4],
] as const)
  INSIDE.addSubnet(network, prefix)
for (const [network, prefix] of [
  ['2001::', 23],
  ['2001:db8::', 32],
  ['2002::', 16],
  ['3fff::', 20],
] as const)
  INSIDE.addSubnet(network, prefix, 'ipv6')

/** The globally routed part of IPv6: no IPv4 address in disguise, nothing link-local or site-local. */
const GLOBAL_UNICAST = new BlockList()
GLOBAL_UNICAST.addSubnet('2000::', 3, 'ipv6')

export function isInside(address: string): boolean {
  return isIP(address) === 6
    ? !GLOBAL_UNICAST.check(address, 'ipv6') || INSIDE.check(address, 'ipv6')
    : INSIDE.check(address)
}

const refused = () => new Error('the address is not a public one')

/**
 * Checks the addresses at the moment of connecting, so that a name cannot resolve to one address for the check and
 * another for the connection.
 */
export const publicLookup: LookupFunction = (hostname, options, callback) => {
  lookup(hostname, { ...options, all: true }, (error, addresses) => {
    if (error) return callback(error, '')
    if (addresses.some(({ address }) => isInside(address))) return callback(refused(), '')
    return options.all
      ? callback(null, addresses)
      : callback(null, addresses[0]!.address, addresses[0]!.family)
  })
}

/**
 * Resolves with the usable keys; rejects on any failure. `local`: our own issuer is on this machine, so http and
 * addresses in our network are allowed.
 */
export async function fetchJwks(uri: string, local: boolean): Promise<JSONWebKeySet> {
  const url = new URL(uri)
  const host = url.hostname.replace(/^\[|\]$/g, '')
  if (!local && (url.protocol !== 'https:' || (isIP(host) && isInside(host)))) throw refused()
  const response = await get(url, local ? {} : { lookup: publicLookup })
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of response as AsyncIterable<Buffer>) {
    bytes += chunk.length
    if (bytes > MAX_BYTES) throw new Error('the JWKS is too large')
    chunks.push(chunk)
  }
  if (response.statusCode !== 200) throw new Error(`HTTP status ${response.statusCode}`)
  return usableKeys(Buffer.concat(chunks).toString('utf8'))
}

function get(url: URL, options: RequestOptions): Promise<IncomingMessage> {
  const send = url.protocol === 'https:' ? httpsRequest : httpRequest
  return new Promise((resolve, reject) => {
    send(url, {
      headers: HEADERS,
      signal: AbortSignal.timeout(TIMEOUT_MS),
      ...options,
    })
      .on('response', resolve)
      .on('error', reject)
      // A change of protocol (101) is neither response nor error.
      .on('close', () => reject(new Error('no response')))
      .end()
  })
}

/** Whether it is a JWK Set (RFC 7517 §5). */
export function isJwks(value: unknown): value is JSONWebKeySet {
  return isObject(value) && Array.isArray(value.keys)
}

/** Only public signing keys of the kinds that we know, long enough, and not declared to be for anything else. */
function usableKeys(text: string): JSONWebKeySet {
  const jwks: unknown = JSON.parse(text)
  if (!isJwks(jwks)) throw new Error('not a JWKS')
  return { keys: jwks.keys.filter(isUsable) }
}

/** Members that only a private or symmetric key has (RFC 7518 §6). */
const SECRET_MEMBERS = ['d', 'p', 'q', 'dp', 'dq', 'qi', 'oth', 'k']

function isUsable(jwk: unknown): boolean {
  if (!isObject(jwk) || SECRET_MEMBERS.some((member) => member in jwk)) return false
  const { kty, crv, n, alg, use, kid } = jwk
  if (use !== undefined && use !== 'sig') return false
  if (kid !== undefined && typeof kid !== 'string') return false
  const algorithm = (name: string) => alg === undefined || alg === name
  switch (kty) {
    case 'RSA':
      return (
        typeof n === 'string' && Buffer.from(n, 'base64url').length >= 256 && algorithm('RS256')
      )
    case 'EC':
      return crv === 'P-256' && algorithm('ES256')
    case 'OKP':
      return crv === 'Ed25519' && algorithm('EdDSA')
    default:
      return false
  }
}
