/** Signs what a server of ours would sign, without one, with a key that it makes in the server's database. */
import type { Config } from '../src/config.js'
import { connect } from '../src/database.js'
import { importSigningKey, signJws, type SigningKey } from '../src/domain/jws.js'
import { hashSecret } from '../src/domain/secrets.js'
import { longestLifetimeSeconds } from '../src/domain/signing-key.js'
import * as tokens from '../src/domain/tokens.js'
import { findKeys } from '../src/key-store.js'
import { registrationId } from './derived.js'

export interface Signer {
  /** For registration number `i`. */
  accessToken(i: number): string
  /** Likewise; put on record, as a registration with a claim token does with the one that it issued. */
  assertions(numbers: number[]): Promise<string[]>
}

export async function makeSigner(databaseUrl: string, config: Config): Promise<Signer> {
  const { pool, db } = connect(databaseUrl, { max: 1, onLost: () => {} })
  try {
    const found = await findKeys(db, config.secrets, longestLifetimeSeconds(config))
    if (!found.ok) throw new Error(found.reason)
    const { signing } = found
    if ('reason' in signing) throw new Error(signing.reason)
    return signer(databaseUrl, config, importSigningKey(signing.kid, signing.privateJwk))
  } finally {
    await pool.end()
  }
}

function signer(databaseUrl: string, config: Config, key: SigningKey): Signer {
  const registration = (i: number) => ({
    id: registrationId(i),
    generation: 1,
    email: null,
    user_id: null,
    claimed_at: null,
    sign_in: null,
  })
  const { ISSUER, RESOURCE, PRE_CLAIM_SCOPES } = config
  const lifetime = config.ASSERTION_TTL_SECONDS
  const assertion = (i: number) =>
    signJws(
      tokens.ASSERTION_TYP,
      tokens.assertionClaims(ISSUER, registration(i), lifetime, new Date()),
      key,
    )
  return {
    async assertions(numbers) {
      const made = numbers.map(assertion)
      const hashes = made.map((text, i) => ({
        id: registrationId(numbers[i]!),
        hash: hashSecret(text).toString('hex'),
      }))
      await putOnRecord(databaseUrl, hashes)
      return made
    },
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

async function putOnRecord(databaseUrl: string, hashes: { id: string; hash: string }[]) {
  const { pool } = connect(databaseUrl, { max: 1, onLost: () => {} })
  try {
    await pool.query(
      `update registrations set assertion_hash = decode(hash, 'hex')
       from jsonb_to_recordset($1) as made (id text, hash text)
       where registrations.id = made.id and claim_token_hash is not null`,
      [JSON.stringify(hashes)],
    )
  } finally {
    await pool.end()
  }
}
