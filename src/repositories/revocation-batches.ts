/**
 * Ends very many registrations while replicas serve: each batch takes the locks that are free and waits for none, so
 * that it neither deadlocks with requests nor holds them up for longer than it works. What was not free is left for
 * later.
 */
import { sql, type RawBuilder } from 'kysely'
import { recordAudit } from './audit-events.js'
import { subjectKey, type Subject } from './delegations.js'
import { revocation, type Details } from './revocations.js'
import type { DatabaseTransaction } from './tables.js'

export interface Batch {
  /** The registrations to end. */
  ids: string[]
  /** The subjects of those registrations, and any others whose delegations end. */
  subjects: Subject[]
  /** Only this user's delegations for the subjects end; absent: anybody's. */
  user_id?: string
}

export interface Ended {
  registrations: number
  delegations: number
  /** Registrations and delegations of the batch that are still in force. */
  left: number
}

export async function endBatch(
  db: DatabaseTransaction,
  { ids, subjects, user_id: of }: Batch,
  details: Details,
): Promise<Ended> {
  const locked = await tryLockSubjects(db, subjects)
  const delegations = await removeFree(db, locked, of)
  const held = await remaining(db, locked, of)
  const free = without(locked, held)
  const revoked = await revokeFree(db, ids, free)
  await recordAudit(
    db,
    ...delegations.map(({ user_id }) => ({
      event: 'delegation.removed' as const,
      user_id,
      details,
    })),
    ...revoked.map((row) => revocation(row, details)),
  )
  const left = (await countLive(db, ids)) + (await remaining(db, subjects, of)).length
  return { registrations: revoked.length, delegations: delegations.length, left }
}

async function tryLockSubjects(db: DatabaseTransaction, subjects: Subject[]): Promise<Subject[]> {
  const key = subjectKey(sql.ref('asked.issuer'), sql.ref('asked.subject'))
  const { rows } = await sql<Subject>`
    select issuer, subject from ${table(subjects)} where pg_try_advisory_xact_lock(${key})`.execute(
    db,
  )
  return rows
}

/** Skips locked rows: a first sign-in locks delegations without their subject's lock. */
async function removeFree(
  db: DatabaseTransaction,
  subjects: Subject[],
  userId: string | undefined,
): Promise<{ user_id: string }[]> {
  const { rows } = await sql<{ user_id: string }>`
    delete from delegations where ctid = any (array(
      select ctid from delegations where ${standFor(subjects, userId)}
      for update skip locked))
    returning user_id`.execute(db)
  return rows
}

async function remaining(
  db: DatabaseTransaction,
  subjects: Subject[],
  userId: string | undefined,
): Promise<Subject[]> {
  const { rows } = await sql<Subject>`
    select issuer, subject from delegations where ${standFor(subjects, userId)}`.execute(db)
  return rows
}

async function revokeFree(
  db: DatabaseTransaction,
  ids: string[],
  free: Subject[],
): Promise<{ id: string; user_id: string | null }[]> {
  const { rows } = await sql<{ id: string; user_id: string | null }>`
    update registrations set revoked_at = now(), generation = generation + 1
    where id = any (array(
      select id from registrations where id = any (${ids}) and revoked_at is null
        and (issuer is null or (issuer, subject) in (select issuer, subject from ${table(free)}))
      for no key update skip locked))
    returning id, user_id`.execute(db)
  return rows
}

async function countLive(db: DatabaseTransaction, ids: string[]): Promise<number> {
  const { live } = await db
    .selectFrom('registrations')
    .select(sql<number>`count(*)::int`.as('live'))
    .where('id', '=', sql<string>`any (${ids})`)
    .where('revoked_at', 'is', null)
    .executeTakeFirstOrThrow()
  return live
}

function standFor(subjects: Subject[], userId: string | undefined): RawBuilder<boolean> {
  const whose = userId === undefined ? sql`true` : sql`user_id = ${userId}`
  return sql`(issuer, subject) in (select issuer, subject from ${table(subjects)}) and ${whose}`
}

function table(subjects: Subject[]): RawBuilder<unknown> {
  const [issuers, names] = [subjects.map((of) => of.issuer), subjects.map((of) => of.subject)]
  return sql`unnest(${issuers}::text[], ${names}::text[]) as asked (issuer, subject)`
}

function without(subjects: Subject[], others: Subject[]): Subject[] {
  const key = ({ issuer, subject }: Subject) => JSON.stringify([issuer, subject])
  const taken = new Set(others.map(key))
  return subjects.filter((of) => !taken.has(key(of)))
}
