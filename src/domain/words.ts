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
