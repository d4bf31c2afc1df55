/**
 * Signs and verifies our own tokens: ES256 with keys kept sealed in the database (RFC 7515, RFC 7518 §3.4). Every
 * replica checks the database every few seconds, so that all follow a rotation; the keys it has loaded stay in use
 * while the database is away.
 */
import fp from 'fastify-plugin'
import { inBackground, pause } from '../background.js'
import * as jws from '../domain/jws.js'
import { longestLifetimeSeconds, REPLICAS_LOOK_EVERY_MS } from '../domain/signing-key.js'
import { ASSERTION_TYP, assertionClaims, isoSeconds } from '../domain/tokens.js'
import { findKeys, type FoundKeys } from '../key-store.js'

declare module 'fastify' {
  interface FastifyInstance {
    keys: Keys
  }
}

export interface Keys {
  /** The public keys, as `/.well-known/jwks.json` shows them; a new object whenever they change. */
  readonly jwks: { keys: Record<string, string>[] }
  /** Signs a compact JWS with the key whose turn it is. */
  sign(typ: string, claims: object): string
  /** A new identity assertion for the registration, and its expiry in ISO 8601, as answers carry them. */
  identityAssertion(registration: Parameters<typeof assertionClaims>[1]): {
    identity_assertion: string
    assertion_expires: string
  }
  /**
   * The claims of a token that we signed with this `typ` for this audience and that has not expired; otherwise the
   * reason.
   */
  verify<Claims>(token: string, expected: Expected): Promise<Verified<Claims>>
  /** Like `verify`, but leaves the signature to the caller: see `readJws`. */
  read<Claims>(token: string, expected: Expected): Promise<Read<Claims>>
  /** Checks the database now. Throws when that fails, or finds keys with which this replica must not serve. */
  check(): Promise<void>
}

type Expected = Omit<jws.Expected, 'issuer'>
type Verified<Claims> = { ok: true; claims: Claims } | jws.Refused
type Read<Claims> = { ok: true; unverified: Claims; isSigned: () => boolean } | jws.Refused

/** However many tokens name unknown keys, they cause one look at the database in this time. */
const UNKNOWN_KEY_PAUSE_MS = 1_000

export default fp(
  async (app) => {
    const { config, db } = app
    const lifetime = longestLifetimeSeconds(config)
    let jwks: Keys['jwks'] = { keys: [] }
    let publicKeys = jws.importPublicKeys(jwks.keys)
    let signing: jws.SigningKey | undefined
    let fault: string | undefined

    async function look(): Promise<void> {
      const found = await findKeys(db, config.secrets, lifetime)
      const reason = found.ok ? take(found) : found.reason
      if (reason !== undefined && reason !== fault) app.log.error(reason)
      fault = reason
    }

    /** A replica that cannot open the new key signs with the one before, which the others accept for a while. */
    function take({ published: keys, signing: next }: FoundKeys & { ok: true }) {
      if (JSON.stringify(keys) !== JSON.stringify(jwks.keys)) {
        jwks = { keys }
        publicKeys = jws.importPublicKeys(keys)
      }
      if (next.kid === signing?.kid) return undefined
      if ('reason' in next) return next.reason
      signing = jws.importSigningKey(next.kid, next.privateJwk)
      app.log.info({ kid: next.kid }, 'signing with this key')
      return undefined
    }

    let looking: Promise<void> | undefined
    const lookOnce = () => (looking ??= look().finally(() => (looking = undefined)))

    function readNow<Claims>(token: string, expected: Expected): Read<Claims> {
      const own = { ...expected, issuer: config.ISSUER }
      return jws.readJws(token, publicKeys, own, new Date()) as Read<Claims>
    }

    async function read<Claims>(token: string, expected: Expected): Promise<Read<Claims>> {
      const known = publicKeys
      const result = readNow<Claims>(token, expected)
      if (result.ok || result.reason !== 'unknown_key') return result
      await lookForUnknown()
      return publicKeys === known ? result : readNow<Claims>(token, expected)
    }

    let asked = Promise.resolve()
    let askedAt = -Infinity
    function lookForUnknown(): Promise<void> {
      if (performance.now() - askedAt >= UNKNOWN_KEY_PAUSE_MS) {
        askedAt = performance.now()
        // A look that is under way may have read the database before the key was there.
        asked = Promise.resolve(looking?.catch(() => {})).then(lookOnce)
      }
      return asked
    }

    async function check(): Promise<void> {
      await lookOnce()
      if (fault !== undefined) throw new Error(fault)
    }
    await check()

    app.decorate('keys', {
      get jwks() {
        return jwks
      },
      sign: (typ, claims) => jws.signJws(typ, claims, signing!),
      identityAssertion(registration) {
        const { ISSUER, ASSERTION_TTL_SECONDS } = config
        const claims = assertionClaims(ISSUER, registration, ASSERTION_TTL_SECONDS, new Date())
        return {
          identity_assertion: jws.signJws(ASSERTION_TYP, claims, signing!),
          assertion_expires: isoSeconds(claims.exp),
        }
      },
      read,
      async verify<Claims>(token: string, expected: Expected): Promise<Verified<Claims>> {
        const result = await read<Claims>(token, expected)
        if (!result.ok) return result
        return result.isSigned()
          ? { ok: true, claims: result.unverified }
          : { ok: false, reason: 'wrong_signature' }
      },
      check,
    } satisfies Keys)
    app.readiness.push(check)

    inBackground(app, async (stop) => {
      for (;;) {
        await pause(REPLICAS_LOOK_EVERY_MS, stop)
        if (stop.aborted) return
        await lookOnce().catch((error: unknown) =>
          app.log.warn({ err: error }, 'could not look for changed signing keys'),
        )
      }
    })
  },
  { name: 'keys', dependencies: ['database', 'readiness'] },
)
