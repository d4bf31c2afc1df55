/** The Postgres of a bench: one of its own that is as durable as Postgres is by default, or the one at DATABASE_URL. */
import { totalmem } from 'node:os'
import { openEmbeddedPostgres } from '../src/embedded.js'
import { findBinaries, ownServer } from './postgres.js'
import type { Scope } from './scope.js'

/** Returns where databases can be made. */
export async function openCluster(life: Scope, folder: string): Promise<string> {
  const { DATABASE_URL } = process.env
  if (DATABASE_URL) return DATABASE_URL
  const settings = {
    // A quarter of the memory, as the manual advises; loading millions of rows must not wait for checkpoints.
    shared_buffers: `${Math.floor(totalmem() / 2 ** 20 / 4)}MB`,
    max_wal_size: '8GB',
    max_connections: '300',
  }
  if (findBinaries() !== undefined) return (await ownServer(life, folder, settings)).url
  const log = () => {}
  const embedded = await openEmbeddedPostgres({ dataDir: folder, settings, log })
  life.teardown(() => embedded.close())
  return embedded.url
}
