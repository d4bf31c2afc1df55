/** Which deployment the database belongs to. */
import type { Database } from './tables.js'

/** The issuer that its tokens are of; undefined before the first start off localhost. */
export async function findIssuerOfDatabase(db: Database): Promise<string | undefined> {
  const row = await db.selectFrom('deployment').select('issuer').executeTakeFirst()
  return row?.issuer
}

/** Of those who come at once the first decides. */
export async function takeDatabase(db: Database, issuer: string): Promise<void> {
  await db
    .insertInto('deployment')
    .values({ issuer })
    .onConflict((conflict) => conflict.doNothing())
    .execute()
}
