/** The signing keys in the database, for those that hold SECRET: replicas, and the operator's command. */
import type { JsonWebKey } from 'node:crypto'
import { inTransaction } from './database.js'
import * as secretList from './domain/secret-list.js'
import { newSigningKey, openSigningKey, sealSigningKey } from './domain/signing-key.js'
import { recordAudit } from './repositories/audit-events.js'
import {
  insertSecretFingerprint,
  listSecretFingerprints,
} from './repositories/secret-fingerprints.js'
import * as signingKeys from './repositories/signing-keys.js'
import type { Database, DatabaseTransaction } from './repositories/tables.js'

export type FoundKeys =
  /** Another deployment's database, or another deployment's SECRET. */
  | { ok: false; reason: string }
  | {
      ok: true
      /** Public keys, in the order in which they sign. */
      published: Record<string, string>[]
      /** The key whose turn it is to sign. Without `privateJwk`, `reason` says why this process cannot sign with it. */
      signing: { kid: string } & ({ privateJwk: JsonWebKey } | { reason: string })
    }

export const FOREIGN_SECRET =
  'SECRET is none that this database was made with. Start with the SECRET of the other replicas; a new one goes beside it in a list'

interface Found {
  keys: signingKeys.SigningKeyRow[]
  known: secretList.KnownSecret[]
}

/**
 * Finds the published keys, and the one to sign with. Makes the first key when there is none, and seals keys anew when
 * SECRET is rotated. `lifetimeSeconds`: how long what is signed may be presented.
 */
export async function findKeys(
  db: Database,
  secrets: Buffer[],
  lifetimeSeconds: number,
): Promise<FoundKeys> {
  let found: Found | undefined = await find(db)
  if (
    found.keys.length === 0 ||
    !secrets.every((secret) => secretList.isKnown(secret, found!.known))
  )
    found = await inTransaction(db, (tx) => introduce(tx, secrets))
  if (!found) return { ok: false, reason: FOREIGN_SECRET }
  const { keys, known } = found
  const under = secretList.sealingSecret(secrets, known)
  await reseal(db, secrets, keys, under, known)

  const signing = keyInTurn(keys)!
  const { kid } = signing
  const published = keys.map(({ public_jwk }) => public_jwk)
  const opened = openSigningKey(secrets, signing)
  if (!opened) return { ok: true, published, signing: { kid, reason: sealedUnderAnother(kid) } }
  if (signing.token_lifetime_seconds < lifetimeSeconds)
    await signingKeys.raiseTokenLifetime(db, kid, lifetimeSeconds)
  return { ok: true, published, signing: { kid, privateJwk: JSON.parse(opened.privateJwk) } }
}

/** The published key to sign with: the last one, if the clock of a database that took over is behind every turn. */
export function keyInTurn(
  published: signingKeys.SigningKeyRow[],
): signingKeys.SigningKeyRow | undefined {
  return published.findLast(({ status }) => status === 'signing') ?? published.at(-1)
}

async function find(db: Database): Promise<Found> {
  return { keys: await signingKeys.publishedKeys(db), known: await listSecretFingerprints(db) }
}

/** Stores new secrets' fingerprints, and makes the first key. Undefined: the database is another deployment's. */
async function introduce(tx: DatabaseTransaction, secrets: Buffer[]): Promise<Found | undefined> {
  await signingKeys.lockKeys(tx)
  const found = await find(tx)
  if (!secretList.isOwnDatabase(secrets, found.known, found.keys)) return undefined
  for (const secret of secrets.toReversed())
    await insertSecretFingerprint(tx, secretList.secretFingerprint(secret))
  if (found.keys.length === 0) await createKey(tx, secrets, 0)
  return await find(tx)
}

async function reseal(
  db: Database,
  secrets: Buffer[],
  keys: signingKeys.SigningKeyRow[],
  under: Buffer,
  known: secretList.KnownSecret[],
): Promise<void> {
  for (const key of keys) {
    const opened = openSigningKey(secrets, key)
    if (opened && secretList.isNewer(under, opened.secret, known))
      await signingKeys.replaceSeal(db, key, sealSigningKey(under, key.kid, opened.privateJwk))
  }
}

/** Seals every key under the first secret of the list now. Returns the ids of those that were under another. */
export async function resealKeys(db: Database, secrets: Buffer[]): Promise<string[]> {
  const under = secrets[0]!
  await requireOwn(db, secrets)
  return await inTransaction(db, async (tx) => {
    const done: string[] = []
    for (const key of await signingKeys.publishedKeys(tx)) {
      const opened = openSigningKey(secrets, key)
      if (!opened) throw new Error(sealedUnderAnother(key.kid))
      if (opened.secret === under) continue
      await signingKeys.replaceSeal(tx, key, sealSigningKey(under, key.kid, opened.privateJwk))
      done.push(key.kid)
    }
    return done
  })
}

async function requireOwn(db: Database, secrets: Buffer[]): Promise<void> {
  const found = await findKeys(db, secrets, 0)
  if (!found.ok) throw new Error(found.reason)
  if ('reason' in found.signing) throw new Error(found.signing.reason)
}

export function sealedUnderAnother(kid: string): string {
  return `SECRET does not open the signing key in this database: ${kid} was sealed under another one. Put that one back at the end of SECRET; registrar keys reseal seals all keys under the first`
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
  await requireOwn(db, secrets)
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
    return await createKey(tx, secrets, waitSeconds)
  })
}

/** Retires a key: nothing signed with it verifies any more. */
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
  secrets: Buffer[],
  waitSeconds: number,
): Promise<string> {
  const key = newSigningKey(secretList.sealingSecret(secrets, await listSecretFingerprints(tx)))
  const signs_from = await signingKeys.insertSigningKey(tx, key, waitSeconds)
  const details = { kid: key.kid, signs_from: signs_from.toISOString() }
  await recordAudit(tx, { event: 'key.created', details })
  return key.kid
}
