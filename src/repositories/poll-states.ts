/** When each registration was last polled, and the interval its agent must keep (RFC 8628 §3.5). */
import { sql } from 'kysely'
import { issuerActive } from './registrations.js'
import type { Database } from './tables.js'

const slowDown = sql.lit(5)
/** The longest interval, in seconds, however often the agent ignores `slow_down`. */
const longest = sql.lit(86_400)
/** Timers fire a little early and networks jitter: an agent that waits the interval must not be told to slow down. */
const JITTER_SECONDS = 0.1

type Poll =
  /** No registration has this claim token. */
  | 'unknown'
  /** Waiting for the person; the poll is recorded. */
  | 'pending'
  /** The same, but polled too early: the interval is longer from now on. */
  | 'slow_down'
  /** Not waiting: `decidePoll` says what it is. Nothing is recorded. */
  | 'other'

/**
 * Records polls of registrations that wait for their person, and says which came too early; each of those lengthens the
 * interval until the ceremony is renewed. One statement, so that of simultaneous polls on several replicas at most one
 * is in time. Answers in the order of the hashes.
 */
export async function recordPolls(
  db: Database,
  claimTokenHashes: Buffer[],
  { intervalSeconds, maxTries }: { intervalSeconds: number; maxTries: number },
): Promise<Poll[]> {
  /** The places of each hash in the input. */
  const asked = new Map<string, number[]>()
  for (const [place, hash] of claimTokenHashes.entries()) {
    const key = hash.toString('hex')
    const others = asked.get(key)
    if (others) others.push(place)
    else asked.set(key, [place])
  }
  const places = [...asked.values()]
  const early = sql`excluded.polled_at < state.polled_at
    + make_interval(secs => state.interval_seconds - ${sql.lit(JITTER_SECONDS)})`
  const { rows } = await sql<{ n: number; slow_down: boolean | null }>`
    with asked as (
      select decode(hash, 'hex') as hash, times, n::int
      from unnest(${[...asked.keys()]}::text[], ${places.map(({ length }) => length)}::int[])
        with ordinality as asked (hash, times, n)
    ), known as (
      select n, times, registrations.id, revoked_at is null and claimed_at is null and claim_expires_at > now()
        and set_aside_at is null and ${issuerActive} and (attempt.id is null
          or attempt.expires_at > now() and wrong_codes < ${maxTries} and declined_at is null and confirmed_at is null
        ) as pending
      from asked
        join registrations on claim_token_hash = hash
        left join claim_attempts as attempt on registration_id = registrations.id and superseded_at is null
    ), polled as (
      insert into poll_states as state (registration_id, polled_at, interval_seconds, slow_down)
      -- Of those that came together all but the first are early.
      select id, now(), ${intervalSeconds} + ${slowDown} * (times - 1), false from known where pending order by id
      on conflict (registration_id) do update set
        polled_at = greatest(excluded.polled_at, state.polled_at),
        interval_seconds = least(${longest}, state.interval_seconds + excluded.interval_seconds - ${intervalSeconds}
          + case when ${early} then ${slowDown} else 0 end),
        slow_down = ${early}
      returning registration_id, slow_down
    )
    select n, slow_down from known left join polled on registration_id = id`.execute(db)
  const polls = claimTokenHashes.map((): Poll => 'unknown')
  for (const { n, slow_down } of rows)
    for (const [i, place] of places[n - 1]!.entries())
      polls[place] = slow_down === null ? 'other' : slow_down || i > 0 ? 'slow_down' : 'pending'
  return polls
}
