/**
 * The audit trail: one row for each change of state, never with a secret. Rows commit with their change; only
 * `token.issued` may follow its answer (see plugins/trail.ts).
 */
import { sql, type RawBuilder } from 'kysely'
import type { Database } from './tables.js'

export const AUDIT_EVENTS = [
  'registration.created',
  'registration.expired',
  'registration.revoked',
  'assertion.issued',
  'assertion.revoked',
  'token.issued',
  'token.revoked',
  'claim.requested',
  'claim.confirmed',
  'claim.declined',
  'user_code.minted',
  'user_code.refused',
  'delegation.confirmed',
  'delegation.removed',
  'delegation.set_aside',
  'event.received',
  'issuer.added',
  'issuer.changed',
  'issuer.disabled',
  'issuer.removed',
  'key.created',
  'key.retired',
  'user.created',
  'user.forgotten',
  'session.started',
  'session.ended',
  'resource_server.added',
  'resource_server.removed',
] as const

export type AuditEvent = (typeof AUDIT_EVENTS)[number]

export interface AuditEntry {
  event: AuditEvent
  registration_id?: string
  user_id?: string
  /** The network address the request came from. */
  address?: string
  details?: Record<string, string | number>
}

type Watcher = (committed: AuditEntry[]) => void

const watchers = new WeakMap<Database, Watcher>()

/** From now on `watcher` is called with what is recorded through `db` and its transactions, once it is committed. */
export function watchAudit(db: Database, watcher: Watcher): void {
  watchers.set(db, watcher)
  const transaction = db.transaction.bind(db)
  db.transaction = () => {
    const builder = transaction()
    const execute = builder.execute.bind(builder)
    builder.execute = async (work) => {
      const recorded: AuditEntry[] = []
      const result = await execute((tx) => {
        watchers.set(tx, (entries) => recorded.push(...entries))
        return work(tx)
      })
      watcher(recorded)
      return result
    }
    return builder
  }
}

/** Records the entries. Pass the transaction of the change that they report. */
export async function recordAudit(db: Database, ...entries: AuditEntry[]): Promise<void> {
  if (entries.length === 0) return
  await auditInsert(entries).execute(db)
  announceAudit(db, entries)
}

/**
 * Like `recordAudit`, but skips entries that are there already: an earlier statement, whose result never arrived, may
 * have written them. Equal `details` identify an entry, with its event and registration.
 */
export async function recordMissing(db: Database, entries: AuditEntry[]): Promise<void> {
  await sql`${auditInsert(entries)}
    where (select true from audit_events as there
      where there.registration_id = entry.registration_id and there.event = entry.event
        and there.details = entry.details limit 1) is null`.execute(db)
  announceAudit(db, entries)
}

/**
 * The insert, to be part of a statement that also makes the change; call `announceAudit` after it. Its text is the same
 * for any number of entries, so that it is prepared once.
 */
export function auditInsert(entries: AuditEntry[]): RawBuilder<unknown> {
  return sql`insert into audit_events (event, registration_id, user_id, address, details)
    select event, registration_id, user_id, address, details from jsonb_to_recordset(${JSON.stringify(entries)})
      as entry (event text, registration_id text, user_id text, address inet, details jsonb)`
}

export function announceAudit(db: Database, entries: AuditEntry[]): void {
  watchers.get(db)?.(entries)
}
