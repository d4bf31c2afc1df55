/** The secrets that this database knows, by their fingerprints. */
import { sql } from 'kysely'
import type { KnownSecret } from '../domain/secret-list.js'
import type { Database, DatabaseTransaction } from './tables.js'

/** Longer than a rollout, which brings a new secret to all replicas. */
const SETTLED = sql<boolean>`created_at <= statement_timestamp() - interval '1 hour'`

/** All fingerprints, the longest known first. */
export async function listSecretFingerprints(db: Database): Promise<KnownSecret[]> {
  return await db
    .selectFrom('secret_fingerprints')
    .select(['fingerprint', SETTLED.as('settled')])
    .orderBy('created_at')
    .execute()
}

export async function insertSecretFingerprint(
  tx: DatabaseTransaction,
  fingerprint: string,
): Promise<void> {
  await tx
    .insertInto('secret_fingerprints')
    .values({ fingerprint })
    .onConflict((conflict) => conflict.doNothing())
    .execute()
}
