/** Signing keys before they are in a database. */
import { randomBytes } from 'node:crypto'
import { calculateJwkThumbprint } from 'jose'
import { test } from 'tap'
import { newSigningKey } from '../../src/domain/signing-key.js'

test('JOSE-07: a key is named by its thumbprint, which no command takes for an option', async (t) => {
  const secret = randomBytes(32)
  const keys = Array.from({ length: 600 }, () => newSigningKey(secret))
  // One thumbprint in 64 begins so.
  t.same(
    keys.filter(({ kid }) => kid.startsWith('-')),
    [],
  )
  for (const { kid, public_jwk } of keys.slice(0, 10)) {
    t.equal(public_jwk.kid, kid)
    t.equal(await calculateJwkThumbprint(public_jwk), kid)
    t.match(public_jwk, { x: /^[\w-]{43}$/, y: /^[\w-]{43}$/ })
  }
  t.equal(new Set(keys.map(({ kid }) => kid)).size, keys.length)
})
