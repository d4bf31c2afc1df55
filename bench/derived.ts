/** Ids and tokens derived from a number: the database makes millions of rows with them, and the load knows them too. */
import { createHash } from 'node:crypto'

/** One in so many registrations is a provider's, bound to a person; the others wait for their person. */
export const PEOPLE_EVERY = 10

const digest = (text: string) => createHash('sha256').update(text).digest('base64url')

/** Sorted by their numbers, as real ids are by time. */
export const registrationId = (i: number) =>
  `reg_${String(i).padStart(9, '0')}${digest(`registration ${i}`).slice(0, 13)}`
export const claimToken = (i: number) => `clm_${digest(`claim ${i}`)}`
export const subject = (i: number) => `person-${i}`

/** The same in SQL, from the column `i`. */
export const SQL = {
  registrationId: `'reg_' || lpad(i::text, 9, '0') || substr(${digestSql('registration')}, 1, 13)`,
  attemptId: `'cla_' || lpad(i::text, 9, '0') || substr(${digestSql('attempt')}, 1, 13)`,
  userId: `'user_' || substr(${digestSql('user')}, 1, 22)`,
  claimTokenHash: `sha256(convert_to('clm_' || ${digestSql('claim')}, 'UTF8'))`,
  subject: `'person-' || i`,
}

function digestSql(kind: string): string {
  const hash = `sha256(convert_to('${kind} ' || i, 'UTF8'))`
  return `translate(encode(${hash}, 'base64'), '+/=', '-_')`
}

/** Walks evenly over 1 … `count`: each comes once before any comes again, and neighbours are far apart. */
export function spread(count: number, wanted: (i: number) => boolean): () => number {
  const step = coprime(Math.max(1, Math.round(count * 0.618)), count)
  let at = 0
  return () => {
    do at = (at + step) % count
    while (!wanted(at + 1))
    return at + 1
  }
}

function coprime(from: number, count: number): number {
  const divisor = (a: number, b: number): number => (b === 0 ? a : divisor(b, a % b))
  let step = from
  while (divisor(step, count) !== 1) step += 1
  return step
}
