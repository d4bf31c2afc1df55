/** Numbers and times in words, for pages. */

const UNITS: [number, string][] = [
  [86_400, 'day'],
  [3600, 'hour'],
  [60, 'minute'],
  [1, 'second'],
]

/** Seconds → `10 minutes`, `1 hour`, `2 days`: the largest unit that says it exactly. */
export function duration(seconds: number): string {
  const [size, name] = UNITS.find(([unit]) => seconds % unit === 0)!
  const count = seconds / size
  return `${count} ${name}${count === 1 ? '' : 's'}`
}

/** `22 November 2026, 14:05 UTC` */
export function moment(time: Date): string {
  const date = time.toLocaleDateString('en-GB', { dateStyle: 'long', timeZone: 'UTC' })
  const clock = time.toLocaleTimeString('en-GB', { timeStyle: 'short', timeZone: 'UTC' })
  return `${date}, ${clock} UTC`
}

/** `2 minutes ago`, in the largest unit that fits; `just now` within a minute, or if the time is ahead of our clock. */
export function ago(time: Date, now: Date): string {
  const seconds = Math.floor((now.getTime() - time.getTime()) / 1000)
  const [size] = UNITS.find(([unit]) => seconds >= unit && unit > 1) ?? []
  return size ? `${duration(seconds - (seconds % size))} ago` : 'just now'
}

/** The time itself, and how long ago it was. */
export function when(time: Date, now: Date): { at: string; ago: string } {
  return { at: moment(time), ago: ago(time, now) }
}

/** What to call an agent without a provider. */
export function agentKind(registrationType: string): string {
  return registrationType === 'anonymous'
    ? 'An agent that has not said who it is'
    : 'An agent that named your email address'
}

/** An issuer as people know it: its URL without the scheme. */
export function host(issuer: string): string {
  return issuer.replace(/^https?:\/\//, '')
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

/**
 * An event of the audit trail, as the person would put it. `issuer`: the provider that claimed the registration for the
 * person, if one did.
 */
export function agentEvent(event: string, issuer: string | null): string {
  if (event === 'claim.confirmed' && issuer !== null)
    return 'Its provider linked it to your account'
  return EVENTS[event] ?? event
}
