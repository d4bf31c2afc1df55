/** `registrar users`: shows what is known of a person, or erases it. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Command } from 'commander'
import { inTransaction } from './database.js'
import { print, say, userId, type WithDatabase } from './cli-io.js'
import { inWords } from './cli-registrations.js'
import { endAll, retried } from './cli-revocations.js'
import { askingFor, erasePerson, type Erased } from './repositories/erasure.js'
import { findPerson, forgetPerson } from './repositories/people.js'
import { listRegistrations } from './repositories/registration-list.js'
import { beginning, countTargets, targets } from './repositories/revocation-targets.js'
import type { Database } from './repositories/tables.js'

const DETAILS = { reason: 'the user was forgotten' }
const MOST_LISTED = 100
/**
 * The audit rows of the last tokens, with the address they went to, may be written this much later (plugins/trail.ts).
 */
const TRAIL_LAG_MS = 1_000

const HELP = `
Forgetting revokes every registration of the person and every one that waits for them, then erases their email address,
phone number, accounts, sessions, the hints that named them, the network addresses of their agents, and whatever in the
audit trail names them. What stays is that things happened, and when: events, times, ids. It cannot be undone; somebody
who signs in again is a new user.

Examples:
  registrar users show alice@example.com
  registrar users forget alice@example.com --yes`

export function addUserCommands(program: Command, withDatabase: WithDatabase): void {
  const users = program
    .command('users')
    .description('people: show one, forget one')
    .addHelpText('after', HELP)

  users
    .command('show <id-or-email>')
    .description('show one: accounts, providers, registrations, how many sessions')
    .action((idOrEmail: string) =>
      withDatabase(async (db, config) => {
        const user_id = await userId(db, idOrEmail)
        const maxTries = config.USER_CODE_MAX_TRIES
        const listed = await listRegistrations(db, { user_id, limit: MOST_LISTED, maxTries })
        const registrations = listed.map((row) => {
          const { id, state, registration_type, issuer, created_at, claimed_at, revoked_at } =
            inWords(row, maxTries)
          return { id, state, registration_type, issuer, created_at, claimed_at, revoked_at }
        })
        await print({ ...(await findPerson(db, user_id)), registrations })
      }),
    )

  users
    .command('forget <id-or-email>')
    .description('revoke what acts for a person, and erase their personal data')
    .option('--yes', 'do it; without this it only counts')
    .action((idOrEmail: string, { yes }: { yes?: true }) =>
      withDatabase(async (db) => {
        const user_id = await userId(db, idOrEmail)
        if (!yes) {
          const would_end = await countTargets(db, { user_id }, await beginning(db))
          await print({ user_id, would_end })
          throw new Error('Nothing was done: add --yes to forget them.')
        }
        say(`Forgetting ${user_id}. If this is interrupted, run it again with this id.`)
        await print({ user_id, ...(await forget(db, user_id)) })
      }),
    )
}

/**
 * Ends and erases twice: before `forgetPerson`, so that nothing outlives the user if this is interrupted; and after it,
 * when nothing can be bound to the user any more, for what was bound in between.
 */
async function forget(db: Database, user_id: string) {
  const { email } = await findPerson(db, user_id)
  const person: Erased = { user_id, emails: email === null ? [] : [email] }
  const before = await endAndErase(db, person)
  const last = await retried(() => inTransaction(db, (tx) => forgetPerson(tx, user_id)))
  if (last !== null) person.emails.push(last)
  await sleep(TRAIL_LAG_MS)
  const after = await endAndErase(db, person)
  return {
    registrations: before.registrations + after.registrations,
    delegations: before.delegations + after.delegations,
  }
}

async function endAndErase(db: Database, person: Erased) {
  const { user_id } = person
  const began = await beginning(db)
  const theirs = await endAll(db, () => targets(db, { user_id }, began), DETAILS)
  const asking = await endAll(db, () => askingFor(db, person), DETAILS)
  await erasePerson(db, person)
  return {
    registrations: theirs.registrations + asking.registrations,
    delegations: theirs.delegations + asking.delegations,
  }
}
