/** The secret of a local server that was given none: made once, kept in DATA_DIR, readable by its owner only. */
import { randomBytes } from 'node:crypto'
import { existsSync, linkSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

const BYTES = 32

/** Whether it was made already. */
export function hasLocalSecret(dataDir: string): boolean {
  return existsSync(pathIn(dataDir))
}

export function localSecret(dataDir: string): Buffer {
  const path = pathIn(dataDir)
  const secret = Buffer.from(kept(path, dataDir), 'base64')
  if (secret.length >= BYTES) return secret
  throw new Error(
    `${path} is damaged: it should hold ${BYTES} random bytes in base64. Restore it, or start anew without ${dataDir}`,
  )
}

function kept(path: string, dataDir: string): string {
  try {
    if (!hasLocalSecret(dataDir)) makeSecret(path, dataDir)
    return readFileSync(path, 'utf8')
  } catch (cause) {
    const { message } = cause as Error
    throw new Error(
      `SECRET is not set, and none can be kept in DATA_DIR (${dataDir}): ${message}`,
      { cause },
    )
  }
}

function pathIn(dataDir: string): string {
  return join(dataDir, 'secret')
}

/** Two processes that start at once end up with the same one: the link is made whole or not at all. */
function makeSecret(path: string, dataDir: string): void {
  // Never another process's draft: overwriting it would change the secret that was linked from it.
  const draft = `${path}.${randomBytes(8).toString('hex')}`
  mkdirSync(dataDir, { recursive: true })
  writeFileSync(draft, randomBytes(BYTES).toString('base64'), { mode: 0o600, flag: 'wx' })
  try {
    linkSync(draft, path)
  } catch {
    // Another was first; if not, reading it will fail.
  } finally {
    rmSync(draft)
  }
}
