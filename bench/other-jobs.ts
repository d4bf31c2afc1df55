/** The requests for another server, made with what its own answers gave. */
import { load, type Work } from './load.js'
import { answers, postForm, postJson } from './requests.js'
import * as scenarios from './scenarios.js'

type Json = Record<string, unknown>

/** How many access tokens take turns at the API; each is from its own registration, as far as there are enough. */
const ACCESS_TOKENS = 2_000
const TOKENS_LAST_MS = 1_800_000
const AT_ONCE = 16
const AT_MOST_SECONDS = 1_800

export type Stock = ReturnType<typeof newStock>

/** The assertions and tokens that its answers gave. */
export function newStock(address: { host: string; port: number }, paths: scenarios.Paths) {
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

/** Parses a body, also one that came in chunks. */
function json(body: string): Json {
  return JSON.parse(body.slice(body.indexOf('{'), body.lastIndexOf('}') + 1))
}

export function jobsOf(paths: scenarios.Paths, stock: Stock): scenarios.Jobs {
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
      // When none is left, this is no revocation, and is counted as an error.
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
