/** RATE_LIMITS. */
import t from 'tap'
import { readConfig } from '../src/config.js'
import { LIMITS } from '../src/domain/limits.js'
import { faults, PUBLIC } from './fixtures/settings.js'

t.test('HTTP-02: limits hold by default, but for who tries things out on localhost', async (t) => {
  t.match(readConfig(PUBLIC).rateLimits, {
    anonymous_per_ip: 5,
    anonymous: 100,
    identity_assertion_per_ip: 60,
    identity_assertion: 1000,
    service_auth_per_ip: 20,
    ceremonies_per_hint: 5,
  })
  t.same(readConfig(PUBLIC).rateLimits, LIMITS)
  t.same(readConfig({ ...PUBLIC, RATE_LIMITS: '' }).rateLimits, LIMITS)
  const { rateLimits } = readConfig({})
  t.same(Object.keys(rateLimits), Object.keys(LIMITS))
  t.same([...new Set(Object.values(rateLimits))], [0])
  t.same(readConfig({ RATE_LIMITS: '{}' }).rateLimits, LIMITS)
})

t.test('single members replace those of the defaults', async (t) => {
  const RATE_LIMITS = '{"anonymous_per_ip":0,"anonymous":1000000}'
  const expected = { ...LIMITS, anonymous_per_ip: 0, anonymous: 1_000_000 }
  for (const env of [PUBLIC, {}]) t.same(readConfig({ ...env, RATE_LIMITS }).rateLimits, expected)
})

t.test('limits that cannot be used are refused', async (t) => {
  const table: [value: string, fault: string][] = [
    ['{"anonymus":1}', 'RATE_LIMITS item anonymus: Unexpected property'],
    ['{"__proto__":1}', 'RATE_LIMITS item __proto__: Unexpected property'],
    [
      '{"anonymous":-1}',
      'RATE_LIMITS item anonymous: Expected integer to be greater or equal to 0',
    ],
    ...['1.5', '"5"', 'null', 'true', '1e400'].map((value): [string, string] => [
      `{"anonymous":${value}}`,
      'RATE_LIMITS item anonymous: Expected a whole number, without unit or spaces',
    ]),
    [
      '{"anonymous":1000001}',
      'RATE_LIMITS item anonymous: Expected integer to be less or equal to 1000000',
    ],
    ...['null', '[]', '5', '0', 'false'].map((value): [string, string] => [
      value,
      'RATE_LIMITS: Expected a JSON object',
    ]),
    ...['"x"', '{', 'off', '"{}"'].map((value): [string, string] => [
      value,
      'RATE_LIMITS: Expected a JSON object: this is not JSON, or has quotes around it',
    ]),
  ]
  for (const [RATE_LIMITS, fault] of table)
    for (const env of [PUBLIC, {}]) t.same(faults({ ...env, RATE_LIMITS }), [fault], RATE_LIMITS)
  t.same(faults({ RATE_LIMITS: '{"anonymous":-1,"x":1}' }).length, 2, 'all at once')
})
