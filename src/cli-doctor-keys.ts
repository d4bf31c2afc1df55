/**
 * The doctor's look at the signing keys, as replicas would find them. It makes and seals none, and stores no
 * fingerprint.
 */
import { attempt, fault, ok, warning, type Check } from './cli-doctor-check.js'
import { isKnown, isOwnDatabase } from './domain/secret-list.js'
import { openSigningKey } from './domain/signing-key.js'
import { FOREIGN_SECRET, keyInTurn, sealedUnderAnother } from './key-store.js'
import { listSecretFingerprints } from './repositories/secret-fingerprints.js'
import { publishedKeys, type SigningKeyRow } from './repositories/signing-keys.js'
import type { Database } from './repositories/tables.js'

const OTHER_SECRET =
  'start with the SECRET of the other replicas; docs/operating.md says what to do when it is lost'

export interface KeysSeen {
  checks: Check[]
  /** The key that signs, according to the database. */
  kid?: string
}

export async function keys(db: Database, readSecrets: () => Buffer[]): Promise<KeysSeen> {
  const seen: KeysSeen = { checks: [] }
  const name = 'keys'
  const first = await attempt(name, 'see what the database says', async () => {
    const published = await publishedKeys(db)
    const secrets = readSecrets()
    const signing = keyInTurn(published)
    if (signing) seen.kid = signing.kid
    const known = await listSecretFingerprints(db)
    if (!isOwnDatabase(secrets, known, published)) return fault(name, FOREIGN_SECRET, OTHER_SECRET)
    const late = waiting(published, secrets)
    if (late) seen.checks.push(late)
    if (secrets.length > 1 && !secrets.every((secret) => isKnown(secret, known)))
      seen.checks.push(
        warning(
          'secrets',
          'SECRET has a secret that the database does not know yet',
          'restart every replica with this SECRET: the first to start records it in the database',
        ),
      )
    if (!signing)
      return warning(name, 'none yet', 'start a replica: the first to start makes the first key')
    const opened = openSigningKey(secrets, signing)
    if (!opened) return fault(name, sealedUnderAnother(signing.kid), OTHER_SECRET)
    if (signing.status !== 'signing')
      return warning(
        name,
        `no key is due to sign yet: ${signing.kid} is due from ${signing.signs_from.toISOString()}, but replicas already sign with it`,
        'check the clock of the database: it fell behind, for example in a failover',
      )
    const under = secrets.indexOf(opened.secret) + 1
    return ok(name, `${signing.kid} signs; sealed under secret ${under} of ${secrets.length}`)
  })
  seen.checks.unshift(first)
  return seen
}

function waiting(published: SigningKeyRow[], secrets: Buffer[]): Check | undefined {
  const key = published.find(
    (one) => one.status === 'waiting' && openSigningKey(secrets, one) === undefined,
  )
  return (
    key &&
    fault(
      'waiting key',
      `SECRET does not open ${key.kid}, which is to sign from ${key.signs_from.toISOString()}`,
      'put the secret that it was sealed under back at the end of SECRET, then registrar keys reseal; or registrar keys rotate --now, which retires it',
    )
  )
}
