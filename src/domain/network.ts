/** Network addresses: whether two are neighbours, and which of them are counted as one caller. */

/**
 * Whether both are in one network, as an agent and its person are when it runs beside them. Undefined when they cannot be
 * compared: they are of different families, or one is unknown.
 */
export function areNeighbours(one: string | null, other: string | null): boolean | undefined {
  const [a, b] = [neighbourhood(one), neighbourhood(other)]
  if (!a || !b || a.family !== b.family) return undefined
  return a.network === b.network
}

/**
 * What limits count by: an IPv4 address, or the /64 of an IPv6 one, all of which its owner has. What is no address, as of a
 * connection that is gone, is counted as one.
 */
export function countedNetwork(address: string | undefined): string {
  const parts = partsOf(address ?? '')
  if (!parts) return 'unknown'
  if (parts.family === 4) return parts.bytes.join('.')
  return `${parts.groups
    .slice(0, 4)
    .map((group) => group.toString(16))
    .join(':')}::/64`
}

/** IPv4: the /24. IPv6: the /48, which is what a site gets (RFC 6177 §2). */
function neighbourhood(address: string | null): { family: 4 | 6; network: string } | undefined {
  const parts = partsOf(address ?? '')
  if (!parts) return undefined
  return parts.family === 4
    ? { family: 4, network: parts.bytes.slice(0, 3).join('.') }
    : { family: 6, network: parts.groups.slice(0, 3).join(':') }
}

/** An IPv4-mapped address is an IPv4 one. */
function partsOf(
  address: string,
): { family: 4; bytes: number[] } | { family: 6; groups: number[] } | undefined {
  if (/^\d+(\.\d+){3}$/.test(address)) return { family: 4, bytes: address.split('.').map(Number) }
  const groups = ipv6Groups(address)
  if (!groups) return undefined
  if (groups.slice(0, 6).join() !== '0,0,0,0,0,65535') return { family: 6, groups }
  return { family: 4, bytes: groups.slice(6).flatMap((group) => [group >> 8, group & 255]) }
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
