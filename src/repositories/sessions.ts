/** Sign-in sessions, by the hash of the id in the cookie. */
import type { Database } from './tables.js'
import { dbNow, secondsFromNow } from './time.js'

export const IDLE_SECONDS = 3600
export const ABSOLUTE_SECONDS = 12 * 3600
/** How often a session in use is written: its idle limit is that much coarser. */
const TOUCH_SECONDS = 60

export async function insertSession(db: Database, idHash: Buffer, userId: string): Promise<void> {
  await db.insertInto('sessions').values({ id_hash: idHash, user_id: userId }).execute()
  await db
    .deleteFrom('sessions')
    .where('user_id', '=', userId)
    .where('created_at', '<', secondsFromNow(-ABSOLUTE_SECONDS))
    .execute()
}

/** The signed-in person, while neither limit has passed. */
export async function findSession(
  db: Database,
  idHash: Buffer,
): Promise<{ user_id: string; email: string | null } | undefined> {
  const session = await db
    .selectFrom('sessions')
    .innerJoin('users', 'users.id', 'sessions.user_id')
    .where('sessions.id_hash', '=', idHash)
    .where('sessions.created_at', '>', secondsFromNow(-ABSOLUTE_SECONDS))
    .where('sessions.last_seen_at', '>', secondsFromNow(-IDLE_SECONDS))
    .select(['sessions.user_id', 'users.email'])
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

/** Ends the session on every replica; returns whose it was. */
export async function deleteSession(
  db: Database,
  idHash: Buffer,
): Promise<{ user_id: string } | undefined> {
  return await db
    .deleteFrom('sessions')
    .where('id_hash', '=', idHash)
    .returning('user_id')
    .executeTakeFirst()
}
