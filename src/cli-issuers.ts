/** `registrar issuers`: the trust list. Replicas read it with every assertion, so a change is in force at once. */
import type { Command } from 'commander'
import { print, type WithDatabase } from './cli-io.js'
import { inTransaction } from './database.js'
import { ALGORITHMS, canonicalDomain, issuerFaults } from './domain/issuer.js'
import { recordAudit, type AuditEvent } from './repositories/audit-events.js'
import { findIssuerOfDatabase } from './repositories/deployment.js'
import { findIssuer, listIssuers, putIssuer, stopIssuer } from './repositories/issuers.js'
import type { Database } from './repositories/tables.js'

interface AddOptions {
  name: string
  jwksUri?: string
  clientId?: string[]
  algorithm?: string[]
  emailDomain?: string[]
  audience?: string[]
  requireAmr?: string[]
  multiTenant?: true
}

const HELP = `
A change takes effect on every replica at once. An option that "add" leaves out goes back to its default.

Examples:
  registrar issuers add https://idp.example --name "Example" --client-id agent-1
  registrar issuers add https://idp.example --name "Example" --algorithm ES256 --email-domain example.com
  registrar issuers disable https://idp.example`

const each = (value: string, before: string[] = []) => [...before, value]

export function addIssuerCommands(program: Command, withDatabase: WithDatabase): void {
  const issuers = program
    .command('issuers')
    .description('the trust list: providers whose identity assertions are accepted')
    .addHelpText('after', HELP)

  issuers
    .command('list')
    .description('list them, without those that were removed')
    .action(() => withDatabase(async (db) => print(await listIssuers(db))))

  issuers
    .command('show <issuer>')
    .description('show one, also one that was removed')
    .action((issuer: string) =>
      withDatabase(async (db) => print((await findIssuer(db, issuer)) ?? unknown(issuer))),
    )

  issuers
    .command('add <issuer>')
    .description('add a provider, or replace its entry; also puts a disabled or removed one back')
    .requiredOption('--name <name>', 'the name that people are shown')
    .option('--jwks-uri <url>', 'where its keys are (default: <issuer>/.well-known/jwks.json)')
    .option('--client-id <id>', 'a client_id it may use besides its own URL (repeatable)', each)
    .option('--algorithm <name>', `${ALGORITHMS.join(', ')} (repeatable; default: all)`, each)
    .option(
      '--email-domain <domain>',
      'a domain whose addresses it may vouch for (repeatable; default: any)',
      each,
    )
    .option(
      '--audience <uri>',
      'aud values it may use (repeatable; default: our issuer or resource)',
      each,
    )
    .option('--require-amr <method>', 'a method that must be in amr (repeatable)', each)
    .option('--multi-tenant', 'its subjects are unique only together with tenant')
    .action((issuer: string, options: AddOptions) =>
      withDatabase(async (db, config) => {
        const entry = {
          issuer,
          name: options.name,
          jwks_uri: options.jwksUri ?? `${issuer.replace(/\/$/, '')}/.well-known/jwks.json`,
          client_ids: options.clientId ?? [],
          algorithms: options.algorithm ?? [...ALGORITHMS],
          email_domains: (options.emailDomain ?? []).map(
            (domain) => canonicalDomain(domain) ?? domain,
          ),
          audiences: options.audience ?? [],
          required_amr: options.requireAmr ?? [],
          multi_tenant: options.multiTenant ?? false,
        }
        const own = (await findIssuerOfDatabase(db)) ?? config.ISSUER
        const faults = issuerFaults(entry, { issuer: own, local: config.local })
        if (faults.length > 0) throw new Error(faults.join('\n'))
        const before = await findIssuer(db, issuer)
        if (before && before.multi_tenant !== entry.multi_tenant)
          throw new Error(
            '--multi-tenant cannot change: it is part of how its subjects are identified.',
          )
        await inTransaction(db, async (tx) => {
          await putIssuer(tx, entry)
          const listed = before && !before.removed_at
          await audit(tx, listed ? 'issuer.changed' : 'issuer.added', issuer)
        })
        await print(await findIssuer(db, issuer))
      }),
    )

  const stop = (verb: 'disable' | 'remove', column: 'disabled_at' | 'removed_at', what: string) =>
    issuers
      .command(`${verb} <issuer>`)
      .description(`${what}; its security events still revoke`)
      .action((issuer: string) =>
        withDatabase(async (db) => {
          await inTransaction(db, async (tx) => {
            if (!(await stopIssuer(tx, issuer, column))) unknown(issuer)
            await audit(tx, `issuer.${verb}d`, issuer)
          })
          await print(await findIssuer(db, issuer))
        }),
      )
  stop('disable', 'disabled_at', 'stop accepting its assertions, and keep it in the list')
  stop('remove', 'removed_at', 'take it off the list: its assertions stop working')
}

async function audit(db: Database, event: AuditEvent, issuer: string): Promise<void> {
  await recordAudit(db, { event, details: { issuer } })
}

function unknown(issuer: string): never {
  throw new Error(`There is no issuer ${issuer} in the trust list.`)
}
