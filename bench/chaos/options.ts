/** What `npm run chaos` can be told. */
import { parseArgs } from 'node:util'

export interface Options {
  seconds: number
  nginx: boolean
}

export const HELP = `Usage: npm run chaos -- [options]

Two replicas behind nginx work under load, on a Postgres of their own, while processes are killed, Postgres stops and
connections break, in turn. Prints what became of everything that was acknowledged; ends with 1 when something was lost.
All of it on this machine: it needs Postgres's and nginx's binaries. Ctrl-C stops everything.

Options:
  --seconds N  for how long it goes on; 600 without it
  --no-nginx   the load goes to the replicas themselves
  -h, --help   this

With DATABASE_URL in the environment it works in a database of its own on that server, whose connections it severs, but
which it does not stop.

Examples:
  npm run chaos
  npm run chaos -- --seconds 60 --no-nginx`

/** Undefined when help is asked for. @throws a sentence about what cannot be understood. */
export function readOptions(args: string[]): Options | undefined {
  const { values } = parseArgs({
    args,
    options: {
      seconds: { type: 'string', default: '600' },
      nginx: { type: 'boolean', default: true },
      help: { type: 'boolean', short: 'h', default: false },
    },
    allowNegative: true,
  })
  if (values.help) return undefined
  if (!/^[1-9]\d{0,8}$/.test(values.seconds)) throw new Error('--seconds: a whole number, from 1')
  return { seconds: Number(values.seconds), nginx: values.nginx }
}
