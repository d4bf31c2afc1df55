/** Which assertions and events of providers were used. */
import { sql } from 'kysely'
import type { AssertionKind, DatabaseTransaction } from './tables.js'

/** Kept beyond the moment when it would be refused as expired: there is no instant in between. */
const MARGIN_SECONDS = 600

/**
 * True the first time. In the transaction of what the assertion brings about: both are kept or neither, and of two
 * presentations at once the second waits for the first. Without `exp` it is remembered for good.
 */
export async function spendAssertion(
  db: DatabaseTransaction,
  kind: AssertionKind,
  { issuer, jti, exp }: { issuer: string; jti: string; exp?: number },
): Promise<boolean> {
  const expires_at =
    exp === undefined ? sql<Date>`'infinity'` : sql<Date>`to_timestamp(${exp + MARGIN_SECONDS})`
  const row = await db
    .insertInto('spent_assertions')
    .values({ issuer, kind, jti, expires_at })
    .onConflict((conflict) => conflict.columns(['issuer', 'kind', 'jti']).doNothing())
    .returning('jti')
    .executeTakeFirst()
  return row !== undefined
}
