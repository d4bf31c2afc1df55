/** Where the database is: the operator's, or an embedded one of our own that a local server brings along. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { Config } from './config.js'
import { openEmbeddedPostgres, PASSWORD } from './embedded.js'

interface OpenDatabase {
  url: string
  /** Ours to migrate; one that the operator gave is the operator's. */
  embedded: boolean
  close(): Promise<void>
}

/** Whether `openDatabase` would find one, and not have to make it. */
export function isThere({ DATABASE_URL, DATA_DIR }: Config): boolean {
  return DATABASE_URL !== undefined || existsSync(join(DATA_DIR, 'postgres', PASSWORD))
}

export async function openDatabase(
  { DATABASE_URL, DATA_DIR }: Config,
  log: (line: string) => void,
): Promise<OpenDatabase> {
  if (DATABASE_URL) return { url: DATABASE_URL, embedded: false, close: async () => {} }
  return { embedded: true, ...(await openEmbeddedPostgres({ dataDir: DATA_DIR, log })) }
}
