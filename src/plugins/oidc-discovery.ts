/** An identity provider as its discovery document shows it (OpenID Connect Discovery 1.0 section 4). */
import * as client from 'openid-client'
import type { OidcProvider } from '../config.js'
import { basicCredentials } from '../domain/basic-credentials.js'

/** Of each request. */
const TIMEOUT_SECONDS = 5

/** @throws when it does not answer, or names another issuer. */
export async function discoverProvider(
  { issuer, client_id, client_secret }: OidcProvider,
  config: { CLOCK_SKEW_SECONDS: number; local: boolean },
  fetching: client.CustomFetch,
): Promise<client.Configuration> {
  const server = await client.discovery(
    new URL(issuer),
    client_id,
    { [client.clockTolerance]: config.CLOCK_SKEW_SECONDS },
    client_secret === undefined ? client.None() : secretAuth(client_secret),
    {
      timeout: TIMEOUT_SECONDS,
      [client.customFetch]: fetching,
      execute: [
        // It comes straight from the provider, and is checked all the same.
        client.enableNonRepudiationChecks,
        ...(config.local ? [client.allowInsecureRequests] : []),
      ],
    },
  )
  const { issuer: named } = server.serverMetadata()
  // Also where they differ in a slash: the issuer is half of each account's name.
  if (named === issuer) return server
  throw new Error(`The metadata of ${issuer} names another issuer: ${named}`)
}

/** Basic is what providers register by default; the body only where they offer nothing else (Discovery 1.0 section 3). */
function secretAuth(secret: string): client.ClientAuth {
  const post = client.ClientSecretPost(secret)
  return (server, registered, body, headers) => {
    const methods = server.token_endpoint_auth_methods_supported
    if (methods?.includes('client_secret_post') && !methods.includes('client_secret_basic'))
      return post(server, registered, body, headers)
    headers.set('authorization', basicCredentials(registered.client_id, secret))
  }
}
