/**
 * Where the log goes: standard output, a few kilobytes at a time. A write for each line costs a busy replica a tenth of
 * its time.
 */
import { pino } from 'pino'

const CHUNK_BYTES = 4_096
/** What a killed process may leave untold; one that ends tells all. */
const FLUSH_EVERY_MS = 100

export const logOutput = pino.destination({
  dest: 1,
  sync: true,
  minLength: CHUNK_BYTES,
  periodicFlush: FLUSH_EVERY_MS,
})

process.once('exit', () => logOutput.flushSync())
