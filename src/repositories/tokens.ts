/** What revokes tokens; the tokens themselves are not stored. */
import { sql } from 'kysely'
import type { Account } from '../domain/token-person.js'
import { lastSignIn } from './sign-ins.js'
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
  return await selectStanding(db, registrationId, jti).executeTakeFirst()
}

/** The same look, and whom the token is for. Planning it takes three times as long, so it is for who needs to know. */
export async function findTokenPerson(
  db: Database,
  registrationId: string,
  jti: string,
  signInIssuers: string[],
): Promise<(TokenStanding & { email: string | null; sign_in: Account | null }) | undefined> {
  return await selectStanding(db, registrationId, jti)
    .leftJoin('users', 'users.id', 'registrations.user_id')
    .select(['users.email', lastSignIn(signInIssuers).as('sign_in')])
    .executeTakeFirst()
}

function selectStanding(db: Database, registrationId: string, jti: string) {
  return db
    .selectFrom('registrations')
    .where('registrations.id', '=', registrationId)
    .select([
      'registrations.generation',
      'registrations.revoked_at',
      'registrations.claimed_at',
      'registrations.claim_expires_at',
      'registrations.set_aside_at',
      sql<boolean>`exists (select from revoked_tokens where jti = ${jti})`.as('token_revoked'),
      dbNow.as('now'),
    ])
}
