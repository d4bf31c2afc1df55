/** Where the database is: the operator's, or an embedded one of our own that a local server brings along. */
import type { Config } from './config.js'
import { openEmbeddedPostgres } from './embedded.js'

export interface OpenDatabase {
  url: string
  /** Ours to migrate; one that the operator gave is the operator's. */
  embedded: boolean
  close(): Promise<void>
}

export async function openDatabase(
  { DATABASE_URL, DATA_DIR }: Config,
  log: (line: string) => void,
): Promise<OpenDatabase> {
  if (DATABASE_URL) return { url: DATABASE_URL, embedded: false, close: async () => {} }
  return { embedded: true, ...(await openEmbeddedPostgres({ dataDir: DATA_DIR, log })) }
}
