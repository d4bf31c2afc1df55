/** Sign-in sessions, identified by the hash of the id in the cookie. */
import { sql } from 'kysely'
import type { Person } from '../domain/claim.js'
import type { Database } from './tables.js'
import { dbNow, secondsFromNow } from './time.js'

const IDLE_SECONDS = 3600
const ABSOLUTE_SECONDS = 12 * 3600
/** How often a session in use is written, which makes its idle limit that much coarser. */
const TOUCH_SECONDS = 60

export interface SignedIn extends Person {
  /** The issuer of the account the person signed in with. */
  issuer: string | null
  /** The sign-in is recent enough to decide something on. */
  fresh: boolean
}

export async function insertSession(
  db: Database,
  row: { id_hash: Buffer; user_id: string; issuer: string; id_token_sealed: Buffer | null },
): Promise<void> {
  await db.insertInto('sessions').values(row).execute()
}

/**
 * The signed-in person, while neither the idle nor the absolute limit has passed. A sign-in is `fresh` for
 * `maxAgeSeconds`.
 */
export async function findSession(
  db: Database,
  idHash: Buffer,
  maxAgeSeconds: number,
): Promise<SignedIn | undefined> {
  const session = await db
    .selectFrom('sessions')
    .innerJoin('users', 'users.id', 'sessions.user_id')
    .where('sessions.id_hash', '=', idHash)
    // The session may have been created while its user was being forgotten.
    .where('users.forgotten_at', 'is', null)
    .where('sessions.created_at', '>', secondsFromNow(-ABSOLUTE_SECONDS))
    .where('sessions.last_seen_at', '>', secondsFromNow(-IDLE_SECONDS))
    .select([
      'sessions.user_id',
      'users.email',
      'sessions.issuer',
      sql<boolean>`sessions.created_at > ${secondsFromNow(-maxAgeSeconds)}`.as('fresh'),
    ])
    .executeTakeFirst()
  if (!session) return undefined
  await db
    .updateTable('sessions')
    .set({ last_seen_at: dbNow })
    .where('id_hash', '=', idHash)
    .where('last_seen_at', '<', secondsFromNow(-TOUCH_SECONDS))
    .execute()
  return session
}

/** Ends the session on every replica; returns whose it was, and where they had signed in. */
export async function deleteSession(
  db: Database,
  idHash: Buffer,
): Promise<{ user_id: string; issuer: string | null; id_token_sealed: Buffer | null } | undefined> {
  return await db
    .deleteFrom('sessions')
    .where('id_hash', '=', idHash)
    .returning(['user_id', 'issuer', 'id_token_sealed'])
    .executeTakeFirst()
}

/** Ends every session of the user; returns how many. */
export async function deleteSessionsOf(db: Database, userId: string): Promise<number> {
  const { numDeletedRows } = await db
    .deleteFrom('sessions')
    .where('user_id', '=', userId)
    .executeTakeFirst()
  return Number(numDeletedRows)
}
