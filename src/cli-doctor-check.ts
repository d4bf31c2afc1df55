/** One check of the doctor: its status, what was found, and how to fix it. */
import { setTimeout as sleep } from 'node:timers/promises'

export interface Check {
  name: string
  /** `warning`: it works, or could not be checked, and somebody should know. */
  status: 'ok' | 'warning' | 'fault'
  found: string
  /** What to do; null when there is nothing to do. */
  fix: string | null
}

/** The longest that one check may take. */
const LIMIT_MS = 5_000

export function ok(name: string, found: string): Check {
  return { name, status: 'ok', found, fix: null }
}

export function warning(name: string, found: string, fix: string): Check {
  return { name, status: 'warning', found, fix }
}

export function fault(name: string, found: string, fix: string): Check {
  return { name, status: 'fault', found, fix }
}

export function notChecked(name: string, want: string): Check {
  return warning(name, `not checked: it needs ${want}`, `fix ${want} first`)
}

/**
 * Runs one check. An error of `work` is a fault, and so is a timeout; then its signal aborts what is still under way.
 */
export async function attempt(
  name: string,
  fix: string | ((error: unknown) => string),
  work: (signal: AbortSignal) => Promise<Check>,
): Promise<Check> {
  const over = new AbortController()
  const late = sleep(LIMIT_MS, undefined, over).then(() => {
    throw new Error(`no answer within ${LIMIT_MS / 1000} s`)
  })
  const check = await Promise.race([work(over.signal), late]).catch((error: unknown) =>
    fault(name, reasonOf(error), typeof fix === 'string' ? fix : fix(innermost(error))),
  )
  over.abort()
  return check
}

/** The error at the bottom: libraries wrap network errors, and a host with several addresses fails with several. */
export function innermost(error: unknown): unknown {
  const { cause, errors } = error as Partial<AggregateError> & { cause?: unknown }
  const inner = errors?.[0] ?? cause
  return inner instanceof Error ? innermost(inner) : error
}

/** The error's message, with that of its innermost cause. */
export function reasonOf(error: unknown): string {
  const { message } = error as Error
  const { message: inner, cause } = innermost(error) as Error
  const origin = cause instanceof Response ? `HTTP status ${cause.status}` : inner
  return message === '' || message === origin ? origin : `${message} (${origin})`
}
