/** People as operators look at them. */
import type { Database } from './tables.js'

export async function findUserId(
  db: Database,
  by: { id: string } | { email: string },
): Promise<string | undefined> {
  const [[column, value]] = Object.entries(by) as [['id' | 'email', string]]
  const row = await db.selectFrom('users').select('id').where(column, '=', value).executeTakeFirst()
  return row?.id
}
