/** What revokes tokens; the tokens themselves are not stored. */
import { sql } from 'kysely'
import type { Database } from './tables.js'
import { dbNow } from './time.js'

/** True the first time. `exp` is the token's own end, in seconds since the epoch: after it the row has no use. */
export async function revokeToken(db: Database, jti: string, exp: number): Promise<boolean> {
  const row = await db
    .insertInto('revoked_tokens')
    .values({ jti, expires_at: new Date(exp * 1000) })
    .onConflict((conflict) => conflict.column('jti').doNothing())
    .returning('jti')
    .executeTakeFirst()
  return row !== undefined
}

export interface TokenStanding {
  generation: number
  revoked_at: Date | null
  claimed_at: Date | null
  claim_expires_at: Date | null
  set_aside_at: Date | null
  token_revoked: boolean
  now: Date
}

/** Everything that decides whether an access token still counts, in one look. */
export async function findTokenStanding(
  db: Database,
  registrationId: string,
  jti: string,
): Promise<TokenStanding | undefined> {
  return await db
    .selectFrom('registrations')
    .where('id', '=', registrationId)
    .select([
      'generation',
      'revoked_at',
      'claimed_at',
      'claim_expires_at',
      'set_aside_at',
      sql<boolean>`exists (select from revoked_tokens where jti = ${jti})`.as('token_revoked'),
      dbNow.as('now'),
    ])
    .executeTakeFirst()
}
