/** Network addresses: whether two are neighbours, and which ones count as one caller. */

/**
 * Whether both are in one network, as when an agent runs next to its person. Undefined when they cannot be compared,
 * because they are of different families or one is unknown.
 */
export function areNeighbours(one: string | null, other: string | null): boolean | undefined {
  const [a, b] = [neighbourhood(one), neighbourhood(other)]
  if (!a || !b || a.family !== b.family) return undefined
  return a.network === b.network
}

/**
 * The key that limits count by: an IPv4 address, or the /64 of an IPv6 address, since one owner has all of it. Whatever
 * is not an address (the connection may be gone) counts as `unknown`, one caller.
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

/** The network of a site: the /24 in IPv4, the /48 in IPv6 (RFC 6177 §2). */
function neighbourhood(address: string | null): { family: 4 | 6; network: string } | undefined {
  const parts = partsOf(address ?? '')
  if (!parts) return undefined
  return parts.family === 4
    ? { family: 4, network: parts.bytes.slice(0, 3).join('.') }
    : { family: 6, network: parts.groups.slice(0, 3).join(':') }
}

/** An IPv4-mapped IPv6 address counts as IPv4. */
function partsOf(
  address: string,
): { family: 4; bytes: number[] } | { family: 6; groups: number[] } | undefined {
  if (/^\d+(\.\d+){3}$/.test(address)) return { family: 4, bytes: address.split('.').map(Number) }
  const groups = ipv6Groups(address)
  if (!groups) return undefined
  if (groups.slice(0, 6).join() !== '0,0,0,0,0,65535') return { family: 6, groups }
  return { family: 4, bytes: groups.slice(6).flatMap((group) => [group >> 8, group & 255]) }
}

/** The eight groups of an IPv6 address; the URL parser knows every way to write one. */
function ipv6Groups(address: string): number[] | undefined {
  const url = `http://[${address}]`
  if (!URL.canParse(url)) return undefined
  const [head = '', tail] = new URL(url).hostname.slice(1, -1).split('::')
  const groups = (text = '') =>
    text === '' ? [] : text.split(':').map((group) => parseInt(group, 16))
  const [before, after] = [groups(head), groups(tail)]
  return [...before, ...Array<number>(8 - before.length - after.length).fill(0), ...after]
}
