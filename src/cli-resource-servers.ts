/** `registrar resource-servers`: the APIs that may ask about access tokens. */
import type { Command } from 'commander'
import { print, printJson, type WithDatabase } from './cli-io.js'
import { inTransaction } from './database.js'
import { hashSecret, newId, newSecret } from './domain/secrets.js'
import { recordAudit } from './repositories/audit-events.js'
import * as resourceServers from './repositories/resource-servers.js'

const HELP = `
An API asks with HTTP Basic: its id and its secret. To give it another secret, remove it and add it again.

Examples:
  registrar resource-servers add orders    prints its id and secret, the secret this once
  registrar resource-servers list
  registrar resource-servers remove orders`

export function addResourceServerCommands(program: Command, withDatabase: WithDatabase): void {
  const servers = program
    .command('resource-servers')
    .description('who may ask /oauth2/introspect about access tokens')
    .addHelpText('after', HELP)
  servers
    .command('list')
    .description('list them')
    .action(() => withDatabase(async (db) => print(await resourceServers.listResourceServers(db))))
  servers
    .command('add <name>')
    .description('add one; prints its id and secret as JSON, the secret this once')
    .action((name: string) =>
      withDatabase(async (db) => {
        if (name.trim() === '') throw new Error('A resource server needs a name.')
        const id = newId('rs_')
        const secret = newSecret('rss_')
        await inTransaction(db, async (tx) => {
          const row = { id, name, secret_hash: hashSecret(secret) }
          if (!(await resourceServers.insertResourceServer(tx, row)))
            throw new Error(`There is a resource server named ${name} already.`)
          await recordAudit(tx, { event: 'resource_server.added', details: { id, name } })
        })
        await printJson({ id, secret })
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
        await print(removed)
      }),
    )
}
