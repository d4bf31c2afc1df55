/** Which proxies are believed about where a request came from. */
import proxyAddr from '@fastify/proxy-addr'

type Trusts = (address: string, hop: number) => boolean

/** `proxies`: how many stand before us, or the networks they are in. Without any, `X-Forwarded-*` is ignored. */
export function trustProxy(proxies: string[]): false | Trusts {
  const [first] = proxies
  if (first === undefined) return false
  return /^\d+$/.test(first) ? (_address, hop) => hop < Number(first) : proxyAddr.compile(proxies)
}
