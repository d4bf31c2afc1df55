/**
 * What the operator's commands share: results on stdout, as JSON or on a terminal as a table; messages for people on
 * stderr; and parsers for option values.
 */
import { InvalidArgumentError } from 'commander'
import { table } from './cli-table.js'
import type { Config } from './config.js'
import { canonicalEmail } from './domain/login-hint.js'
import { findUserId } from './repositories/people.js'
import type { Database } from './repositories/tables.js'

export type WithDatabase = (work: (db: Database, config: Config) => Promise<void>) => Promise<void>

export const say = (line: string) => console.error(line)
/** `asked`: `--json` was given. */
export const output = { asked: false, to: process.stdout as NodeJS.WritableStream }

export const printJson = (value: unknown) => printLine(JSON.stringify(value, null, 2))

/** Prints a table only on a terminal and without `--json`: scripts always read JSON. */
export async function print(value: unknown): Promise<void> {
  if (output.asked || !process.stdout.isTTY) await printJson(value)
  else await printLine(table(value, process.stdout.columns))
}

export const printLine = (line: string) => write([`${line}\n`])

/** Waits for a slow reader; one that stops early, such as `head`, is no fault. `console.log` would hide a full disk. */
export async function write(texts: Iterable<string> | AsyncIterable<string>): Promise<void> {
  for await (const text of texts) {
    const fault = await faultOfWriting(text)
    if (fault?.code === 'EPIPE') return
    if (fault)
      throw new Error(
        `Standard output could not be written: ${fault.message}. What the command did stays done.`,
      )
  }
}

function faultOfWriting(text: string): Promise<NodeJS.ErrnoException | undefined> {
  return new Promise((resolve) => {
    const { to } = output
    // The stream also emits the error, after the callback.
    to.once('error', resolve)
    to.write(text, (error) => {
      if (!error) to.off('error', resolve)
      resolve(error ?? undefined)
    })
  })
}

export function wholeNumber(text: string): number {
  if (!/^[1-9]\d{0,8}$/.test(text)) throw new InvalidArgumentError('A whole number, from 1.')
  return Number(text)
}

/** Parses a time with its zone, so that it means the same on every machine; a date alone is its first moment in UTC. */
export function instant(text: string): Date {
  const [, date] =
    /^(\d{4}-\d\d-\d\d)(T\d\d:\d\d(:\d\d(\.\d{1,3})?)?(Z|[+-]\d\d:\d\d))?$/.exec(text) ?? []
  const [day, time] = [new Date(date ?? ''), new Date(text)]
  const isTime = [day, time].every((at) => !Number.isNaN(at.getTime()))
  // `Date` would take a day that its month does not have for one of the next.
  if (!isTime || !day.toISOString().startsWith(date!))
    throw new InvalidArgumentError('A time with its zone, as 2026-01-31T09:00:00Z.')
  return time
}

export function oneOf<Name extends string>(...names: Name[]): (text: string) => Name {
  return (text) => {
    const found = names.find((name) => name === text)
    if (found === undefined) throw new InvalidArgumentError(`One of ${names.join(', ')}.`)
    return found
  }
}

/** Finds a user by id, or by address in any spelling. @throws without repeating the address, which may be logged. */
export async function userId(db: Database, idOrEmail: string): Promise<string> {
  const email = canonicalEmail(idOrEmail)
  const id = await findUserId(db, email === undefined ? { id: idOrEmail } : { email })
  if (id === undefined) throw new Error('There is no such user.')
  return id
}
