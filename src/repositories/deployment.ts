/** The deployment that the database belongs to. */
import type { Database } from './tables.js'

/** The issuer that the database belongs to; undefined before the first start off localhost. */
export async function findIssuerOfDatabase(db: Database): Promise<string | undefined> {
  const row = await db.selectFrom('deployment').select('issuer').executeTakeFirst()
  return row?.issuer
}

/** Claims the database for the issuer, unless it has one: of replicas that start at once the first decides. */
export async function takeDatabase(db: Database, issuer: string): Promise<void> {
  await db
    .insertInto('deployment')
    .values({ issuer })
    .onConflict((conflict) => conflict.doNothing())
    .execute()
}
