/** Times by the database's clock, since replicas' clocks may differ. `now()` is when the transaction began. */
import { sql, type RawBuilder } from 'kysely'

export const dbNow = sql<Date>`now()`

export function secondsFromNow(seconds: number): RawBuilder<Date> {
  return sql<Date>`now() + make_interval(secs => ${seconds})`
}
