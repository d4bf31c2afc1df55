/** An identity provider as its discovery document shows it (OpenID Connect Discovery 1.0 section 4). */
import * as client from 'openid-client'
import type { Config, OidcProvider } from '../config.js'
import { basicCredentials } from '../domain/basic-credentials.js'
import { isObject } from '../domain/jwt.js'
import { host } from '../domain/words.js'

/** Of each request to the provider. */
const TIMEOUT_SECONDS = 5

/**
 * Reads the provider's metadata.
 * @throws when the provider does not answer, or names another issuer.
 */
export async function discoverProvider(
  { issuer, client_id, client_secret }: OidcProvider,
  config: { CLOCK_SKEW_SECONDS: number; local: boolean },
  fetching: client.CustomFetch,
): Promise<client.Configuration> {
  const discovering = client.discovery(
    new URL(issuer),
    client_id,
    { [client.clockTolerance]: config.CLOCK_SKEW_SECONDS },
    client_secret === undefined ? client.None() : secretAuth(client_secret),
    {
      timeout: TIMEOUT_SECONDS,
      [client.customFetch]: fetching,
      execute: [
        // The ID token comes straight from the provider; its signature is checked all the same.
        client.enableNonRepudiationChecks,
        ...(config.local ? [client.allowInsecureRequests] : []),
      ],
    },
  )
  const server = await discovering.catch((error: Error) => {
    throw namedAnother(issuer, bodyOf(error)?.issuer) ?? error
  })
  // Even if they differ only in a slash: the issuer is half of each account's name.
  const fault = namedAnother(issuer, server.serverMetadata().issuer)
  if (fault) throw fault
  return server
}

/**
 * Where the provider sends people back to. With several providers, one that does not say which provider its answer is
 * from (RFC 9207) gets a path of its own, so that its code is never sent to another provider, which had led people on
 * to it (RFC 9700 §4.4).
 */
export function redirectUri(
  { ISSUER, oidcProviders }: Config,
  { issuer, authorization_response_iss_parameter_supported: says }: client.ServerMetadata,
): string {
  const uri = `${ISSUER}/login/callback`
  return says || oidcProviders.length === 1 ? uri : `${uri}/${host(issuer)}`
}

/** The document that the library did not accept. */
function bodyOf({ cause }: Error): Record<string, unknown> | undefined {
  return isObject(cause) && isObject(cause.body) ? cause.body : undefined
}

function namedAnother(issuer: string, named: unknown): Error | undefined {
  return typeof named === 'string' && named !== issuer
    ? new Error(`the metadata of ${issuer} names another issuer: ${named}`)
    : undefined
}

/** HTTP Basic, the providers' default; in the body only if they offer that and not Basic (Discovery 1.0 section 3). */
function secretAuth(secret: string): client.ClientAuth {
  const post = client.ClientSecretPost(secret)
  return (server, registered, body, headers) => {
    const methods = server.token_endpoint_auth_methods_supported
    if (methods?.includes('client_secret_post') && !methods.includes('client_secret_basic'))
      return post(server, registered, body, headers)
    headers.set('authorization', basicCredentials(registered.client_id, secret))
  }
}
