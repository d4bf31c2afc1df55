#!/usr/bin/env node
/** The operator's command. It takes its settings from the environment, as the server does. */
import { Command } from 'commander'
import { addAuditCommands } from './cli-audit.js'
import { addIssuerCommands } from './cli-issuers.js'
import { addDoctorCommand } from './cli-doctor.js'
import { output, printJson, printLine, say, wholeNumber } from './cli-io.js'
import { addPruneCommand } from './cli-prune.js'
import { addRegistrationCommands } from './cli-registrations.js'
import { addKeyCommands } from './cli-keys.js'
import { addResourceServerCommands } from './cli-resource-servers.js'
import { addRevokeAllCommand } from './cli-revoke-all.js'
import { addUserCommands } from './cli-users.js'
import { readConfig, type Config } from './config.js'
import { connect, requireMigrations, sentence } from './database.js'
import { migrate, migrationStatus } from './migrations.js'
import { openDatabase } from './open-database.js'
import type { Database } from './repositories/tables.js'
import { version } from './version.js'

const HELP = `
In a checkout, use "npm run --silent registrar -- …": without --silent, npm adds lines of its own to the output.
Settings come from the environment, the same as the server's; the README lists them. Without DATABASE_URL, and with an
ISSUER on localhost, it works on the embedded Postgres in DATA_DIR, whether or not the server runs.
Results are a table on a terminal, and JSON elsewhere or with --json; doctor and migrate print text unless --json is given,
and audit prints JSON lines. Exits with 1 when something could not be done.

Examples:
  registrar doctor                         is everything in place?
  registrar migrate up                     before the replicas of a new version
  registrar registrations list --help      what a command takes`

const program = new Command('registrar')
  .description('Operate Agent Registrar.')
  .version(version)
  .option('--json', 'print JSON, also on a terminal')
  .on('option:json', () => (output.asked = true))
  .configureHelp({ showGlobalOptions: true })
  .addHelpText('after', HELP)
  .showHelpAfterError('(see registrar --help; each command has its own --help)')

program.commandsGroup('The server and its database:')
program
  .command('start')
  .description("start the server, without npm start's flags for Node's memory")
  .action(async () => void (await import('./server.js')))

addDoctorCommand(program)

const MIGRATE_HELP = `
Migrations expand first and contract later: replicas of the previous release keep working during and after it. Back up first.

Examples:
  registrar migrate status
  registrar migrate up
  registrar migrate down --count 1   its data is lost`

const migrations = program
  .command('migrate')
  .description('bring the database to this version')
  .addHelpText('after', MIGRATE_HELP)
migrations
  .command('up', { isDefault: true })
  .description(
    'apply every missing migration; safe on all replicas at once; also what migrate alone does',
  )
  // As the default command, this one also gets what is no command.
  .allowExcessArguments()
  .action(async (_options: object, { args: [unknown] }: Command) => {
    if (unknown !== undefined) migrations.error(`error: unknown command '${unknown}'`)
    await withDatabaseUrl((url) => run(url, 'up'))
  })
migrations
  .command('down')
  .description('revert the last migration, or the last N; its data is lost')
  .option('--count <n>', 'how many', wholeNumber, 1)
  .action(({ count }: { count: number }) => withDatabaseUrl((url) => run(url, 'down', count)))
migrations
  .command('status')
  .description('list migrations and when each was applied')
  .action(() =>
    withDatabaseUrl(async (url) => {
      const all = await migrationStatus(url)
      if (output.asked)
        await printJson(all.map(({ appliedAt, ...rest }) => ({ ...rest, applied_at: appliedAt })))
      else
        await printLine(
          all
            .map(({ name, appliedAt }) => `${name}  ${appliedAt?.toISOString() ?? 'missing'}`)
            .join('\n'),
        )
    }),
  )

addKeyCommands(program, withDatabase)
addPruneCommand(program, withDatabase)

program.commandsGroup('Who is trusted:')
addIssuerCommands(program, withDatabase)
addResourceServerCommands(program, withDatabase)

program.commandsGroup('Agents and people:')
addRegistrationCommands(program, withDatabase)
addUserCommands(program, withDatabase)
addRevokeAllCommand(program, withDatabase)
addAuditCommands(program, withDatabase)

try {
  await program.parseAsync()
} catch (error) {
  say(sentence(error))
  process.exitCode = 1
}

/** With `--json` also prints the names of those it ran. */
async function run(url: string, direction: 'up' | 'down', count?: number): Promise<void> {
  const names = await migrate(url, direction, { ...(count && { count }), log: say })
  if (output.asked) await printJson(names)
}

async function withDatabaseUrl(
  work: (url: string, embedded: boolean, config: Config) => Promise<unknown>,
): Promise<void> {
  const config = readConfig(process.env)
  const database = await openDatabase(config, say)
  try {
    await work(database.url, database.embedded, config)
  } finally {
    await database.close()
  }
}

async function withDatabase(work: (db: Database, config: Config) => Promise<void>): Promise<void> {
  await withDatabaseUrl(async (url, embedded, config) => {
    if (embedded) await migrate(url, 'up', { log: say })
    const { pool, db } = connect(url, { max: 1, onLost: say })
    try {
      await requireMigrations(pool)
      await work(db, config)
    } finally {
      await pool.end()
    }
  })
}
