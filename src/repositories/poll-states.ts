/** When each registration was last polled, and how long its agent must wait (RFC 8628 §3.5). */
import { sql } from 'kysely'
import type { Database } from './tables.js'
import { dbNow } from './time.js'

const SLOW_DOWN_SECONDS = 5
/** Timers fire a little early and networks jitter: an agent that waits the interval must not be told to slow down. */
const JITTER_SECONDS = 0.1

/**
 * Records a poll and says whether it came too early; an early one lengthens the interval for good.
 * One statement, so that of polls at the same moment on several replicas at most one is in time.
 */
export async function recordPoll(
  db: Database,
  registrationId: string,
  intervalSeconds: number,
): Promise<{ slow_down: boolean }> {
  const early = sql<boolean>`excluded.polled_at < poll_states.polled_at
    + make_interval(secs => poll_states.interval_seconds - ${JITTER_SECONDS}::float8)`
  return await db
    .insertInto('poll_states')
    .values({
      registration_id: registrationId,
      polled_at: dbNow,
      interval_seconds: intervalSeconds,
      slow_down: false,
    })
    .onConflict((conflict) =>
      conflict.column('registration_id').doUpdateSet({
        polled_at: sql`greatest(excluded.polled_at, poll_states.polled_at)`,
        interval_seconds: sql`poll_states.interval_seconds + case when ${early} then ${SLOW_DOWN_SECONDS}::int else 0 end`,
        slow_down: early,
      }),
    )
    .returning('slow_down')
    .executeTakeFirstOrThrow()
}
