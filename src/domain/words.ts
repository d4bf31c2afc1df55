/** Numbers and times in words, for pages. */

/** Seconds → `10 minutes`, `1 hour`, `2 days`: the largest unit that says it exactly. */
export function duration(seconds: number): string {
  const units: [number, string][] = [
    [86_400, 'day'],
    [3600, 'hour'],
    [60, 'minute'],
    [1, 'second'],
  ]
  const [size, name] = units.find(([unit]) => seconds % unit === 0)!
  const count = seconds / size
  return `${count} ${name}${count === 1 ? '' : 's'}`
}

/** `22 November 2026, 14:05 UTC` */
export function moment(time: Date): string {
  const date = time.toLocaleDateString('en-GB', { dateStyle: 'long', timeZone: 'UTC' })
  const clock = time.toLocaleTimeString('en-GB', { timeStyle: 'short', timeZone: 'UTC' })
  return `${date}, ${clock} UTC`
}

const EVENTS: Record<string, string> = {
  'registration.created': 'The agent registered',
  'claim.requested': 'The agent asked for your confirmation',
  'user_code.minted': 'A link and a code were made',
  'user_code.refused': 'A wrong code was typed',
  'claim.confirmed': 'You confirmed',
  'claim.declined': 'You declined',
  'assertion.issued': 'The agent got its credential',
  'assertion.revoked': 'The agent gave its credential back',
  'token.issued': 'The agent got access for a while',
  'token.revoked': 'One access was ended',
  'registration.expired': 'Nobody confirmed in time',
  'registration.revoked': 'All access was ended',
}

/** An event of the audit trail, as its person would say it. */
export function agentEvent(event: string): string {
  return EVENTS[event] ?? event
}
