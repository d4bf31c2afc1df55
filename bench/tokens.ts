/** Signs what a server of ours would sign, without one, with a key that it makes in the server's database. */
import type { Config } from '../src/config.js'
import { connect } from '../src/database.js'
import { importSigningKey, signJws, type SigningKey } from '../src/domain/jws.js'
import { longestLifetimeSeconds } from '../src/domain/signing-key.js'
import * as tokens from '../src/domain/tokens.js'
import { findKeys } from '../src/key-store.js'
import { registrationId } from './derived.js'

export interface Signer {
  /** For registration number `i`. */
  assertion(i: number): string
  accessToken(i: number): string
}

export async function makeSigner(databaseUrl: string, config: Config): Promise<Signer> {
  const { pool, db } = connect(databaseUrl, { max: 1, onLost: () => {} })
  try {
    const found = await findKeys(db, config.secrets, longestLifetimeSeconds(config))
    if (!found.ok) throw new Error(found.reason)
    const { signing } = found
    if ('reason' in signing) throw new Error(signing.reason)
    return signer(config, importSigningKey(signing.kid, signing.privateJwk))
  } finally {
    await pool.end()
  }
}

function signer(config: Config, key: SigningKey): Signer {
  const registration = (i: number) => ({
    id: registrationId(i),
    generation: 1,
    email: null,
    user_id: null,
    claimed_at: null,
    sign_in: null,
  })
  const { ISSUER, RESOURCE, PRE_CLAIM_SCOPES } = config
  return {
    assertion: (i) =>
      signJws(
        tokens.ASSERTION_TYP,
        tokens.assertionClaims(ISSUER, registration(i), config.ASSERTION_TTL_SECONDS, new Date()),
        key,
      ),
    accessToken: (i) =>
      signJws(
        tokens.ACCESS_TOKEN_TYP,
        tokens.accessTokenClaims(
          ISSUER,
          RESOURCE,
          registration(i),
          PRE_CLAIM_SCOPES,
          config.ACCESS_TOKEN_TTL_SECONDS,
          new Date(),
        ),
        key,
      ),
  }
}
