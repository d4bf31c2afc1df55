/**
 * Providers on the trust list, and their signatures: verified only by the issuer's own keys, from the URL on the list
 * (RFC 8725 §3.8, §3.10).
 */
import fp from 'fastify-plugin'
import * as jose from 'jose'
import type { Issuer } from '../domain/issuer.js'
import { isName, type Jwt } from '../domain/jwt.js'
import { findIssuers, type ListedIssuer } from '../repositories/issuers.js'
import { fetchJwks } from './jwks-fetch.js'

declare module 'fastify' {
  interface FastifyInstance {
    /** The entry of the trust list that `iss` names, also if it is disabled or removed; never our own issuer. */
    listedIssuer(iss: unknown): Promise<ListedIssuer | undefined>
    /** Undefined when the signature is valid, or why it is not. `jwt` is the token, already parsed. */
    checkSignature(token: string, jwt: Jwt, issuer: Issuer): Promise<SignatureReason | undefined>
    /** Whether the issuer is known to publish a key with that `kid`, without fetching anything to find out. */
    hasKey(issuer: Issuer, kid: string): boolean
  }
}

type SignatureReason = 'wrong_algorithm' | 'unknown_key' | 'bad_signature' | 'keys_unavailable'

/** After this the keys are fetched again; while the provider is away the old ones stay in use, up to the ceiling. */
const FRESH_MS = 600_000
const CEILING_MS = 86_400_000
/** The least time between two fetches because of an unknown `kid`, and between two tries at a provider that is away. */
const COOLDOWN_MS = 30_000
const RETRY_MS = 5_000

export default fp(
  async (app) => {
    const { config, db } = app
    const find = app.batched((issuers: string[]) => findIssuers(db, issuers))
    const remotes = new Map<string, RemoteKeys>()
    const own = await find(config.ISSUER)
    if (own && !own.removed_at)
      throw new Error(
        `ISSUER is on the trust list, and nobody vouches to himself: registrar issuers remove ${config.ISSUER}`,
      )

    app.decorate('listedIssuer', async (iss) =>
      isName(iss) && iss !== config.ISSUER ? await find(iss) : undefined,
    )

    app.decorate('checkSignature', async (token, jwt, issuer) => {
      const { alg, kid, crit, b64 } = jwt.header
      if (typeof alg !== 'string' || !issuer.algorithms.includes(alg)) return 'wrong_algorithm'
      if (!jwt.signature || crit !== undefined || b64 !== undefined) return 'bad_signature'
      if (kid !== undefined && typeof kid !== 'string') return 'unknown_key'
      const keys = await remoteOf(issuer).find(kid)
      if (!keys) return 'keys_unavailable'
      if (kid === undefined && keys.kids.length > 1) return 'unknown_key'
      try {
        await jose.compactVerify(token, keys.resolve, { algorithms: [alg] })
        return undefined
      } catch (error) {
        return signatureReason(error as { code?: string })
      }
    })

    app.decorate('hasKey', (issuer, kid) => remoteOf(issuer).known()?.kids.includes(kid) ?? false)

    function remoteOf({ jwks_uri }: Issuer): RemoteKeys {
      const known = remotes.get(jwks_uri)
      if (known) return known
      const made = remoteKeys(
        () => app.call('jwks', jwks_uri, () => fetchJwks(jwks_uri, config.local)),
        (error) => app.log.warn({ err: error, jwks_uri }, 'could not fetch the keys of a provider'),
      )
      remotes.set(jwks_uri, made)
      return made
    }
  },
  { name: 'providers', dependencies: ['calls', 'database'] },
)

interface Keys {
  kids: unknown[]
  resolve: jose.LocalJWKSet
}

interface RemoteKeys {
  /**
   * The keys, fetched again if that is due, or if none of them has the `kid` `wanted`. Undefined when they, or the
   * wanted one, cannot be had now.
   */
  find(wanted?: string): Promise<Keys | undefined>
  /** The keys as last fetched, if that was within the ceiling. */
  known(): Keys | undefined
}

function remoteKeys(
  fetch: () => Promise<jose.JSONWebKeySet>,
  onFailure: (error: unknown) => void,
): RemoteKeys {
  let keys: Keys | undefined
  let fetchedAt = -Infinity
  let triedAt = -Infinity
  let failed = false
  let pending: Promise<void> | undefined

  /** One fetch at a time, however many wait for it. */
  async function load(): Promise<void> {
    triedAt = performance.now()
    try {
      const jwks = await fetch()
      keys = { kids: jwks.keys.map(({ kid }) => kid), resolve: jose.createLocalJWKSet(jwks) }
      fetchedAt = performance.now()
      failed = false
    } catch (error) {
      failed = true
      onFailure(error)
    }
    pending = undefined
  }

  const known = () => (performance.now() - fetchedAt < CEILING_MS ? keys : undefined)

  async function find(wanted?: string): Promise<Keys | undefined> {
    const lacking = () => wanted !== undefined && keys?.kids.includes(wanted) === false
    const age = performance.now() - fetchedAt
    const wait = failed || age > FRESH_MS ? RETRY_MS : COOLDOWN_MS
    if (lacking() || age > FRESH_MS)
      if (pending || performance.now() - triedAt > wait) await (pending ??= load())
    if (failed && lacking()) return undefined
    return known()
  }

  return { find, known }
}

/** By code, never by message: libraries reword their messages. */
function signatureReason({ code }: { code?: string }): SignatureReason {
  return code === 'ERR_JWKS_NO_MATCHING_KEY' || code === 'ERR_JWKS_MULTIPLE_MATCHING_KEYS'
    ? 'unknown_key'
    : 'bad_signature'
}
