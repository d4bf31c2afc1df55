/**
 * `registrar prune`: clears at once what replicas clear all the time, and on request registrations, which they keep.
 */
import type { Command } from 'commander'
import { inTransaction } from './database.js'
import { print, wholeNumber, type WithDatabase } from './cli-io.js'
import { purgeUnclaimed, recordExpiries } from './repositories/expiries.js'
import { purgeExpired } from './repositories/purge.js'
import type { Database } from './repositories/tables.js'

/** Rows of one table in one transaction: so few that no request has to wait. */
const BATCH = 500

const HELP = `
Replicas do this all the time, except for old registrations, which they keep. Safe to run on several machines at once and
while replicas serve; a batch that another process works on is skipped.

Examples:
  registrar prune
  registrar prune --registrations-older-than 90`

export function addPruneCommand(program: Command, withDatabase: WithDatabase): void {
  program
    .command('prune')
    .description('record what expired in the audit trail, and delete expired data')
    .option(
      '--registrations-older-than <days>',
      'also delete registrations that expired unclaimed at least so many days ago',
      wholeNumber,
    )
    .addHelpText('after', HELP)
    .action(({ registrationsOlderThan: days }: { registrationsOlderThan?: number }) =>
      withDatabase(async (db) => print(await prune(db, days))),
    )
}

export async function prune(db: Database, days: number | undefined) {
  const total: Record<string, number> = {}
  for (;;) {
    const batch = {
      expired: await inTransaction(db, (tx) => recordExpiries(tx, BATCH)),
      ...(await purgeExpired(db, BATCH)),
      registrations: days === undefined ? 0 : await purgeUnclaimed(db, days, BATCH),
    }
    for (const [name, rows] of Object.entries(batch)) total[name] = (total[name] ?? 0) + rows
    if (Math.max(...Object.values(batch)) < BATCH) return total
  }
}
