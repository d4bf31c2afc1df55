/**
 * Signs and verifies our own tokens: ES256 with keys kept sealed in the database (RFC 7515, RFC 7518 §3.4). Every
 * replica looks at the database every few seconds, so that all follow a rotation; what it knows outlives a database
 * that is away.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import fp from 'fastify-plugin'
import * as jose from 'jose'
import { longestLifetimeSeconds } from '../domain/signing-key.js'
import { findKeys, type FoundKeys } from '../key-store.js'

declare module 'fastify' {
  interface FastifyInstance {
    keys: Keys
  }
}

export interface Keys {
  /** The public keys, as `/.well-known/jwks.json` shows them; another object when they change. */
  readonly jwks: jose.JSONWebKeySet
  /** Compact JWS under the key whose turn it is. */
  sign(typ: string, claims: object): Promise<string>
  /** The claims of a token that we signed with this `typ` for this audience and that has not expired. */
  verify<Claims>(token: string, expected: Expected): Promise<Verified<Claims>>
  /** Why this replica must not serve, or undefined. With the database away, as it was when it was last seen. */
  ready(): Promise<string | undefined>
}

interface Expected {
  typ: string
  audience: string
  /** Refuses tokens older than this, whatever their `exp` says. */
  maxAgeSeconds?: number
  clockToleranceSeconds?: number
}

type Verified<Claims> = { ok: true; claims: Claims } | { ok: false; reason: string }

const ALGORITHM = 'ES256'
/** RFC 8725bis §3.14: libraries accept padding, white space and line breaks that the format does not have. */
const COMPACT = /^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$/
const UNKNOWN_KEY = 'ERR_JWKS_NO_MATCHING_KEY'
const LOOK_EVERY_MS = 5_000
/** Tokens that name unknown keys cause one look in this time, however many they are. */
const UNKNOWN_KEY_PAUSE_MS = 1_000

export default fp(
  async (app) => {
    const { config, db } = app
    const lifetime = longestLifetimeSeconds(config)
    let jwks: jose.JSONWebKeySet = { keys: [] }
    let publicKeys = jose.createLocalJWKSet(jwks)
    let signing: { kid: string; key: jose.CryptoKey | Uint8Array } | undefined
    let fault: string | undefined

    async function look(): Promise<void> {
      const found = await findKeys(db, config.secrets, lifetime)
      const reason = found.ok ? await take(found) : found.reason
      if (reason !== undefined && reason !== fault) app.log.error(reason)
      fault = reason
    }

    /** Who cannot open the new key signs with the one before: the others accept it for a while. */
    async function take({ published, signing: next }: FoundKeys & { ok: true }) {
      const keys = published as unknown as jose.JWK[]
      if (JSON.stringify(keys) !== JSON.stringify(jwks.keys)) {
        jwks = { keys }
        publicKeys = jose.createLocalJWKSet(jwks)
      }
      if (next.kid === signing?.kid) return undefined
      if ('reason' in next) return next.reason
      const key = await jose.importJWK(next.privateJwk as jose.JWK, ALGORITHM)
      signing = { kid: next.kid, key }
      app.log.info({ kid: next.kid }, 'signing with this key')
      return undefined
    }

    let looking: Promise<void> | undefined
    const lookOnce = () => (looking ??= look().finally(() => (looking = undefined)))

    let asked = Promise.resolve()
    let askedAt = -Infinity
    function lookForUnknown(): Promise<void> {
      if (performance.now() - askedAt >= UNKNOWN_KEY_PAUSE_MS) {
        askedAt = performance.now()
        // One that is under way may have seen the database before the key was there.
        asked = Promise.resolve(looking?.catch(() => {})).then(lookOnce)
      }
      return asked
    }

    await look()
    if (fault !== undefined) throw new Error(fault)

    app.decorate('keys', {
      get jwks() {
        return jwks
      },
      sign: (typ, claims) =>
        new jose.SignJWT({ ...claims })
          .setProtectedHeader({ alg: ALGORITHM, typ, kid: signing!.kid })
          .sign(signing!.key),
      async verify<Claims>(token: string, expected: Expected) {
        const known = publicKeys
        const verified = await verify<Claims>(token, known, config.ISSUER, expected)
        if (verified.ok || verified.reason !== UNKNOWN_KEY) return verified
        await lookForUnknown()
        if (publicKeys === known) return verified
        return await verify<Claims>(token, publicKeys, config.ISSUER, expected)
      },
      ready: async () => {
        await lookOnce().catch(() => {})
        return fault
      },
    } satisfies Keys)

    app.readiness.push(async () => {
      await lookOnce()
      if (fault !== undefined) throw new Error(fault)
    })

    const stop = new AbortController()
    let following = Promise.resolve()
    app.addHook('onReady', async () => {
      following = follow()
    })
    app.addHook('onClose', async () => {
      stop.abort()
      await following
    })

    async function follow(): Promise<void> {
      for (;;) {
        await sleep(LOOK_EVERY_MS, undefined, { signal: stop.signal }).catch(() => {})
        if (stop.signal.aborted) return
        await lookOnce().catch((error: unknown) =>
          app.log.warn({ err: error }, 'could not look for changed signing keys'),
        )
      }
    }
  },
  { name: 'keys', dependencies: ['database', 'readiness'] },
)

async function verify<Claims>(
  token: string,
  keys: jose.JWTVerifyGetKey,
  issuer: string,
  { typ, audience, maxAgeSeconds, clockToleranceSeconds = 0 }: Expected,
): Promise<Verified<Claims>> {
  if (!COMPACT.test(token)) return { ok: false, reason: 'not a compact JWS' }
  try {
    const { payload } = await jose.jwtVerify(token, keys, {
      algorithms: [ALGORITHM],
      typ,
      issuer,
      audience,
      clockTolerance: clockToleranceSeconds,
      requiredClaims: ['sub', 'jti', 'iat', 'exp', 'generation'],
      ...(maxAgeSeconds === undefined ? {} : { maxTokenAge: maxAgeSeconds }),
    })
    return { ok: true, claims: payload as Claims }
  } catch (error) {
    if (error instanceof jose.errors.JOSEError) return { ok: false, reason: error.code }
    throw error
  }
}
