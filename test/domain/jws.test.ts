/** Our own tokens: which moment is in their time, to the millisecond (RFC 7519 §4.1). */
import t from 'tap'
import { importPublicKeys, importSigningKey, readJws, signJws } from '../../src/domain/jws.js'
import { ecKeyPair } from '../fixtures/key-pair.js'

const AT = 1_800_000_000
const { privateKey, publicKey } = ecKeyPair()
const signing = importSigningKey('k1', privateKey.export({ format: 'jwk' }))
const keys = importPublicKeys([{ ...publicKey.export({ format: 'jwk' }), kid: 'k1' }])
const EXPECTED = { typ: 'at+jwt', issuer: 'https://as.test', audience: 'https://api.test' }
const CLAIMS = { iss: EXPECTED.issuer, aud: EXPECTED.audience, sub: 's', jti: 'j', generation: 1 }

t.test(
  '7523-04, C41: a token is in time from its nbf to its exp, each widened by the skew',
  async (t) => {
    const skew = { clockToleranceSeconds: 60 }
    const old = { ...skew, maxAgeSeconds: 600 }
    const table: [name: string, claims: object, expected: object, at: number, inTime: boolean][] = [
      ['the last millisecond', { exp: AT }, {}, -0.001, true],
      ['exp itself', { exp: AT }, {}, 0, false],
      ['the last millisecond of the skew', { exp: AT }, skew, 59.999, true],
      ['the end of the skew', { exp: AT }, skew, 60, false],
      ['nbf itself', { exp: AT + 9, nbf: AT }, {}, 0, true],
      ['before nbf', { exp: AT + 9, nbf: AT }, {}, -0.001, false],
      ['the skew before nbf', { exp: AT + 99, nbf: AT }, skew, -60, true],
      ['more before nbf', { exp: AT + 99, nbf: AT }, skew, -60.001, false],
      ['as old as may be', { iat: AT - 600, exp: AT + 60 }, old, 60, true],
      ['older', { iat: AT - 600, exp: AT + 60 }, old, 60.001, false],
      ['issued later, within the skew', { iat: AT + 60, exp: AT + 99 }, old, 0, true],
      ['issued later still', { iat: AT + 61, exp: AT + 99 }, old, 0, false],
      ['to live as long as may be', { iat: AT, exp: AT + 660 }, old, 0, true],
      ['to live longer', { iat: AT, exp: AT + 661 }, old, 0, false],
    ]
    for (const [name, claims, expected, at, inTime] of table) {
      const token = signJws('at+jwt', { iat: AT - 3600, ...CLAIMS, ...claims }, signing)
      const now = new Date((AT + at) * 1000)
      const read = readJws(token, keys, { ...EXPECTED, ...expected }, now)
      t.equal(read.ok ? 'in time' : read.reason, inTime ? 'in time' : 'expired', name)
    }
  },
)
