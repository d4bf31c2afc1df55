/** The Postgres of a bench: one of its own that is as durable as Postgres is by default, or the one at DATABASE_URL. */
import { totalmem } from 'node:os'
import { openEmbeddedPostgres } from '../src/embedded.js'
import { ask, findBinaries, ownServer } from './postgres.js'
import type { Scope } from './scope.js'

/** Segments of the write-ahead log, 16 MB each. */
const SEGMENTS = 64

/** Returns the URL of a server where databases can be made. */
export async function openCluster(life: Scope, folder: string): Promise<string> {
  const { DATABASE_URL } = process.env
  if (DATABASE_URL) return DATABASE_URL
  const settings = {
    // A quarter of the memory, as the manual advises; loading millions of rows must not wait for checkpoints.
    shared_buffers: `${Math.floor(totalmem() / 2 ** 20 / 4)}MB`,
    max_wal_size: '8GB',
    min_wal_size: `${16 * SEGMENTS}MB`,
    max_connections: '300',
  }
  const url =
    findBinaries() === undefined
      ? await openEmbedded(life, folder, settings)
      : (await ownServer(life, folder, settings)).url
  await writeSegments(url)
  return url
}

async function openEmbedded(
  life: Scope,
  folder: string,
  settings: Record<string, string>,
): Promise<string> {
  const embedded = await openEmbeddedPostgres({ dataDir: folder, settings, log: () => {} })
  life.teardown(() => embedded.close())
  return embedded.url
}

/**
 * Makes segments for the log to reuse, as on a server that ran for a while: each takes 40 ms, in which nobody commits.
 */
async function writeSegments(url: string): Promise<void> {
  await ask(
    url,
    `do $$ begin
      for n in 1..${SEGMENTS} loop perform pg_create_restore_point('bench'), pg_switch_wal(); end loop;
    end $$`,
  )
  await ask(url, 'checkpoint')
}
