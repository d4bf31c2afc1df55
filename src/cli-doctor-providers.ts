/** The doctor's look at the providers of agents and of sign-ins, which it asks as the server does. */
import { attempt, fault, ok, warning, type Check } from './cli-doctor-check.js'
import type { Config, OidcProvider } from './config.js'
import { fetchJwks, isJwks } from './plugins/jwks-fetch.js'
import { discoverProvider, redirectUri } from './plugins/oidc-discovery.js'
import { listIssuers, type ListedIssuer } from './repositories/issuers.js'
import type { Database } from './repositories/tables.js'

const ALGORITHM_OF: Record<string, string> = { RSA: 'RS256', EC: 'ES256', OKP: 'EdDSA' }
const NEEDED = ['authorization_endpoint', 'token_endpoint', 'jwks_uri'] as const

/** Checks the issuers on the trust list that are not disabled. */
export async function issuers(db: Database, config: Config): Promise<Check[]> {
  let listed: ListedIssuer[] = []
  const list = await attempt('issuers', 'see what the database says', async () => {
    listed = (await listIssuers(db)).filter(({ disabled_at }) => disabled_at === null)
    return ok('issuers', `${listed.length} in the trust list`)
  })
  return [list, ...(await Promise.all(listed.map((issuer) => vouches(issuer, config.local))))]
}

function vouches({ issuer, jwks_uri, algorithms }: ListedIssuer, local: boolean): Promise<Check> {
  const name = `issuer ${issuer}`
  const fix = `see that ${jwks_uri} is where its keys are (registrar issuers add sets --jwks-uri), that it answers with 200 and no redirect, from a public address, within 3 s, and that this machine and the replicas may reach it`
  return attempt(name, fix, async () => {
    const { keys } = await fetchJwks(jwks_uri, local)
    const usable = keys.filter(({ kty }) => algorithms.includes(ALGORITHM_OF[kty!]!))
    return usable.length > 0
      ? ok(name, `${usable.length} usable keys at ${jwks_uri}`)
      : fault(
          name,
          `no usable key for ${algorithms.join(', ')} among those at ${jwks_uri}`,
          'ask the provider to publish a signing key for one of these algorithms (RSA of 2048 bits, P-256 or Ed25519), or allow what it has: registrar issuers add … --algorithm',
        )
  })
}

export async function signIn(config: Config): Promise<Check[]> {
  const name = 'sign-in'
  switch (config.SIGN_IN) {
    case 'oidc':
      return await Promise.all(config.oidcProviders.map((provider) => answers(provider, config)))
    case 'development':
      return [ok(name, 'development: it believes any address, and works on localhost only')]
    case 'none':
      return [
        warning(
          name,
          'SIGN_IN is none: nobody can confirm an agent',
          'set OIDC_ISSUER and OIDC_CLIENT_ID, or OIDC_PROVIDERS',
        ),
      ]
  }
}

function answers(provider: OidcProvider, config: Config): Promise<Check> {
  const name = `sign-in ${provider.issuer}`
  const fix = `see that ${provider.issuer} is the issuer to the letter, also in its slashes, that its /.well-known/openid-configuration and its keys answer within 5 s in all, with a certificate of an authority that Node knows (or NODE_EXTRA_CA_CERTS=FILE), and that this machine and the replicas may reach it`
  return attempt(name, fix, async (signal) => {
    const found = await discoverProvider(provider, config, (url, options) =>
      fetch(url, options as RequestInit),
    )
    const metadata = found.serverMetadata()
    const missing = NEEDED.filter((member) => typeof metadata[member] !== 'string')
    if (missing.length > 0)
      return fault(name, `its metadata has no ${missing.join(', ')}`, 'ask the provider for them')
    const insecure = NEEDED.filter((member) => !config.local && !/^https:/i.test(metadata[member]!))
    if (insecure.length > 0)
      return fault(
        name,
        `its ${insecure.join(', ')} is not https`,
        'tell the provider its public URL: it does not know that a proxy ends TLS before it',
      )
    const uri = metadata.jwks_uri!
    const answer = await fetch(uri, { redirect: 'manual', signal })
    if (!answer.ok) throw new Error(`HTTP status ${answer.status} from its keys, ${uri}`)
    const jwks: unknown = await answer.json()
    if (!isJwks(jwks)) throw new Error(`no keys at ${uri}`)
    return ok(
      name,
      `its metadata and its keys answer; its redirect URI is ${redirectUri(config, metadata)}`,
    )
  })
}
