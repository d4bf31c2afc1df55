/** Signs and verifies our own tokens: ES256 with keys kept sealed in the database (RFC 7515, RFC 7518 §3.4). */
import fp from 'fastify-plugin'
import * as jose from 'jose'
import { deriveKey } from '../domain/secrets.js'
import { seal, unseal } from '../domain/sealing.js'
import { loadSigningKeys, type SigningKeyRow } from '../repositories/signing-keys.js'

declare module 'fastify' {
  interface FastifyInstance {
    keys: Keys
  }
}

export interface Keys {
  /** The public keys, as `/.well-known/jwks.json` shows them. */
  jwks: jose.JSONWebKeySet
  /** Compact JWS under the newest key. */
  sign(typ: string, claims: object): Promise<string>
  /** The claims of a token that we signed with this `typ` for this audience and that has not expired. */
  verify<Claims>(token: string, expected: Expected): Promise<Verified<Claims>>
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

export default fp(
  async (app) => {
    const sealingKeys = app.config.secrets.map((secret) => deriveKey(secret, 'signing-key-seal'))
    const rows = await app.transaction(async (tx) =>
      loadSigningKeys(tx, async () => createKey(sealingKeys[0]!)),
    )
    const signing = rows.at(-1)!
    const privateJwk = unseal(sealingKeys, signing.kid, signing.private_jwk_sealed)
    if (privateJwk === undefined)
      throw new Error(
        'SECRET does not open the signing key in this database: it was made under another one',
      )
    const privateKey = await jose.importJWK(JSON.parse(privateJwk), ALGORITHM)
    const jwks = { keys: rows.map(({ public_jwk }) => public_jwk as unknown as jose.JWK) }
    const publicKeys = jose.createLocalJWKSet(jwks)
    app.decorate('keys', {
      jwks,
      sign: (typ, claims) =>
        new jose.SignJWT({ ...claims })
          .setProtectedHeader({ alg: ALGORITHM, typ, kid: signing.kid })
          .sign(privateKey),
      verify: (token, expected) => verify(token, publicKeys, app.config.ISSUER, expected),
    } satisfies Keys)
  },
  { name: 'keys', dependencies: ['database'] },
)

async function createKey(sealingKey: Buffer): Promise<SigningKeyRow> {
  const pair = await jose.generateKeyPair(ALGORITHM, { extractable: true })
  const publicJwk = await jose.exportJWK(pair.publicKey)
  const kid = await jose.calculateJwkThumbprint(publicJwk)
  const privateJwk = JSON.stringify(await jose.exportJWK(pair.privateKey))
  return {
    kid,
    public_jwk: { ...(publicJwk as Record<string, string>), kid, use: 'sig', alg: ALGORITHM },
    private_jwk_sealed: seal(sealingKey, kid, privateJwk),
  }
}

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
