/** The trust list. */
import { sql } from 'kysely'
import type { Issuer } from '../domain/issuer.js'
import { inOrder } from './in-order.js'
import type { Database } from './tables.js'
import { dbNow } from './time.js'

export interface ListedIssuer extends Issuer {
  created_at: Date
  disabled_at: Date | null
  removed_at: Date | null
}

/**
 * Listed by name, not `*`: replicas of this version, with their kept plans, go on while a later version adds columns.
 */
const COLUMNS = [
  'issuer',
  'name',
  'jwks_uri',
  'client_ids',
  'algorithms',
  'email_domains',
  'audiences',
  'required_amr',
  'multi_tenant',
  'created_at',
  'disabled_at',
  'removed_at',
] as const

/** Finds disabled and removed issuers too: their events still count. */
export async function findIssuer(db: Database, issuer: string): Promise<ListedIssuer | undefined> {
  return (await findIssuers(db, [issuer]))[0]
}

/** In the order of `issuers`; undefined for an unknown one. */
export async function findIssuers(
  db: Database,
  issuers: string[],
): Promise<(ListedIssuer | undefined)[]> {
  const rows = await db
    .selectFrom('issuers')
    .select(COLUMNS)
    .where(sql<boolean>`issuer = any(${issuers})`)
    .execute()
  return inOrder(rows, 'issuer', issuers)
}

export async function listIssuers(db: Database): Promise<ListedIssuer[]> {
  return await db
    .selectFrom('issuers')
    .select(COLUMNS)
    .where('removed_at', 'is', null)
    .orderBy('issuer')
    .execute()
}

/** Adds an issuer, or replaces its entry, and puts it in force. */
export async function putIssuer(db: Database, entry: Issuer): Promise<void> {
  const { issuer: _key, ...columns } = entry
  await db
    .insertInto('issuers')
    .values(entry)
    .onConflict((conflict) =>
      conflict.column('issuer').doUpdateSet({ ...columns, disabled_at: null, removed_at: null }),
    )
    .execute()
}

/**
 * Disables or removes an issuer, which stops its new assertions and the credentials issued on its word; false when it
 * is not on the list.
 */
export async function stopIssuer(
  db: Database,
  issuer: string,
  how: 'disabled_at' | 'removed_at',
): Promise<boolean> {
  const { numUpdatedRows } = await db
    .updateTable('issuers')
    .set({ [how]: dbNow })
    .where('issuer', '=', issuer)
    .where('removed_at', 'is', null)
    .executeTakeFirst()
  return numUpdatedRows === 1n
}
