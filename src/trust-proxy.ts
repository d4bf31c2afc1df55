/** Whose word counts on where a request came from. */
import proxyAddr from '@fastify/proxy-addr'

type Trusts = (address: string, hop: number) => boolean

/** How many proxies stand before us, or which networks they are in; with neither, `X-Forwarded-*` is ignored. */
export function trustProxy(proxies: string[]): false | Trusts {
  const [first] = proxies
  if (first === undefined) return false
  return /^\d+$/.test(first) ? (_address, hop) => hop < Number(first) : proxyAddr.compile(proxies)
}
