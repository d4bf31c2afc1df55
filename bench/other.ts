/** Another auth.md server on this machine: what it can do is learned from its discovery and its answers. */
import { execFileSync } from 'node:child_process'
import { listenerOf, processes } from './accounting.js'
import type { Reply } from './connection.js'
import { load, type Work } from './load.js'
import { answers, postForm, postJson } from './requests.js'
import * as scenarios from './scenarios.js'
import type { Scope } from './scope.js'
import type { Target } from './target.js'

export interface Other extends Target {
  /** Registers agents until there are so many. */
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
/** Access tokens for the API go round; each is from a registration of its own, as far as there are enough. */
const ACCESS_TOKENS = 2_000
const TOKENS_LAST_MS = 1_800_000
const AT_ONCE = 16
const AT_MOST_SECONDS = 1_800

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

/** On the core that the server of ours has, until the bench ends. */
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

/** Discovery names the resource, not what can be asked of it. */
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

type Stock = ReturnType<typeof newStock>

/** What its answers gave. */
function newStock(address: { host: string; port: number }, paths: scenarios.Paths) {
  const assertions: string[] = []
  const claimTokens: string[] = []
  let turn = 0

  async function many(count: number, work: Work): Promise<void> {
    const options = { connections: AT_ONCE, seconds: AT_MOST_SECONDS, requests: count }
    const { errors, surprise } = await load(address, work, options)
    if (errors > 0)
      throw new Error(`${errors} of ${count} were refused, the first with ${surprise}`)
  }

  return {
    claimTokens,
    nextAssertion: () => assertions[(turn += 1) % assertions.length]!,
    grow: (count: number) =>
      many(count - claimTokens.length, {
        next: () => postJson(paths.identity, { type: 'anonymous' }),
        expected({ status, body }) {
          if (status !== 200) return false
          const { identity_assertion, claim_token } = json(body)
          assertions.push(String(identity_assertion))
          claimTokens.push(String(claim_token))
          return identity_assertion !== undefined && claim_token !== undefined
        },
      }),
    async accessTokens(count: number): Promise<string[]> {
      const tokens: string[] = []
      await many(count, {
        next: () => scenarios.exchangeRequest(paths.token, this.nextAssertion()),
        expected({ status, body }) {
          if (status !== 200) return false
          tokens.push(String(json(body).access_token))
          return true
        },
      })
      return tokens
    },
  }
}

/** Also of a body that came in chunks. */
function json(body: string): Json {
  return JSON.parse(body.slice(body.indexOf('{'), body.lastIndexOf('}') + 1))
}

function jobsOf(paths: scenarios.Paths, stock: Stock): scenarios.Jobs {
  const { claimTokens } = stock
  let revocable: string[] = []
  let callers: string[] = []
  let madeAt = -Infinity
  let turn = 0
  return {
    ...scenarios.plainJobs(paths),
    exchange: {
      next: () => scenarios.exchangeRequest(paths.token, stock.nextAssertion()),
      expected: answers(200, '"access_token"'),
    },
    poll: {
      next: () =>
        scenarios.pollRequest(paths.token, claimTokens[(turn += 1) % claimTokens.length]!),
      expected: scenarios.isPending,
    },
    revoke: {
      async prepare(requests) {
        revocable = await stock.accessTokens(requests)
      },
      // When there are none left, what comes is no revocation, and is counted as an error.
      next: () => postForm(paths.revoke, { token: revocable.pop() ?? '' }),
      expected: answers(200),
    },
    api: {
      async prepare() {
        if (performance.now() - madeAt < TOKENS_LAST_MS) return
        callers = await stock.accessTokens(ACCESS_TOKENS)
        madeAt = performance.now()
      },
      next: () => scenarios.apiRequest(paths.api, callers[(turn += 1) % callers.length]!),
      expected: answers(200),
    },
  }
}
