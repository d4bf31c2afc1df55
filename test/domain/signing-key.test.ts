/** Signing keys before they are in a database. */
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
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

test('no garbage collection makes the generation of a key wait for ever', (t) => {
  const module = join(import.meta.dirname, '../../src/domain/signing-key.js')
  const code = `import { newSigningKey } from ${JSON.stringify(module)}
    for (let i = 0; i < 3000; i += 1) newSigningKey(Buffer.alloc(32))
    console.log('made')`
  const args = ['--max-semi-space-size=1', '--input-type=module', '-e', code]
  const options = { encoding: 'utf8', timeout: 100_000, killSignal: 'SIGKILL' } as const
  t.equal(execFileSync(process.execPath, args, options), 'made\n')
  t.end()
})
