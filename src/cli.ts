#!/usr/bin/env node
/** The operator's command. It takes its settings from the environment, as the server does. */
import { Command } from 'commander'
import { addAuditCommands } from './cli-audit.js'
import { addIssuerCommands } from './cli-issuers.js'
import { print, say, wholeNumber } from './cli-io.js'
import { addPruneCommand } from './cli-prune.js'
import { addRegistrationCommands } from './cli-registrations.js'
import { addKeyCommands } from './cli-keys.js'
import { addRevokeAllCommand } from './cli-revoke-all.js'
import { addUserCommands } from './cli-users.js'
import { readConfig, type Config } from './config.js'
import { connect, inTransaction, requireMigrations, sentence } from './database.js'
import { hashSecret, newId, newSecret } from './domain/secrets.js'
import { migrate, migrationStatus } from './migrations.js'
import { openDatabase } from './open-database.js'
import { recordAudit } from './repositories/audit-events.js'
import * as resourceServers from './repositories/resource-servers.js'
import type { Database } from './repositories/tables.js'

const program = new Command('registrar')
  .description('Operate Agent Registrar. Settings come from the environment; see the README.')
  .showHelpAfterError()

program
  .command('start')
  .description('start the server (what npm start does)')
  .action(async () => void (await import('./server.js')))

const migrations = program.command('migrate').description('bring the database to this version')
migrations
  .command('up', { isDefault: true })
  .description('apply every migration that is missing; safe on all replicas at once')
  .action(() => withDatabaseUrl((url) => migrate(url, 'up', { log: say })))
migrations
  .command('down')
  .description('revert the last migration, or the last N; its data is lost')
  .option('--count <n>', 'how many', wholeNumber, 1)
  .action(({ count }: { count: number }) =>
    withDatabaseUrl((url) => migrate(url, 'down', { count, log: say })),
  )
migrations
  .command('status')
  .description('list migrations and when each was applied')
  .action(() =>
    withDatabaseUrl(async (url) => {
      for (const { name, appliedAt } of await migrationStatus(url))
        console.log(`${name}  ${appliedAt?.toISOString() ?? 'missing'}`)
    }),
  )

const servers = program
  .command('resource-servers')
  .description('who may ask /oauth2/introspect about access tokens')
servers
  .command('list')
  .description('list them as JSON')
  .action(() => withDatabase(async (db) => print(await resourceServers.listResourceServers(db))))
servers
  .command('add <name>')
  .description('add one; prints its id and secret as JSON, the secret this once')
  .action((name: string) =>
    withDatabase(async (db) => {
      const id = newId('rs_')
      const secret = newSecret('rss_')
      await inTransaction(db, async (tx) => {
        const row = { id, name, secret_hash: hashSecret(secret) }
        if (!(await resourceServers.insertResourceServer(tx, row)))
          throw new Error(`There is a resource server named ${name} already.`)
        await recordAudit(tx, { event: 'resource_server.added', details: { id, name } })
      })
      print({ id, secret })
    }),
  )
servers
  .command('remove <id-or-name>')
  .description('remove one: its credentials stop working at once')
  .action((idOrName: string) =>
    withDatabase(async (db) => {
      const removed = await inTransaction(db, async (tx) => {
        const details = await resourceServers.deleteResourceServer(tx, idOrName)
        if (!details) throw new Error(`There is no resource server ${idOrName}.`)
        await recordAudit(tx, { event: 'resource_server.removed', details })
        return details
      })
      print(removed)
    }),
  )

addIssuerCommands(program, withDatabase)
addRegistrationCommands(program, withDatabase)
addKeyCommands(program, withDatabase)
addRevokeAllCommand(program, withDatabase)
addUserCommands(program, withDatabase)
addPruneCommand(program, withDatabase)
addAuditCommands(program, withDatabase)

try {
  await program.parseAsync()
} catch (error) {
  say(sentence(error))
  process.exitCode = 1
}

async function withDatabaseUrl(
  work: (url: string, embedded: boolean) => Promise<unknown>,
): Promise<void> {
  const database = await openDatabase(readConfig(process.env), say)
  try {
    await work(database.url, database.embedded)
  } finally {
    await database.close()
  }
}

async function withDatabase(work: (db: Database, config: Config) => Promise<void>): Promise<void> {
  await withDatabaseUrl(async (url, embedded) => {
    if (embedded) await migrate(url, 'up', { log: say })
    const { pool, db } = connect(url, { max: 1, onLost: say })
    try {
      await requireMigrations(pool)
      await work(db, readConfig(process.env))
    } finally {
      await pool.end()
    }
  })
}
