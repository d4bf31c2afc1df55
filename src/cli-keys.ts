/** `registrar keys`: the keys that tokens are signed with. Replicas follow within seconds. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Command } from 'commander'
import { print, say, type WithDatabase } from './cli-io.js'
import type { Config } from './config.js'
import { MAX_AGE_SECONDS } from './domain/metadata.js'
import { publishedAheadSeconds, REPLICAS_LOOK_EVERY_MS } from './domain/signing-key.js'
import { resealKeys, retireKey, rotateKeys } from './key-store.js'
import { listSigningKeys, type SigningKeyRow } from './repositories/signing-keys.js'
import type { Database } from './repositories/tables.js'
import { localSecret } from './secret.js'

const MINUTES = MAX_AGE_SECONDS / 60
/** By then every replica that can reach the database has read the keys again. */
const FOLLOWED_MS = REPLICAS_LOOK_EVERY_MS + 1_000

const HELP = `
Examples:
  registrar keys list
  registrar keys rotate              a new key, which signs in six minutes
  registrar keys rotate --now        when the signing key may have leaked; then
  registrar keys retire KID          for the old key: when it returns, nothing that KID signed is accepted any more
  registrar keys reseal              after SECRET was rotated`

export function addKeyCommands(program: Command, withDatabase: WithDatabase): void {
  const keys = program
    .command('keys')
    .description('the keys that tokens are signed with')
    .addHelpText('after', HELP)

  keys
    .command('list')
    .description('list them: waiting, signing, verifying, expired or retired')
    .action(() => withDatabase(async (db) => print((await listSigningKeys(db)).map(shown))))

  keys
    .command('rotate')
    .description(
      'make a new key, which signs once every cache has it; the previous key verifies until its tokens have expired',
    )
    .option(
      '--now',
      `let it sign at once, for when the old key may have leaked: APIs that cache our keys may refuse its tokens for ${MINUTES} minutes`,
    )
    .action(({ now }: { now?: true }) =>
      withDatabase(async (db, config) => {
        const wait = now ? 0 : publishedAheadSeconds(MAX_AGE_SECONDS)
        const kid = await rotateKeys(db, secretsOf(config), wait)
        if (now)
          say(
            `The new key signs from now on. APIs that cache our keys may refuse its tokens for ${MINUTES} minutes. Tokens that the previous key signed stay valid until they expire; if it has leaked, end them with registrar keys retire`,
          )
        await print(await show(db, kid))
      }),
    )

  keys
    .command('retire <kid>')
    .description(
      'for a key that has leaked: every token and assertion that it signed is dead at once',
    )
    .action((kid: string) =>
      withDatabase(async (db) => {
        await retireKey(db, kid)
        say(`Retired. Waiting ${FOLLOWED_MS / 1000} seconds, until every replica has noticed.`)
        await sleep(FOLLOWED_MS)
        say(
          `Its tokens are refused from now on here and at introspection; by APIs that cache our keys within ${MINUTES} minutes. Their agents have to register again.`,
        )
        await print(await show(db, kid))
      }),
    )

  keys
    .command('reseal')
    .description(
      'seal every key under the first secret of SECRET now; replicas do it by themselves an hour after a new secret is known',
    )
    .action(() =>
      withDatabase(async (db, config) =>
        print({ resealed: await resealKeys(db, secretsOf(config)) }),
      ),
    )
}

/** Without SECRET, the one that a local server keeps in DATA_DIR. */
function secretsOf({ secrets, DATA_DIR }: Config): Buffer[] {
  return secrets.length > 0 ? secrets : [localSecret(DATA_DIR)]
}

async function show(db: Database, kid: string) {
  return shown((await listSigningKeys(db)).find((key) => key.kid === kid)!)
}

function shown(key: SigningKeyRow) {
  const { kid, status, created_at, signs_from, succeeded_at, retired_at, verifies_until } = key
  return { kid, status, created_at, signs_from, succeeded_at, retired_at, verifies_until }
}
