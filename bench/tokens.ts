/** Signs, without any server, what a server of ours would have signed: the key is made in its database. */
import { createPrivateKey, type KeyObject } from 'node:crypto'
import type { Config } from '../src/config.js'
import { connect } from '../src/database.js'
import { longestLifetimeSeconds } from '../src/domain/signing-key.js'
import * as tokens from '../src/domain/tokens.js'
import { findKeys } from '../src/key-store.js'
import { compact } from '../test/fixtures/provider.js'
import { registrationId } from './derived.js'

export interface Signer {
  /** Of registration number `i`. */
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
    const key = createPrivateKey({ key: signing.privateJwk, format: 'jwk' })
    return signer(config, signing.kid, key)
  } finally {
    await pool.end()
  }
}

function signer(config: Config, kid: string, key: KeyObject): Signer {
  const sign = (typ: string, claims: object) =>
    compact({ alg: 'ES256', typ, kid }, { ...claims }, key)
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
      sign(
        tokens.ASSERTION_TYP,
        tokens.assertionClaims(ISSUER, registration(i), config.ASSERTION_TTL_SECONDS, new Date()),
      ),
    accessToken: (i) =>
      sign(
        tokens.ACCESS_TOKEN_TYP,
        tokens.accessTokenClaims(
          ISSUER,
          RESOURCE,
          registration(i),
          PRE_CLAIM_SCOPES,
          config.ACCESS_TOKEN_TTL_SECONDS,
          new Date(),
        ),
      ),
  }
}
