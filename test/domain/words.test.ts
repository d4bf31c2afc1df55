/** Times, kinds and events in words. */
import t from 'tap'
import { isoSeconds } from '../../src/domain/tokens.js'
import { agentEvent, agentKind, ago, duration, host, moment, when } from '../../src/domain/words.js'

t.test('what happened to an agent is told in words', async (t) => {
  t.equal(agentEvent('claim.confirmed', null), 'You confirmed')
  t.equal(agentEvent('new.event', null), 'new.event', 'one without words yet keeps its name')
})

t.test('numbers and times are put into words', async (t) => {
  const words: [number, string][] = [
    [1, '1 second'],
    [59, '59 seconds'],
    [60, '1 minute'],
    [90, '90 seconds'],
    [600, '10 minutes'],
    [3600, '1 hour'],
    [5400, '90 minutes'],
    [86_400, '1 day'],
    [172_800, '2 days'],
    [31_536_000, '365 days'],
  ]
  for (const [seconds, expected] of words) t.equal(duration(seconds), expected)
  t.equal(moment(new Date('2026-11-22T14:05:59.999Z')), '22 November 2026, 14:05 UTC')
  t.equal(moment(new Date('2026-01-02T00:00:00Z')), '2 January 2026, 00:00 UTC')
  const now = new Date('2026-11-22T14:05:00Z')
  const past: [number, string][] = [
    [-5, 'just now'],
    [0, 'just now'],
    [59.9, 'just now'],
    [60, '1 minute ago'],
    [179, '2 minutes ago'],
    [3599, '59 minutes ago'],
    [3600, '1 hour ago'],
    [86_399, '23 hours ago'],
    [90_000, '1 day ago'],
    [86_400 * 400, '400 days ago'],
  ]
  for (const [seconds, expected] of past)
    t.equal(ago(new Date(now.getTime() - seconds * 1000), now), expected)
  t.same(when(now, now), { at: '22 November 2026, 14:05 UTC', ago: 'just now' })
  t.equal(host('https://acme.example/tenant'), 'acme.example/tenant')
  t.equal(host('http://localhost:9000'), 'localhost:9000')
  t.equal(agentKind('anonymous'), 'An agent that has not said who it is')
  t.equal(isoSeconds(1_800_000_000), '2027-01-15T08:00:00Z')
})
