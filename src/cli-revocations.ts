/** Ends very many registrations, batch by batch and pass by pass, until none of them is alive. */
import { setTimeout as sleep } from 'node:timers/promises'
import { inTransaction } from './database.js'
import { endBatch, type Batch, type Ended } from './repositories/revocation-batches.js'
import { lockSubject, removeDelegation } from './repositories/delegations.js'
import { revokeById, type Details } from './repositories/revocations.js'
import type { Database, DatabaseTransaction } from './repositories/tables.js'

/** Passes that skip locked rows. Later ones wait for each row that is left, so that nobody can hold one for ever. */
const FREE_PASSES = 3
const PASSES = 6
const PAUSE_MS = 200

/** Lock timeout, deadlock, serialization failure. */
const BUSY = ['55P03', '40P01', '40001']

/**
 * `batches` is called anew for each pass, and leaves out what has ended by then. Safe to run on many machines at once,
 * and to run again after it was killed: each batch is done whole or not at all.
 * @throws when others held some locked through every pass, so that these live on.
 */
export async function endAll(
  db: Database,
  batches: () => AsyncIterable<Batch>,
  details: Details,
  onProgress: (registrations: number) => void = () => {},
): Promise<Omit<Ended, 'left'>> {
  const total = { registrations: 0, delegations: 0 }
  for (let pass = 1; pass <= PASSES; pass += 1) {
    let left = 0
    const end = pass <= FREE_PASSES ? endFree : endInTurn
    for await (const batch of batches()) {
      const ended = await end(db, batch, details)
      total.registrations += ended.registrations
      total.delegations += ended.delegations
      left += ended.left
      onProgress(total.registrations)
    }
    if (left === 0) return total
    await sleep(PAUSE_MS * pass)
  }
  throw new Error('Some stayed locked by other transactions and are still alive. Run it again.')
}

function endFree(db: Database, batch: Batch, details: Details): Promise<Ended> {
  return inTransaction(db, (tx) => endBatch(tx, batch, details))
}

/** One by one, waiting for whoever holds each. */
async function endInTurn(db: Database, batch: Batch, details: Details): Promise<Ended> {
  const ended = { registrations: 0, delegations: 0, left: 0 }
  const take = async (what: 'registrations' | 'delegations', work: Work) => {
    try {
      if (await inTransaction(db, work)) ended[what] += 1
    } catch (error) {
      if (!isBusy(error)) throw error
      ended.left += 1
    }
  }
  for (const of of batch.subjects)
    await take('delegations', async (tx) => {
      await lockSubject(tx, of)
      return await removeDelegation(tx, of, { details }, batch.user_id)
    })
  for (const id of batch.ids)
    await take('registrations', async (tx) => (await revokeById(tx, id, details)) === 'revoked')
  return ended
}

type Work = (tx: DatabaseTransaction) => Promise<boolean>

/** Repeats `work`, which must be done whole or not at all, when others held the rows. */
export async function retried<Result>(work: () => Promise<Result>, tries = 5): Promise<Result> {
  try {
    return await work()
  } catch (error) {
    if (tries === 1 || !isBusy(error)) throw error
    return await retried(work, tries - 1)
  }
}

function isBusy(error: unknown): boolean {
  return BUSY.includes(String((error as { code?: unknown }).code))
}
