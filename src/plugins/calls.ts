/** Calls to other servers, whose failures are not ours. Metrics and traces are told of each. */
import fp from 'fastify-plugin'

/** To fetch a provider's keys, or to the identity provider that people sign in with. */
type Purpose = 'jwks' | 'oidc'

export interface Call {
  purpose: Purpose
  host: string
  /** It answered, and not with a failure of its own (5xx, or whatever makes the call throw). */
  ok: boolean
  milliseconds: number
}

declare module 'fastify' {
  interface FastifyInstance {
    /** Called once for each call, when it has ended; must be quick and never throw. */
    calls: ((call: Call) => void)[]
    call<Result>(purpose: Purpose, url: string, work: () => Promise<Result>): Promise<Result>
  }
}

export default fp(
  async (app) => {
    app.decorate('calls', [])
    app.decorate('call', async (purpose, url, work) => {
      const { host } = new URL(url)
      const started = performance.now()
      let ok = false
      try {
        const result = await work()
        ok = !(result instanceof Response) || result.status < 500
        return result
      } finally {
        const milliseconds = performance.now() - started
        for (const listener of app.calls) listener({ purpose, host, ok, milliseconds })
      }
    })
  },
  { name: 'calls' },
)
