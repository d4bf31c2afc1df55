/** Whether two network addresses are neighbours: what tells an agent that runs beside its person from one elsewhere. */

/** Undefined when they cannot be compared: of different families, or one is unknown. */
export function areNeighbours(one: string | null, other: string | null): boolean | undefined {
  const [a, b] = [neighbourhood(one), neighbourhood(other)]
  if (!a || !b || a.family !== b.family) return undefined
  return a.network === b.network
}

/** IPv4: the /24. IPv6: the /48, which is what a site gets (RFC 6177 §2). An IPv4-mapped address is an IPv4 one. */
function neighbourhood(address: string | null): { family: 4 | 6; network: string } | undefined {
  if (address === null) return undefined
  if (/^\d+(\.\d+){3}$/.test(address)) return { family: 4, network: address.replace(/\.\d+$/, '') }
  const groups = ipv6Groups(address)
  if (!groups) return undefined
  const [high, low] = groups.slice(6) as [number, number]
  if (groups.slice(0, 6).join() === '0,0,0,0,0,65535')
    return { family: 4, network: [high >> 8, high & 255, low >> 8].join('.') }
  return { family: 6, network: groups.slice(0, 3).join(':') }
}

/** Its eight groups; the URL parser knows every way to write one. */
function ipv6Groups(address: string): number[] | undefined {
  const url = `http://[${address}]`
  if (!URL.canParse(url)) return undefined
  const [head = '', tail] = new URL(url).hostname.slice(1, -1).split('::')
  const groups = (text = '') =>
    text === '' ? [] : text.split(':').map((group) => parseInt(group, 16))
  const [before, after] = [groups(head), groups(tail)]
  return [...before, ...Array<number>(8 - before.length - after.length).fill(0), ...after]
}
