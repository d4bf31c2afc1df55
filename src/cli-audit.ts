/** `registrar audit`: the audit trail as JSON lines, for people who watch it and for programs that archive it. */
import type { Command } from 'commander'
import { pause } from './background.js'
import { instant, oneOf, userId, wholeNumber, write, type WithDatabase } from './cli-io.js'
import { AUDIT_EVENTS, type AuditEvent } from './repositories/audit-events.js'
import * as trail from './repositories/audit-trail.js'
import type { Database } from './repositories/tables.js'

interface TailOptions {
  follow?: true
  event?: AuditEvent
  registration?: string
  user?: string
  limit: number
}

const MOST_LISTED = 10_000
const POLL_MS = 1_000
/** In a row; a database that fails over is back after fewer. */
const MOST_FAILED_LOOKS = 5

const HELP = `
One JSON object per line: id, occurred_at, event, registration_id, user_id, address, details; in the order of ids. An event
that is being written at this moment may still get an id below the last one shown: an export that continues an earlier one
should begin a minute before that one's end, and drop the ids that are in it already.

Examples:
  registrar audit tail --follow --event registration.revoked
  registrar audit tail --user alice@example.com --limit 100
  registrar audit export --since 2026-01-01 --until 2026-02-01 > january.jsonl`

export function addAuditCommands(program: Command, withDatabase: WithDatabase): void {
  const audit = program
    .command('audit')
    .description('the audit trail, as JSON lines')
    .addHelpText('after', HELP)

  audit
    .command('tail')
    .description('the latest events')
    .option('--follow', 'go on with new events as they happen, until Ctrl-C')
    .option('--event <event>', `only this kind: ${AUDIT_EVENTS.join(', ')}`, oneOf(...AUDIT_EVENTS))
    .option('--registration <id>', 'only events of this registration')
    .option('--user <id-or-email>', 'only events of this person')
    .option('--limit <n>', `how many, at most ${MOST_LISTED}`, wholeNumber, 20)
    .action(({ follow: goOn, limit, event, registration, user }: TailOptions) =>
      withDatabase(async (db) => {
        if (limit > MOST_LISTED) throw new Error(`--limit is ${MOST_LISTED} at most: use export.`)
        const filter = {
          ...(event === undefined ? {} : { event }),
          ...(registration === undefined ? {} : { registration_id: registration }),
          ...(user === undefined ? {} : { user_id: await userId(db, user) }),
        }
        await write(textOf(goOn ? follow(db, filter, limit) : latest(db, filter, limit)))
      }),
    )

  audit
    .command('export')
    .description('all events, or those of a period, in order')
    .option('--since <time>', 'from this time on (ISO 8601 with zone)', instant)
    .option('--until <time>', 'before this time', instant)
    .action(async (options: { since?: Date; until?: Date }) => {
      const { since, until } = options
      if (since && until && since > until) throw new Error('--since is after --until.')
      await withDatabase(async (db) => write(textOf(trail.eventsBetween(db, options))))
    })
}

async function* latest(db: Database, filter: trail.AuditFilter, limit: number) {
  yield await trail.latestEvents(db, filter, limit)
}

/** Ends at SIGINT and SIGTERM. */
async function* follow(db: Database, filter: trail.AuditFilter, limit: number) {
  const stop = new AbortController()
  for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => stop.abort())
  let after = await trail.settledId(db, '0')
  let seen = new Set(await trail.idsAfter(db, filter, after))
  const first = await trail.latestEvents(db, filter, limit)
  for (const { id } of first) seen.add(id)
  yield first
  let failed = 0
  while (!stop.signal.aborted) {
    try {
      yield* look()
      failed = 0
    } catch (error) {
      failed += 1
      if (failed === MOST_FAILED_LOOKS) throw error
    }
    await pause(POLL_MS, stop.signal)
  }

  /** If one look fails, the next continues where it stopped. */
  async function* look() {
    // Read before the events: all up to this id are visible to the queries that follow.
    const settled = await trail.settledId(db, after)
    const ids = await trail.idsAfter(db, filter, after)
    const unseen = ids.filter((id) => !seen.has(id))
    for await (const events of trail.eventsOf(db, unseen)) {
      for (const { id } of events) seen.add(id)
      yield events
    }
    after = settled
    seen = new Set(ids.filter((id) => BigInt(id) > BigInt(after)))
  }
}

async function* textOf(batches: AsyncIterable<trail.ListedEvent[]>) {
  for await (const rows of batches) yield rows.map((row) => `${JSON.stringify(row)}\n`).join('')
}
