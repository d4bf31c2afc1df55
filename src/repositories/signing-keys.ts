/** Signing keys: public parts for everyone, private parts sealed. */
import { sql } from 'kysely'
import type { DatabaseTransaction } from './tables.js'

export interface SigningKeyRow {
  kid: string
  public_jwk: Record<string, string>
  private_jwk_sealed: Buffer
}

/** Any constant of our own: replicas that start at once on an empty database must end with one key. */
const KEY_CREATION_LOCK = 7_221_001

/** The keys in use, oldest first; when there is none, the one that `create` makes. */
export async function loadSigningKeys(
  db: DatabaseTransaction,
  create: () => Promise<SigningKeyRow>,
): Promise<SigningKeyRow[]> {
  await sql`select pg_advisory_xact_lock(${KEY_CREATION_LOCK})`.execute(db)
  const rows = await db
    .selectFrom('signing_keys')
    .select(['kid', 'public_jwk', 'private_jwk_sealed'])
    .where('retired_at', 'is', null)
    .orderBy('created_at')
    .execute()
  if (rows.length > 0) return rows
  const row = await create()
  await db
    .insertInto('signing_keys')
    .values({ ...row, public_jwk: JSON.stringify(row.public_jwk) })
    .execute()
  return [row]
}
