/** Asks every replica, past the proxy, whether it refuses what it must not accept. */
import { generateKeyPairSync, sign } from 'node:crypto'
import * as agents from '../../test/fixtures/app.js'
import { over } from '../../test/fixtures/wire.js'
import type { Ledger, Standing } from './ledger.js'

export interface Witness {
  /** Checks that a token is refused whose end was acknowledged. */
  refuses(token: string, kind: Standing['kind']): Promise<void>
  /** Checks that variants of a live token which we never signed are refused. */
  refusesForged(token: string): Promise<void>
  /** The scope that it gives at the first replica that answers, `dead`, or undefined when none answered. */
  standing(token: string, kind: Standing['kind']): Promise<string | undefined>
}

const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const json = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')

export function makeWitness(urls: string[], authorization: string, ledger: Ledger): Witness {
  const replicas = urls.map((url) => over(url))

  async function standingAt(replica: agents.Sender, token: string, kind: Standing['kind']) {
    const answer = await (
      kind === 'assertion'
        ? agents.exchange(replica, token)
        : agents.postForm(replica, '/oauth2/introspect', { token }, { authorization })
    ).catch(() => undefined)
    if (!answer || answer.statusCode >= 500) return undefined
    if (answer.statusCode === 401) throw new Error('the resource server was lost')
    const { scope, active } = answer.json()
    return answer.statusCode === 200 && active !== false ? (scope as string) : 'dead'
  }

  const witness: Witness = {
    async refuses(token, kind) {
      for (const replica of replicas) {
        const scope = await standingAt(replica, token, kind)
        const api = await agents.callApi(replica, token).catch(() => undefined)
        if (api?.statusCode !== 200 && (scope === undefined || scope === 'dead')) continue
        ledger.wronglyAccepted.set(token, `a revoked ${kind} still gives ${scope}`)
        ledger.lost.set(token, `the revocation of an ${kind}`)
      }
    },
    async refusesForged(token) {
      for (const forged of forgeries(token))
        for (const replica of replicas) {
          const scopes = [
            await standingAt(replica, forged, 'access token'),
            await standingAt(replica, forged, 'assertion'),
          ]
          const api = await agents.callApi(replica, forged).catch(() => undefined)
          if (
            api?.statusCode !== 200 &&
            scopes.every((scope) => scope === undefined || scope === 'dead')
          )
            continue
          ledger.wronglyAccepted.set(forged, 'a forged token was accepted')
        }
    },
    async standing(token, kind) {
      for (const replica of replicas) {
        const scope = await standingAt(replica, token, kind)
        if (scope !== undefined) return scope
      }
      return undefined
    },
  }
  return witness
}

/** A token signed with another key under the same key id, without a signature, and with more than was signed. */
function forgeries(token: string): string[] {
  const [head, body, signature] = token.split('.') as [string, string, string]
  const signed = `${head}.${body}`
  const ours = sign('sha256', Buffer.from(signed), { key: privateKey, dsaEncoding: 'ieee-p1363' })
  const claims = JSON.parse(Buffer.from(body, 'base64url').toString())
  return [
    `${signed}.${ours.toString('base64url')}`,
    `${json({ alg: 'none', typ: 'at+jwt' })}.${body}.`,
    `${head}.${json({ ...claims, scope: 'api.read api.write' })}.${signature}`,
  ]
}
