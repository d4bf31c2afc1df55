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

/** Each by name: replicas of this version go on while a later one adds columns, and their plans are kept. */
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

/** Also one that was disabled or removed: its events still count. */
export async function findIssuer(db: Database, issuer: string): Promise<ListedIssuer | undefined> {
  return (await findIssuers(db, [issuer]))[0]
}

/** In the order of their names. */
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

/** Adds, or replaces what was there, and puts it in force. True when it is new to the list. */
export async function putIssuer(db: Database, entry: Issuer): Promise<boolean> {
  const { issuer: _key, ...columns } = entry
  const { added } = await db
    .insertInto('issuers')
    .values(entry)
    .onConflict((conflict) =>
      conflict.column('issuer').doUpdateSet({ ...columns, disabled_at: null, removed_at: null }),
    )
    .returning(sql<boolean>`xmax = 0`.as('added'))
    .executeTakeFirstOrThrow()
  return added
}

/** Stops its new assertions and those we issued on its word; false when it is not in the list. */
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
