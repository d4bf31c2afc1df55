/** Measures ES256 (RFC 7518 §3.4): verifying a token and signing another. Prints JSON. */
import { sign, verify } from 'node:crypto'
import * as jose from 'jose'
import { ecKeyPair } from '../../test/fixtures/key-pair.js'
import { costOf } from './cost.js'

const { privateKey, publicKey } = ecKeyPair()
/** Claims as large as ours. */
const claims = {
  iss: 'http://localhost:8000',
  aud: 'http://localhost:8000/api',
  sub: 'reg_0123456789012345678901',
  client_id: 'reg_0123456789012345678901',
  registration_id: 'reg_0123456789012345678901',
  generation: 1,
  scope: 'api.read api.write',
  jti: '0123456789012345678901',
}

async function withJose(): Promise<() => Promise<void>> {
  const key = await jose.importPKCS8(
    privateKey.export({ type: 'pkcs8', format: 'pem' }) as string,
    'ES256',
  )
  const open = await jose.importSPKI(
    publicKey.export({ type: 'spki', format: 'pem' }) as string,
    'ES256',
  )
  const mint = () =>
    new jose.SignJWT(claims)
      .setProtectedHeader({ alg: 'ES256', typ: 'at+jwt' })
      .setIssuedAt()
      .setExpirationTime('1h')
      .sign(key)
  const token = await mint()
  return async () => {
    await jose.jwtVerify(token, open, { algorithms: ['ES256'] })
    await mint()
  }
}

function withNode(): () => void {
  const input = Buffer.from('x'.repeat(500))
  const dsaEncoding = 'ieee-p1363'
  const signature = sign('sha256', input, { key: privateKey, dsaEncoding })
  return () => {
    verify('sha256', input, { key: publicKey, dsaEncoding }, signature)
    sign('sha256', input, { key: privateKey, dsaEncoding })
  }
}

const figures = { jose: await costOf(await withJose()), node: await costOf(withNode()) }
console.log(JSON.stringify(figures))
