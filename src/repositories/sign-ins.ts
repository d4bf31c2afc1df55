/** Which of a person's accounts speaks for them. */
import { sql, type RawBuilder } from 'kysely'
import type { Account } from '../domain/token-person.js'

/** For a statement on registrations: of its user's accounts at these issuers, the one signed in with last. */
export function lastSignIn(issuers: string[]): RawBuilder<Account | null> {
  if (issuers.length === 0) return sql`null`
  return sql`(
    select json_build_object('issuer', used.issuer, 'subject', used.subject) from sign_ins as used
    where used.user_id = registrations.user_id and used.issuer = any(${issuers})
    order by used.last_seen_at desc, used.issuer, used.subject limit 1)`
}
