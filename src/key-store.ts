/** The signing keys as whoever holds SECRET finds them in the database: replicas, and the operator's command. */
import type { JsonWebKey } from 'node:crypto'
import { inTransaction } from './database.js'
import { unseal } from './domain/sealing.js'
import { newSigningKey, sealingKey } from './domain/signing-key.js'
import { recordAudit } from './repositories/audit-events.js'
import * as signingKeys from './repositories/signing-keys.js'
import type { Database, DatabaseTransaction } from './repositories/tables.js'

export interface FoundKeys {
  /** Public, the first to sign first. */
  published: Record<string, string>[]
  /** Whose turn it is to sign; absent when `fault` says why this process cannot. */
  signing?: { kid: string; privateJwk: JsonWebKey }
  fault?: string
}

/** Makes the first key when there is none. `lifetimeSeconds`: what is signed may be presented for so long. */
export async function findKeys(
  db: Database,
  secrets: Buffer[],
  lifetimeSeconds: number,
): Promise<FoundKeys> {
  let keys = await signingKeys.publishedKeys(db)
  if (keys.length === 0) keys = await inTransaction(db, (tx) => firstKey(tx, secrets[0]!))
  const published = keys.map(({ public_jwk }) => public_jwk)
  // The clock of a database that took over may be behind.
  const signing = keys.findLast(({ status }) => status === 'signing') ?? keys.at(-1)!
  const { kid, private_jwk_sealed: sealed } = signing
  const privateJwk = unseal(secrets.map(sealingKey), kid, sealed)
  if (privateJwk === undefined) {
    const fault = `SECRET does not open the signing key in this database: ${kid} was sealed under another one`
    return { published, fault }
  }
  if (signing.token_lifetime_seconds < lifetimeSeconds)
    await signingKeys.raiseTokenLifetime(db, kid, lifetimeSeconds)
  return { published, signing: { kid, privateJwk: JSON.parse(privateJwk) } }
}

async function firstKey(
  tx: DatabaseTransaction,
  secret: Buffer,
): Promise<signingKeys.SigningKeyRow[]> {
  await signingKeys.lockKeys(tx)
  const made = await signingKeys.publishedKeys(tx)
  if (made.length > 0) return made
  await createKey(tx, secret, 0)
  return await signingKeys.publishedKeys(tx)
}

/**
 * A new key, which signs after `waitSeconds` and ends the turn of the one that signs now. With no wait, keys that wait
 * for their turn are retired: they may have leaked as well. Returns its id.
 */
export async function rotateKeys(
  db: Database,
  secrets: Buffer[],
  waitSeconds: number,
): Promise<string> {
  const { fault } = await findKeys(db, secrets, 0)
  if (fault !== undefined) throw new Error(fault)
  return await inTransaction(db, async (tx) => {
    await signingKeys.lockKeys(tx)
    const keys = await signingKeys.publishedKeys(tx)
    for (const { kid, signs_from } of keys.filter(({ status }) => status === 'waiting')) {
      if (waitSeconds > 0)
        throw new Error(
          `The key ${kid} waits for its turn, which begins at ${signs_from.toISOString()}. To sign with another one at once: registrar keys rotate --now`,
        )
      await retire(tx, kid)
    }
    return await createKey(tx, secrets[0]!, waitSeconds)
  })
}

/** Nothing under this key verifies any more. */
export async function retireKey(db: Database, kid: string): Promise<void> {
  await inTransaction(db, async (tx) => {
    await signingKeys.lockKeys(tx)
    const key = (await signingKeys.publishedKeys(tx)).find((published) => published.kid === kid)
    if (!key) throw new Error(`There is no key ${kid} that verifies; see registrar keys list.`)
    if (key.status === 'signing')
      throw new Error(
        `The key ${kid} is the only one that can sign. Make another first: registrar keys rotate --now`,
      )
    await retire(tx, kid)
  })
}

async function retire(tx: DatabaseTransaction, kid: string): Promise<void> {
  await signingKeys.markRetired(tx, kid)
  await recordAudit(tx, { event: 'key.retired', details: { kid } })
}

async function createKey(
  tx: DatabaseTransaction,
  secret: Buffer,
  waitSeconds: number,
): Promise<string> {
  const key = newSigningKey(secret)
  const signs_from = await signingKeys.insertSigningKey(tx, key, waitSeconds)
  const details = { kid: key.kid, signs_from: signs_from.toISOString() }
  await recordAudit(tx, { event: 'key.created', details })
  return key.kid
}
