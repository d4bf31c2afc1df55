/** Signing keys: public parts for everyone, private parts sealed. All times are the database's. */
import { sql } from 'kysely'
import type { SealedSigningKey } from '../domain/signing-key.js'
import type { Database, DatabaseTransaction } from './tables.js'

type SigningKeyStatus = 'waiting' | 'signing' | 'verifying' | 'expired' | 'retired'

export interface SigningKeyRow extends SealedSigningKey {
  token_lifetime_seconds: number
  created_at: Date
  signs_from: Date
  /** When another key takes its place, or took it. */
  succeeded_at: Date | null
  retired_at: Date | null
  verifies_until: Date | null
  status: SigningKeyStatus
}

/** An arbitrary number of our own. Replicas that start at once on an empty database must end with one key. */
const KEYS_LOCK = 7_221_001

/** Until the transaction ends, no other makes or retires keys. */
export async function lockKeys(tx: DatabaseTransaction): Promise<void> {
  await sql`select pg_advisory_xact_lock(${KEYS_LOCK})`.execute(tx)
}

/**
 * All keys, in the order of their turns. A key retired during or after its turn still ends the turn of the one before,
 * which would come back to life otherwise; one retired while it waited never had a turn.
 */
export async function listSigningKeys(db: Database): Promise<SigningKeyRow[]> {
  const { rows } = await sql<SigningKeyRow>`
    with turns as (
      select kid, lead(signs_from) over (order by signs_from, kid) as succeeded_at
      from signing_keys where retired_at is null or retired_at > signs_from
    ), lives as (
      select k.*, succeeded_at,
        coalesce(retired_at, succeeded_at + make_interval(secs => token_lifetime_seconds)) as verifies_until
      from signing_keys k left join turns using (kid)
    )
    select *, case
        when retired_at is not null then 'retired'
        when signs_from > statement_timestamp() then 'waiting'
        when verifies_until <= statement_timestamp() then 'expired'
        when succeeded_at <= statement_timestamp() then 'verifying'
        else 'signing'
      end as status
    from lives order by signs_from, kid`.execute(db)
  return rows
}

/** The keys that verify or will: what JWKS shows. */
export async function publishedKeys(db: Database): Promise<SigningKeyRow[]> {
  const published: SigningKeyStatus[] = ['waiting', 'signing', 'verifying']
  return (await listSigningKeys(db)).filter(({ status }) => published.includes(status))
}

/** Publishes a key at once; its turn to sign comes `waitSeconds` later. Returns when that is. */
export async function insertSigningKey(
  tx: DatabaseTransaction,
  { kid, public_jwk, private_jwk_sealed }: SealedSigningKey,
  waitSeconds: number,
): Promise<Date> {
  const { signs_from } = await tx
    .insertInto('signing_keys')
    .values({
      kid,
      public_jwk: JSON.stringify(public_jwk),
      private_jwk_sealed,
      // Not now(), which is from before the wait for the lock.
      signs_from: sql<Date>`statement_timestamp() + make_interval(secs => ${waitSeconds})`,
    })
    .returning('signs_from')
    .executeTakeFirstOrThrow()
  return signs_from
}

/**
 * Called before the first signature under longer lifetimes, so that the key verifies for as long. Never shortens it.
 */
export async function raiseTokenLifetime(
  db: Database,
  kid: string,
  seconds: number,
): Promise<void> {
  await db
    .updateTable('signing_keys')
    .set({ token_lifetime_seconds: seconds })
    .where('kid', '=', kid)
    .where('token_lifetime_seconds', '<', seconds)
    .execute()
}

export async function markRetired(tx: DatabaseTransaction, kid: string): Promise<void> {
  await tx
    .updateTable('signing_keys')
    .set({ retired_at: sql<Date>`statement_timestamp()` })
    .where('kid', '=', kid)
    .execute()
}

/** Replaces the sealed private key, unless another replica was faster. */
export async function replaceSeal(
  db: Database,
  { kid, private_jwk_sealed: before }: SealedSigningKey,
  after: Buffer,
): Promise<void> {
  await db
    .updateTable('signing_keys')
    .set({ private_jwk_sealed: after })
    .where('kid', '=', kid)
    .where('private_jwk_sealed', '=', before)
    .execute()
}
