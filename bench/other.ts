/** Another auth.md server on this machine: its discovery and its answers tell what it can do. */
import { execFileSync } from 'node:child_process'
import { listenerOf, processes } from './accounting.js'
import type { Reply } from './connection.js'
import { load } from './load.js'
import { jobsOf, newStock, type Stock } from './other-jobs.js'
import * as scenarios from './scenarios.js'
import type { Scope } from './scope.js'
import type { Target } from './target.js'

export interface Other extends Target {
  /** Registers agents until there are `count`. */
  grow(count: number): Promise<void>
}

type Json = Record<string, unknown>

const PROBED: scenarios.Scenario[] = [
  'metadata',
  'anonymous',
  'service_auth',
  'exchange',
  'poll',
  'unknown_poll',
  'revoke',
  'api',
]

export async function openOther(
  life: Scope,
  url: URL,
  {
    pid = listenerOf(Number(url.port || 80)),
    cores,
  }: { pid: number | undefined; cores: string | undefined },
): Promise<Other> {
  const address = { host: url.hostname, port: Number(url.port || 80) }
  const ask = async (request: string): Promise<Reply> => {
    let answer: Reply | undefined
    const expected = (reply: Reply) => ((answer = reply), true)
    const options = { connections: 1, seconds: 10, requests: 1 }
    await load(address, { next: () => request, expected }, options)
    if (answer) return answer
    throw new Error(`--against: ${url.origin} does not answer`)
  }
  const paths = await discover(url)
  const stock = newStock(address, paths)
  await stock.grow(1)
  const api = await findApi(paths, stock, ask)
  const jobs = jobsOf({ ...paths, api }, stock)
  const known: scenarios.Jobs = {}
  for (const name of PROBED) {
    const job = jobs[name]!
    try {
      await job.prepare?.(1)
      if (job.expected(await ask(job.next()))) known[name] = job
    } catch (error) {
      console.error(`  --against: no ${name}: ${(error as Error).message}`)
    }
  }
  if (pid === undefined)
    console.error('  --against: its process was not found; --against-pid names it')
  else pinOther(life, pid, cores)
  const pids = pid === undefined ? [] : [pid]
  return {
    name: url.host,
    rows: 0,
    ...address,
    server: processes(pids),
    postgres: undefined,
    proxy: undefined,
    pids: () => pids,
    jobs: known,
    grow: stock.grow,
  }
}

/** Moves it to the core that our server has, until the bench ends. */
function pinOther(life: Scope, pid: number, cores: string | undefined): void {
  if (cores === undefined) return
  const taskset = (list: string) =>
    execFileSync('taskset', ['-a', '-p', '-c', list, String(pid)], { encoding: 'utf8' })
  const before = /list: (\S+)\s*$/m.exec(
    execFileSync('taskset', ['-p', '-c', String(pid)], { encoding: 'utf8' }),
  )?.[1]
  taskset(cores)
  life.teardown(() => before !== undefined && taskset(before))
}

async function discover(url: URL): Promise<scenarios.Paths> {
  const document = async (name: string): Promise<Json> => {
    const answer = await fetch(new URL(`/.well-known/${name}`, url)).catch(() => undefined)
    return answer?.ok ? ((await answer.json()) as Json) : {}
  }
  const server = await document('oauth-authorization-server')
  const agentAuth = server.agent_auth as Json | undefined
  if (!agentAuth) throw new Error(`--against: ${url.origin} tells of no agent_auth`)
  const resource = await document('oauth-protected-resource')
  const path = (value: unknown, otherwise: string) =>
    typeof value === 'string' && URL.canParse(value) ? new URL(value).pathname : otherwise
  const { metadata, identity, token, revoke, introspect } = scenarios.OWN_PATHS
  return {
    metadata,
    identity: path(agentAuth.identity_endpoint ?? agentAuth.register_uri, identity),
    token: path(server.token_endpoint, token),
    revoke: path(server.revocation_endpoint, revoke),
    introspect: path(server.introspection_endpoint, introspect),
    api: path(resource.resource ?? server.resource, '').replace(/\/$/, ''),
  }
}

/** Finds a path of the API: discovery names the resource, not what can be requested there. */
async function findApi(
  paths: scenarios.Paths,
  stock: Stock,
  ask: (request: string) => Promise<Reply>,
): Promise<string> {
  const [token] = await stock.accessTokens(1).catch(() => [])
  const candidates = [`${paths.api}/resource`, scenarios.OWN_PATHS.api, paths.api]
  for (const path of candidates)
    if (token !== undefined && path !== '') {
      const { status } = await ask(scenarios.apiRequest(path, token))
      if (status === 200) return path
    }
  return candidates[0]!
}
