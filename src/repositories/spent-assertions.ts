/** Which assertions and events of providers have been used. */
import { sql, type RawBuilder } from 'kysely'
import { subjectKey, type Subject } from './delegations.js'
import type { AssertionKind, DatabaseTransaction } from './tables.js'

/**
 * Rows are kept beyond the moment when the last replica refuses the token as expired: CLOCK_SKEW_SECONDS is at most
 * 300, and a replica's clock may be that much, and a second, behind the database's.
 */
const MARGIN_SECONDS = 900

/** Until when the mark of a token is kept; `exp` in seconds since the epoch. */
export const keptUntil = (exp: RawBuilder<unknown>) =>
  sql<Date>`to_timestamp(${exp}::float8 + ${sql.lit(MARGIN_SECONDS)})`

/**
 * Locks the subject as `lockSubject` does, and marks its assertion or event as used; true the first time. Belongs in
 * the transaction of the effect: both are kept or neither, and of two presentations at once the second waits for the
 * first. `exp` in seconds since the epoch; without it the mark is kept for ever.
 */
export async function spendAssertion(
  db: DatabaseTransaction,
  kind: AssertionKind,
  { issuer, subject, jti, exp }: Subject & { jti: string; exp?: number },
): Promise<boolean> {
  const expires_at = exp === undefined ? sql<Date>`'infinity'` : keptUntil(sql.val(exp))
  const { rows } = await sql`
    with locked as materialized (select pg_advisory_xact_lock(${subjectKey(issuer, subject)}))
    insert into spent_assertions (issuer, kind, jti, expires_at)
    select ${issuer}, ${kind}, ${jti}, ${expires_at} from locked
    on conflict (issuer, kind, jti) do nothing returning jti`.execute(db)
  return rows.length === 1
}
