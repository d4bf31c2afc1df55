/** The doctor's look at what agents see: our public URL, through whatever proxy is in front of it. */
import { attempt, fault, innermost, ok, reasonOf, warning, type Check } from './cli-doctor-check.js'
import type { Config } from './config.js'
import { isObject } from './domain/jwt.js'
import { authorizationServerMetadataUrl } from './domain/metadata.js'

/** `kid`: the key that signs, according to the database. */
export async function publicUrl({ ISSUER }: Config, kid: string | undefined): Promise<Check[]> {
  const first = await metadata(ISSUER)
  if (first.status === 'fault') return [first]
  return [first, ...(await Promise.all([readiness(ISSUER), publishedKeys(ISSUER, kid)]))]
}

/** Judges by the settings alone: the headers that the proxy adds cannot be seen from outside. */
export function proxy({ ISSUER, TRUST_PROXY }: Config): Check[] {
  if (!ISSUER.startsWith('https:') || TRUST_PROXY.length > 0) return []
  return [
    warning(
      'proxy',
      'ISSUER is https, so a proxy is in front, and TRUST_PROXY is false: every caller counts as that proxy, in limits, on pages and in the audit trail',
      'let the proxy set X-Forwarded-For, and set TRUST_PROXY to how many proxies there are, or to their networks',
    ),
  ]
}

function metadata(ISSUER: string): Promise<Check> {
  const name = 'public URL'
  const url = authorizationServerMetadataUrl(ISSUER)
  return attempt(name, unreachable(new URL(ISSUER)), async (signal) => {
    let answer: Response
    try {
      answer = await ask(url, signal)
    } catch (error) {
      return fault(name, `${url}: ${reasonOf(error)}`, networkFix(error, new URL(ISSUER)))
    }
    const found = `${url} answers ${answer.status}`
    const to = answer.headers.get('location')
    if (to !== null)
      return fault(
        name,
        `${found}, a redirect to ${to.split('?')[0]}`,
        'agents take ISSUER to the letter: set it to the URL that answers, with its scheme and host, or let the proxy pass this one on instead of redirecting',
      )
    if (answer.status !== 200)
      return fault(
        name,
        found,
        answer.status < 500
          ? 'something else answers there: let the proxy pass every path below ISSUER, and /.well-known/ of its host, on to the replicas unchanged'
          : 'no replica is behind the proxy: start them, and see that the proxy has their addresses and that /readyz of each is 200',
      )
    const document: unknown = await answer.json().catch(() => undefined)
    const issuer = isObject(document) ? document.issuer : undefined
    if (issuer === ISSUER) return ok(name, `${found} as ${ISSUER}`)
    return fault(
      name,
      issuer === undefined ? `${found}, but not with our metadata` : `${found} for ${issuer}`,
      `another server answers there, or replicas that have another ISSUER than ${ISSUER}: give all of them the same`,
    )
  })
}

function readiness(ISSUER: string): Promise<Check> {
  const name = 'public readiness'
  return attempt(name, unreachable(new URL(ISSUER)), async (signal) => {
    const { status } = await ask(`${ISSUER}/readyz`, signal)
    const found = `/readyz answers ${status}`
    if (status === 200) return ok(name, found)
    return status < 500
      ? warning(name, found, 'nothing, if the proxy hides it from the public on purpose')
      : fault(name, found, 'look for /readyz in the log of the replicas: the reason is there')
  })
}

function publishedKeys(ISSUER: string, kid: string | undefined): Promise<Check> {
  const name = 'public keys'
  const url = `${ISSUER}/.well-known/jwks.json`
  const fix = 'let the proxy pass every path below ISSUER on to the replicas unchanged'
  return attempt(name, fix, async (signal) => {
    const answer = await ask(url, signal)
    if (!answer.ok) throw new Error(`${url} answers ${answer.status}`)
    const { keys } = (await answer.json()) as { keys: { kid: string }[] }
    const found = `${keys.length} keys at ${url}`
    if (kid === undefined) return ok(name, `${found}; not compared with the database`)
    return keys.some((key) => key.kid === kid)
      ? ok(name, `${found}, the database's signing key among them`)
      : fault(
          name,
          `${found}, and not the database's signing key ${kid}`,
          'replicas of another database answer there, or the proxy serves an old copy: give all of them this DATABASE_URL; let no cache keep the keys longer than their max-age',
        )
  })
}

function ask(url: string, signal: AbortSignal): Promise<Response> {
  return fetch(url, { redirect: 'manual', signal })
}

export function networkFix(error: unknown, at: URL): string {
  const { host, hostname } = at
  const { code = '' } = innermost(error) as NodeJS.ErrnoException
  if (code === 'ECONNREFUSED')
    return `start the server; when it runs, see that it or the proxy listens at ${host}, and that the proxy points at it`
  if (/^(ENOTFOUND|EAI_AGAIN)$/.test(code))
    return `let DNS lead ${hostname} to the proxy, or correct ISSUER`
  if (/CERT|SIGNATURE|ERR_TLS/.test(code))
    return `give the proxy a certificate for ${hostname}, with its chain, from an authority that agents know`
  if (/^(EPROTO|ERR_SSL_.*)$/.test(code))
    return `something at ${host} does not speak TLS: end TLS in the proxy there, and let it speak http to the replicas`
  return unreachable(at)
}

function unreachable({ host }: URL): string {
  return `see that the proxy runs at ${host} and that firewalls let this machine in; if agents do reach it, only this machine cannot: ask from another one`
}
