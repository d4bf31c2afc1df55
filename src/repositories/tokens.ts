/** Revoked tokens, and whether a token still counts; the tokens themselves are not stored. */
import { sql } from 'kysely'
import type { Account } from '../domain/token-person.js'
import { announceAudit, type AuditEntry } from './audit-events.js'
import { inOrder } from './in-order.js'
import { lastSignIn } from './registrations.js'
import type { Database } from './tables.js'
import { dbNow } from './time.js'

export interface RevokedToken {
  jti: string
  registration_id: string
  /** The token's own expiry, in seconds since the epoch, after which the row has no use. */
  exp: number
  /** The network address of whoever revokes it. */
  address: string
}

/**
 * Revokes tokens, those revoked at the same moment in one statement and so in one transaction. Each that was not
 * revoked yet is audited, once.
 */
export async function revokeTokens(db: Database, tokens: RevokedToken[]): Promise<void> {
  const { rows } = await sql<AuditEntry>`
    with asked as (
      select distinct on (jti) jti, registration_id, address, to_timestamp(exp) as expires_at
      from jsonb_to_recordset(${JSON.stringify(tokens)}) as token (jti text, registration_id text, exp float8, address inet)
    ), revoked as (
      insert into revoked_tokens (jti, expires_at) select jti, expires_at from asked order by jti
      on conflict (jti) do nothing returning jti
    )
    insert into audit_events (event, registration_id, address, details)
    select 'token.revoked', registration_id, address, jsonb_build_object('jti', jti) from asked join revoked using (jti)
    returning event, registration_id, details`.execute(db)
  announceAudit(db, rows)
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

/** What a token is looked up by; both are claims of its own. */
export interface TokenName {
  registration_id: string
  jti: string
}

/**
 * Everything that decides whether access tokens still count, in one query, in the order of `tokens`; undefined for one
 * whose registration does not exist.
 */
export async function findTokenStandings(
  db: Database,
  tokens: TokenName[],
): Promise<(TokenStanding | undefined)[]> {
  const rows = await selectStandings(db, tokens).execute()
  return inOrder(rows, 'place', placesOf(tokens))
}

/**
 * Like `findTokenStandings`, with the persons the tokens are for. Planning it takes three times as long, so it is only
 * for callers that need them.
 */
export async function findTokenPersons(
  db: Database,
  tokens: TokenName[],
  signInIssuers: string[],
): Promise<((TokenStanding & { email: string | null; sign_in: Account | null }) | undefined)[]> {
  const rows = await selectStandings(db, tokens)
    .leftJoin('users', 'users.id', 'registrations.user_id')
    .select(['users.email', lastSignIn(signInIssuers).as('sign_in')])
    .execute()
  return inOrder(rows, 'place', placesOf(tokens))
}

function selectStandings(db: Database, tokens: TokenName[]) {
  const asked = sql<
    TokenName & { place: number }
  >`unnest(${tokens.map(({ registration_id }) => registration_id)}::text[],
    ${tokens.map(({ jti }) => jti)}::text[]) with ordinality`
  return db
    .selectFrom(asked.as<'asked'>(sql`asked (registration_id, jti, place)`))
    .innerJoin('registrations', 'registrations.id', 'asked.registration_id')
    .select([
      sql<number>`asked.place::int`.as('place'),
      'registrations.generation',
      'registrations.revoked_at',
      'registrations.claimed_at',
      'registrations.claim_expires_at',
      'registrations.set_aside_at',
      // Not `exists`, for which Postgres may read the whole table.
      sql<boolean>`(select true from revoked_tokens where jti = asked.jti) is not null`.as(
        'token_revoked',
      ),
      dbNow.as('now'),
    ])
}

/** `with ordinality` counts from 1. */
function placesOf(tokens: TokenName[]): number[] {
  return tokens.map((_, i) => i + 1)
}
