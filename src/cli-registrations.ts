/** `registrar registrations`: lists them, shows one, revokes one. */
import type { Command } from 'commander'
import { inTransaction } from './database.js'
import { instant, oneOf, print, userId, wholeNumber, type WithDatabase } from './cli-io.js'
import { retried } from './cli-revocations.js'
import { REGISTRATION_TYPES, registrationStatus, STATUSES } from './domain/registration.js'
import { latestEvents } from './repositories/audit-trail.js'
import * as registrations from './repositories/registration-list.js'
import { revokeById } from './repositories/revocations.js'
import type { Database } from './repositories/tables.js'

interface ListOptions extends Omit<registrations.ListFilter, 'user_id' | 'maxTries'> {
  user?: string
}

const MOST_LISTED = 1000
/** The most claim attempts, and the most entries of the history, that `show` prints. */
const MOST_SHOWN = 100
const BY_OPERATOR = { reason: 'revoked by the operator' }

const EXAMPLES = `
Examples:
  registrar registrations list --state claimed --user alice@example.com
  registrar registrations list --issuer https://idp.example --since 2026-01-31T09:00:00Z
  registrar registrations list --limit 100 --after reg_…   the next page, after the last id of this one
  registrar registrations revoke reg_…`

export function addRegistrationCommands(program: Command, withDatabase: WithDatabase): void {
  const commands = program
    .command('registrations')
    .description('agents that registered: list, show or revoke them')
    .addHelpText('after', EXAMPLES)

  commands
    .command('list')
    .description('list them, newest first')
    .option('--state <state>', STATUSES.join(', '), oneOf(...STATUSES))
    .option('--kind <kind>', REGISTRATION_TYPES.join(', '), oneOf(...REGISTRATION_TYPES))
    .option('--user <id-or-email>', 'those that a person confirmed')
    .option('--issuer <url>', 'those that a provider vouched for')
    .option('--since <time>', 'registered at this time or later (ISO 8601 with zone)', instant)
    .option('--limit <n>', `how many, at most ${MOST_LISTED}`, wholeNumber, 50)
    .option('--after <id>', 'those that come after this one: the next page')
    .action((options: ListOptions) =>
      withDatabase(async (db, config) => {
        const { user, limit, after, ...filter } = options
        if (limit > MOST_LISTED) throw new Error(`--limit is ${MOST_LISTED} at most.`)
        if (after !== undefined && !(await registrations.findListed(db, after))) unknown(after)
        const listed = await registrations.listRegistrations(db, {
          ...filter,
          ...(user === undefined ? {} : { user_id: await userId(db, user) }),
          ...(after === undefined ? {} : { after }),
          limit,
          maxTries: config.USER_CODE_MAX_TRIES,
        })
        await print(listed.map((row) => inWords(row, config.USER_CODE_MAX_TRIES)))
      }),
    )

  commands
    .command('show <id>')
    .description('show one, with its ceremonies and its history, without secrets')
    .action((id: string) =>
      withDatabase(async (db, config) => {
        const row = (await registrations.findListed(db, id)) ?? unknown(id)
        await print({
          ...inWords(row, config.USER_CODE_MAX_TRIES),
          claim_attempts: await registrations.listAttempts(db, id, MOST_SHOWN),
          history: await latestEvents(db, { registration_id: id }, MOST_SHOWN),
        })
      }),
    )

  commands
    .command('revoke <id>')
    .description('revoke one, with all its tokens, and unlink the person from its provider')
    .action((id: string) =>
      withDatabase(async (db, config) => {
        await revoke(db, id)
        const row = await registrations.findListed(db, id)
        await print(inWords(row!, config.USER_CODE_MAX_TRIES))
      }),
    )
}

async function revoke(db: Database, id: string): Promise<void> {
  const outcome = await retried(() => inTransaction(db, (tx) => revokeById(tx, id, BY_OPERATOR)))
  if (outcome === 'unknown') unknown(id)
}

export function inWords(
  { registration, attempt, now }: registrations.ListedRegistration,
  tries: number,
) {
  const { id, ...rest } = registration
  return { id, state: registrationStatus(registration, attempt, tries, now), ...rest }
}

function unknown(id: string): never {
  throw new Error(`There is no registration ${id}.`)
}
