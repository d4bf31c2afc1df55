/**
 * What the operator's commands have in common: what was found on stdout, as JSON or on a terminal as a table; words for
 * people on stderr; and how values are given.
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
export const output = { asked: false }
export const printJson = (value: unknown) => console.log(JSON.stringify(value, null, 2))

/** What scripts read is always JSON. */
export function print(value: unknown): void {
  if (output.asked || !process.stdout.isTTY) printJson(value)
  else console.log(table(value, process.stdout.columns))
}

export function wholeNumber(text: string): number {
  if (!/^[1-9]\d{0,8}$/.test(text)) throw new InvalidArgumentError('A whole number, from 1.')
  return Number(text)
}

/** With its zone, so that it means the same on every machine; a date alone is its first moment in UTC. */
export function instant(text: string): Date {
  const [, date] =
    /^(\d{4}-\d\d-\d\d)(T\d\d:\d\d(:\d\d(\.\d{1,3})?)?(Z|[+-]\d\d:\d\d))?$/.exec(text) ?? []
  const [day, time] = [new Date(date ?? ''), new Date(text)]
  const isTime = [day, time].every((at) => !Number.isNaN(at.getTime()))
  // A day that its month does not have would be taken for one of the next.
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

/** By id or address, in any spelling of it. @throws without repeating an address, which would go to some log. */
export async function userId(db: Database, idOrEmail: string): Promise<string> {
  const email = canonicalEmail(idOrEmail)
  const id = await findUserId(db, email === undefined ? { id: idOrEmail } : { email })
  if (id === undefined) throw new Error('There is no such user.')
  return id
}
