/** Calls to other servers, whose failures are not ours: metrics and traces are told of each. */
import fp from 'fastify-plugin'

/** Providers' keys, or the identity provider that people sign in with. */
type Purpose = 'jwks' | 'oidc'

export interface Call {
  purpose: Purpose
  host: string
  /** It answered, with something that is not its own failure. */
  ok: boolean
  milliseconds: number
}

declare module 'fastify' {
  interface FastifyInstance {
    /** Called once for each call, when it has ended: to be quick, and never to throw. */
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
