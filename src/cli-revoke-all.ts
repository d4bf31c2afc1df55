/** `registrar revoke-all`: the switch for incidents. */
import type { Command } from 'commander'
import { instant, print, say, userId, type WithDatabase } from './cli-io.js'
import { endAll } from './cli-revocations.js'
import { findIssuer } from './repositories/issuers.js'
import { beginning, countTargets, targets, type Target } from './repositories/revocation-targets.js'
import type { Database } from './repositories/tables.js'

interface Options {
  issuer?: string
  user?: string
  since?: Date
  all?: true
  yes?: true
}

const DETAILS = { reason: 'revoked by the operator, with others' }

const HELP = `
When it returns, every token that was issued for these registrations before it began is dead, on every replica. Agents
that register while it runs are not revoked: stop new ones first, for example with "registrar issuers disable". Safe to
run again after an interruption, and on several machines at once.

Examples:
  registrar revoke-all --issuer https://idp.example          how many it would end
  registrar revoke-all --issuer https://idp.example --yes    a provider was broken into
  registrar revoke-all --user alice@example.com --yes        a person's account was taken over
  registrar revoke-all --since 2026-01-31T09:00:00Z --yes    a wave of abuse, by when agents registered
  registrar revoke-all --all --yes                           everything`

export function addRevokeAllCommand(program: Command, withDatabase: WithDatabase): void {
  program
    .command('revoke-all')
    .description(
      'in an incident: end every registration of a provider, of a person, since a time, or all',
    )
    .option('--issuer <url>', 'what a provider vouched for, and its links to people')
    .option('--user <id-or-email>', 'what a person confirmed, and every provider’s link to them')
    .option('--since <time>', 'what registered at this time or later (ISO 8601 with zone)', instant)
    .option('--all', 'everything')
    .option('--yes', 'do it; without this it only counts')
    .addHelpText('after', HELP)
    .action(({ yes, ...selectors }: Options) =>
      withDatabase(async (db) => {
        const target = await chosen(db, selectors)
        const began = await beginning(db)
        const total = await countTargets(db, target, began)
        if (!yes) {
          await print({ would_end: total })
          throw new Error('Nothing was done: add --yes to end them.')
        }
        say(`Ending ${total} registrations.`)
        const progress = progressOf(total)
        await print(await endAll(db, () => targets(db, target, began), DETAILS, progress))
      }),
    )
}

async function chosen(db: Database, selectors: Omit<Options, 'yes'>): Promise<Target> {
  const { issuer, user, since } = selectors
  if (Object.keys(selectors).length !== 1)
    throw new Error('Say what to end: exactly one of --issuer, --user, --since and --all.')
  if (issuer !== undefined) {
    // A mistyped issuer, say with a slash too many, must not look like one that has nothing left to revoke.
    if (!(await findIssuer(db, issuer)))
      throw new Error(`There never was an issuer ${issuer} in the trust list.`)
    return { issuer }
  }
  if (user !== undefined) return { user_id: await userId(db, user) }
  return { since: since ?? null }
}

/** Says how far it is, in at most a hundred lines. */
function progressOf(total: number): (done: number) => void {
  let said = 0
  return (done) => {
    const percent = Math.floor((100 * done) / Math.max(total, 1))
    if (percent <= said) return
    said = percent
    say(`${done} of ${total} (${percent} %)`)
  }
}
