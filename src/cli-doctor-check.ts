/** One thing that the doctor looks at: how it stands, what was found, and what mends it. */
import { setTimeout as sleep } from 'node:timers/promises'

export interface Check {
  name: string
  /** A warning: it works, or could not be looked at, and somebody should know. */
  status: 'ok' | 'warning' | 'fault'
  found: string
  /** What to do; null when all is well. */
  fix: string | null
}

/** The longest wait for any one of them. */
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
  return warning(name, `not checked: it needs ${want}`, `mend ${want} first`)
}

/** What `work` throws is a fault, and so is to wait too long for it; its signal ends what is then still under way. */
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

/** Libraries wrap what the network said, and a host has several addresses. */
export function innermost(error: unknown): unknown {
  const { cause, errors } = error as Partial<AggregateError> & { cause?: unknown }
  const inner = errors?.[0] ?? cause
  return inner instanceof Error ? innermost(inner) : error
}

/** With what it came of. */
export function reasonOf(error: unknown): string {
  const { message } = error as Error
  const { message: inner, cause } = innermost(error) as Error
  const origin = cause instanceof Response ? `HTTP status ${cause.status}` : inner
  return message === '' || message === origin ? origin : `${message} (${origin})`
}
