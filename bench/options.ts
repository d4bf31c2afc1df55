/** The command line of the bench. */
import { parseArgs } from 'node:util'
import { SCENARIOS, type Scenario } from './scenarios.js'

export interface Options {
  rows: number[]
  scenarios: Scenario[]
  seconds: number
  rounds: number
  connections: number
  replicas: number
  limits: boolean
  latency: boolean
  soakMinutes: number
  start: boolean
  baseline: string | undefined
  against: URL | undefined
  againstPid: number | undefined
  rateLimits: boolean
  logLevel: string | undefined
  profile: string | undefined
  out: string
}

export const HELP = `npm run bench [-- OPTIONS]: what requests cost on this machine. Talks to 127.0.0.1 only.

  --rows N,N          registrations in the store, besides those that the load needs (0,100000)
  --scenarios A,B     ${SCENARIOS.join(', ')} (all)
  --seconds N         of each measurement, after a warm-up (2.5)
  --rounds N          of all measurements, by turns (3)
  --connections N     kept alive (32)
  --replicas N        through nginx (1, without)
  --limits            what this machine can do at all, and how far from that the server is
  --latency           p99 and p50 at half of the saturation load as well, also of an empty route
  --against URL       another auth.md server on this machine, measured by turns with this one
  --against-pid PID   its process, if it is not the one that listens there; it is pinned while the bench runs
  --baseline DIR      another checkout of this project, built, measured by turns with this one on its own data
  --soak MINUTES      all scenarios at once for so long, and how memory grows; instead of the table
  --start             from process start to ready; instead of the table
  --rate-limits       counted as in production, but a million an hour of each
  --log-level LEVEL   of the server (its default)
  --profile DIR       the server writes a CPU profile there when it stops
  --out FILE          all figures as JSON (dist/bench.json)
  --help

DATABASE_URL: makes its databases there, and drops them. Without it a Postgres of its own is started, durable as by default.`

/** Undefined when help was asked for. @throws an error that says what is wrong with the arguments. */
export function readOptions(args: string[]): Options | undefined {
  const { values } = parseArgs({
    args,
    options: {
      rows: { type: 'string', default: '0,100000' },
      scenarios: { type: 'string', default: SCENARIOS.join(',') },
      seconds: { type: 'string', default: '2.5' },
      rounds: { type: 'string', default: '3' },
      connections: { type: 'string', default: '32' },
      replicas: { type: 'string', default: '1' },
      limits: { type: 'boolean', default: false },
      latency: { type: 'boolean', default: false },
      against: { type: 'string' },
      'against-pid': { type: 'string' },
      baseline: { type: 'string' },
      soak: { type: 'string', default: '0' },
      start: { type: 'boolean', default: false },
      'rate-limits': { type: 'boolean', default: false },
      'log-level': { type: 'string' },
      profile: { type: 'string' },
      out: { type: 'string', default: 'dist/bench.json' },
      help: { type: 'boolean', default: false },
    },
  })
  if (values.help) return undefined
  return {
    rows: [...new Set(values.rows.split(',').map((text) => whole('rows', text, 0, 20_000_000)))],
    scenarios: values.scenarios.split(',').map(scenario),
    seconds: positive('seconds', values.seconds, 600),
    rounds: whole('rounds', values.rounds, 1, 100),
    connections: whole('connections', values.connections, 1, 1_000),
    replicas: whole('replicas', values.replicas, 1, 16),
    limits: values.limits,
    latency: values.latency,
    soakMinutes: values.soak === '0' ? 0 : positive('soak', values.soak, 1_440),
    start: values.start,
    against: values.against === undefined ? undefined : localUrl(values.against),
    againstPid:
      values['against-pid'] === undefined
        ? undefined
        : whole('against-pid', values['against-pid'], 1, 2 ** 22),
    baseline: values.baseline,
    rateLimits: values['rate-limits'],
    logLevel: values['log-level'],
    profile: values.profile,
    out: values.out,
  }
}

function scenario(name: string): Scenario {
  const found = SCENARIOS.find((known) => known === name)
  if (found) return found
  throw new Error(`--scenarios: there is no ${name}. There are ${SCENARIOS.join(', ')}`)
}

function whole(name: string, text: string, min: number, max: number): number {
  const number = /^\d+$/.test(text) ? Number(text) : NaN
  if (number >= min && number <= max) return number
  throw new Error(`--${name}: a whole number from ${min} to ${max}, not ${text}`)
}

function positive(name: string, text: string, max: number): number {
  const number = /^\d+(\.\d+)?$/.test(text) ? Number(text) : NaN
  if (number > 0 && number <= max) return number
  throw new Error(`--${name}: more than 0 and at most ${max}, not ${text}`)
}

function localUrl(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (url?.protocol === 'http:' && ['127.0.0.1', 'localhost', '[::1]'].includes(url.hostname))
    return url
  throw new Error(`--against: an http URL on this machine (http://127.0.0.1:PORT), not ${text}`)
}
