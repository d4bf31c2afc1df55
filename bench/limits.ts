/** What this machine can do at most, and how far from that the server is. */
import { execFile, spawn } from 'node:child_process'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { processes } from './accounting.js'
import { pinned } from './cores.js'
import type { Cost } from './limits/cost.js'
import { freePort } from '../src/embedded.js'
import { printTable, range, summaryOf, type Series } from './report.js'
import { answers, get } from './requests.js'
import type { Scope } from './scope.js'
import { summarize } from './statistics.js'
import type { Target } from './target.js'

export type Limit = 'jose' | 'node' | 'select' | 'insert'
export type Limits = Record<Limit, Cost[]>

const NAMES: Record<Limit, string> = {
  jose: 'ES256 verify + sign, jose',
  node: 'ES256 verify + sign, node:crypto',
  select: 'indexed select, pg',
  insert: 'insert, pg',
}

const program = (name: string) => join(import.meta.dirname, 'limits', `${name}.js`)

/** A server with one route that does nothing. */
export async function startEmptyRoute(life: Scope, cores: string | undefined): Promise<Target> {
  const port = await freePort()
  const command = pinned(cores, [process.execPath, program('empty-route'), String(port)])
  const child = spawn(command[0]!, command.slice(1), { stdio: 'inherit' })
  const ended = new Promise((resolve) => child.once('close', resolve))
  life.teardown(async () => {
    child.kill('SIGTERM')
    await ended
  })
  const url = `http://127.0.0.1:${port}`
  for (let tries = 0; !(await fetch(url).catch(() => undefined)); tries += 1) {
    if (tries > 200) throw new Error('The empty route does not answer')
    await sleep(50)
  }
  const pids = [child.pid!]
  return {
    name: 'Fastify alone',
    rows: 0,
    host: '127.0.0.1',
    port,
    server: processes(pids),
    postgres: undefined,
    proxy: undefined,
    pids: () => pids,
    jobs: { empty_route: { next: () => get('/'), expected: answers(200, '"ok"') } },
  }
}

/** Measures the limits that need no server once more. */
export async function addLimits(
  limits: Limits,
  cores: string | undefined,
  database: { url: string; count: number },
): Promise<void> {
  const ask = async (...command: string[]): Promise<Partial<Record<Limit, Cost>>> => {
    const [file, ...args] = pinned(cores, [process.execPath, ...command])
    return JSON.parse((await promisify(execFile)(file!, args)).stdout)
  }
  const figures = {
    ...(await ask(program('signatures'))),
    ...(await ask(program('driver'), database.url, String(database.count))),
  }
  for (const [limit, cost] of Object.entries(figures)) limits[limit as Limit].push(cost)
}

export function printLimits(limits: Limits, all: Series[]): void {
  const empty = all.find(({ scenario }) => scenario === 'empty_route')!
  const { requests_per_second, server_us } = summaryOf(empty)
  console.log('\nWhat this machine can do on one core\n')
  printTable(
    ['limit', '', 'a second', 'CPU µs'],
    [
      ...Object.entries(limits).map(([limit, costs]) => [
        NAMES[limit as Limit],
        '',
        range(summarize(costs.map(({ per_second }) => per_second))),
        range(summarize(costs.map(({ us }) => us))),
      ]),
      ['empty Fastify route', '', range(requests_per_second), range(server_us)],
    ],
  )
  const lines = distances(limits, all).map((line) => [
    `${line.scenario}, in ${line.of}`,
    line.target,
    range(line.distance, 2),
    `at most ${line.goal}`,
    line.distance.median <= line.goal ? 'reached' : 'not reached',
  ])
  console.log('\nCPU of the server per request, against these limits\n')
  printTable(['scenario', 'server', 'times', 'goal', ''], lines)
}

/** Each goal, for every server on which its scenario was measured; compared within each round. */
export function distances(limits: Limits, all: Series[]) {
  const empty = all
    .find(({ scenario }) => scenario === 'empty_route')!
    .samples.map(({ server_us }) => server_us)
  // Beside another server the pairs are measured once for all rounds.
  const withPair = (limit: Limit) =>
    empty.map((us, round) => us + (limits[limit][round] ?? limits[limit].at(-1)!).us)
  const goals = [
    {
      scenario: 'exchange',
      of: 'node:crypto pairs + empty routes',
      limit: withPair('node'),
      goal: 1.6,
    },
    { scenario: 'exchange', of: 'jose pairs + empty routes', limit: withPair('jose'), goal: 1.6 },
    { scenario: 'poll', of: 'empty routes', limit: empty, goal: 2.5 },
    { scenario: 'metadata', of: 'empty routes', limit: empty, goal: 1.2 },
  ]
  return goals.flatMap(({ scenario, of, limit, goal }) =>
    all
      .filter((series) => series.scenario === scenario)
      .map(({ target, samples }) => {
        const quotients = samples.map(({ server_us }, round) => server_us / limit[round]!)
        return { scenario, of, goal, target, distance: summarize(quotients) }
      }),
  )
}
