/** The resource servers: who may introspect. */
import { sql } from 'kysely'
import { inOrder } from './in-order.js'
import type { Database } from './tables.js'

/** The hashes of their secrets, in the order of `ids`; undefined for an unknown id. */
export async function findResourceServerSecrets(
  db: Database,
  ids: string[],
): Promise<(Buffer | undefined)[]> {
  const rows = await db
    .selectFrom('resource_servers')
    .select(['id', 'secret_hash'])
    .where(sql<boolean>`id = any(${ids})`)
    .execute()
  return inOrder(rows, 'id', ids).map((row) => row?.secret_hash)
}

/** Adds a resource server; false when the name is taken. */
export async function insertResourceServer(
  db: Database,
  row: { id: string; name: string; secret_hash: Buffer },
): Promise<boolean> {
  const added = await db
    .insertInto('resource_servers')
    .values(row)
    .onConflict((conflict) => conflict.column('name').doNothing())
    .returning('id')
    .executeTakeFirst()
  return added !== undefined
}

export async function listResourceServers(
  db: Database,
): Promise<{ id: string; name: string; created_at: Date }[]> {
  return await db
    .selectFrom('resource_servers')
    .select(['id', 'name', 'created_at'])
    .orderBy('created_at')
    .execute()
}

/** Removes a resource server by id or name, and returns what was removed. */
export async function deleteResourceServer(
  db: Database,
  idOrName: string,
): Promise<{ id: string; name: string } | undefined> {
  return await db
    .deleteFrom('resource_servers')
    .where((where) => where.or([where('id', '=', idOrName), where('name', '=', idOrName)]))
    .returning(['id', 'name'])
    .executeTakeFirst()
}
