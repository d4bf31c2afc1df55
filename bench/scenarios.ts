/** The requests for our own servers, each unlike the one before. */
import { randomBytes } from 'node:crypto'
import { CLAIM_GRANT, JWT_BEARER_GRANT } from '../src/domain/metadata.js'
import { ID_JAG_TYPE } from '../test/fixtures/assertions.js'
import type { TestProvider } from '../test/fixtures/provider.js'
import { claimToken, PEOPLE_EVERY, spread, subject } from './derived.js'
import type { Work } from './load.js'
import { answers, get, postForm, postJson } from './requests.js'
import type { Signer } from './tokens.js'

export const SCENARIOS = [
  'metadata',
  'poll',
  'unknown_poll',
  'exchange',
  // By agents with a provider, whose assertions are not on record.
  'exchange_provider',
  'introspect',
  'revoke',
  'id_jag',
  'api',
  // Last, because they make the store larger.
  'anonymous',
  'service_auth',
] as const
export type Scenario = (typeof SCENARIOS)[number]

export interface Job extends Work {
  /** Makes, before they are measured, what about so many requests need. */
  prepare?(requests: number): Promise<void> | void
}
export type Jobs = Partial<Record<Scenario | 'empty_route', Job>>

/** The paths where a server answers: ours, or what discovery says of another. */
export interface Paths {
  metadata: string
  identity: string
  token: string
  revoke: string
  introspect: string
  api: string
}

export const OWN_PATHS: Paths = {
  metadata: '/.well-known/oauth-authorization-server',
  identity: '/agent/identity',
  token: '/oauth2/token',
  revoke: '/oauth2/revoke',
  introspect: '/oauth2/introspect',
  api: '/api/resource',
}

/** How many assertions and access tokens take turns: more than a cache of recent ones would hold. */
const POOL = 10_000
/** They are replaced well before they expire. */
const POOL_LASTS_MS = 1_800_000

/** `count`: how many registrations there are, numbered from 1. */
export function ownJobs(
  signer: Signer,
  count: number,
  provider: TestProvider,
  authorization: string,
): Jobs {
  const { token, introspect, revoke, identity, api } = OWN_PATHS
  const any = spread(count, () => true)
  const waiting = spread(count, (i) => i % PEOPLE_EVERY !== 0)
  const bound = spread(count, (i) => i % PEOPLE_EVERY === 0)
  const accessTokens = pool((size) => numbers(size, any).map(signer.accessToken))
  // No registration comes twice, since only its last assertion is on record.
  const exchanges = (next: () => number, share: number) => ({
    ...pool(async (size) => {
      const chosen = numbers(Math.min(size, Math.floor(count * share)), next)
      const assertions = await signer.assertions(chosen)
      return assertions.map((assertion) => exchangeRequest(token, assertion))
    }),
    expected: answers(200, '"access_token"'),
  })
  return {
    ...plainJobs(OWN_PATHS),
    exchange: exchanges(waiting, 1 - 1 / PEOPLE_EVERY),
    exchange_provider: exchanges(bound, 1 / PEOPLE_EVERY),
    poll: { next: () => pollRequest(token, claimToken(waiting())), expected: isPending },
    introspect: {
      prepare: accessTokens.prepare,
      next: () =>
        postForm(introspect, { token: accessTokens.next() }, `Authorization: ${authorization}\r\n`),
      expected: answers(200, '"active":true'),
    },
    revoke: {
      ...supply(() => postForm(revoke, { token: signer.accessToken(any()) })),
      expected: answers(200),
    },
    id_jag: {
      ...supply(() => idJagRequest(identity, provider, subject(bound()))),
      expected: answers(200, '"identity_assertion"'),
    },
    api: {
      prepare: accessTokens.prepare,
      next: () => apiRequest(api, accessTokens.next()),
      expected: answers(200, '"message"'),
    },
  }
}

/** The scenarios that need nothing but the server. */
export function plainJobs(paths: Paths): Jobs {
  const run = randomBytes(4).toString('hex')
  let agents = 0
  return {
    metadata: { next: () => get(paths.metadata), expected: answers(200, '"agent_auth"') },
    anonymous: {
      next: () => postJson(paths.identity, { type: 'anonymous' }),
      expected: answers(200, '"identity_assertion"'),
    },
    service_auth: {
      next: () =>
        postJson(paths.identity, {
          type: 'service_auth',
          login_hint: `agent-${run}-${(agents += 1)}@example.com`,
        }),
      expected: answers(200, '"user_code"'),
    },
    unknown_poll: {
      next: () => pollRequest(paths.token, `clm_${randomBytes(32).toString('base64url')}`),
      expected: answers(400, 'expired_token', 'invalid_grant'),
    },
  }
}

export const isPending = answers(400, 'authorization_pending', 'slow_down')

export const exchangeRequest = (path: string, assertion: string) =>
  postForm(path, { grant_type: JWT_BEARER_GRANT, assertion })

export const pollRequest = (path: string, claim_token: string) =>
  postForm(path, { grant_type: CLAIM_GRANT, claim_token })

export const apiRequest = (path: string, accessToken: string) =>
  get(path, `Authorization: Bearer ${accessToken}\r\n`)

function idJagRequest(path: string, provider: TestProvider, sub: string): string {
  const assertion = provider.idJag({ sub, email: `${sub}@example.com` })
  return postJson(path, { type: 'identity_assertion', assertion_type: ID_JAG_TYPE, assertion })
}

/** Values that are made once and used in turn. */
function pool(make: (size: number) => string[] | Promise<string[]>) {
  let made: string[] = []
  let madeAt = -Infinity
  let turn = 0
  return {
    async prepare() {
      if (performance.now() - madeAt < POOL_LASTS_MS) return
      made = await make(POOL)
      madeAt = performance.now()
    },
    next: () => made[(turn += 1) % made.length]!,
  }
}

function numbers(count: number, next: () => number): number[] {
  return Array.from({ length: count }, next)
}

/** Values that are used once each. Missing ones are made on the way, which slows the load down. */
function supply(make: () => string) {
  let made: string[] = []
  return {
    prepare(requests: number) {
      made = Array.from({ length: requests }, make)
    },
    next: () => made.pop() ?? make(),
  }
}
