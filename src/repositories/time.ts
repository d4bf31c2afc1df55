/** Times are the database's: replicas may disagree about what time it is. */
import { sql, type RawBuilder } from 'kysely'

export const dbNow = sql<Date>`now()`

export function secondsFromNow(seconds: number): RawBuilder<Date> {
  return sql<Date>`now() + make_interval(secs => ${seconds})`
}
