/**
 * Signing people in at the deployer's identity providers: OpenID Connect Core 1.0, authorization code with PKCE, state,
 * nonce and issuer checks; RP-Initiated Logout 1.0. The library verifies; what we keep is where it left off.
 */
import fp from 'fastify-plugin'
import * as client from 'openid-client'
import type { OidcProvider } from '../config.js'
import { isName } from '../domain/jwt.js'
import { canonicalEmail } from '../domain/login-hint.js'
import type { PendingSignIn, SignIn, SignInReason } from '../domain/sign-in.js'

export type Outcome<Value> =
  ({ ok: true } & Value) | { ok: false; reason: SignInReason; cause: unknown }

export interface SignInRequest {
  return_to: string
  /** Seconds: ask for a sign-in that is no older. */
  max_age?: number | undefined
  login_hint?: string | undefined
  /** The person wants another account than the one the provider remembers. */
  another: boolean
}

declare module 'fastify' {
  interface FastifyInstance {
    oidc: {
      /** Where the browser goes, and what must fit what it comes back with. */
      begin(
        provider: OidcProvider,
        request: SignInRequest,
      ): Promise<Outcome<{ url: string; state: string; pending: PendingSignIn }>>
      /** `query` is the callback's, as it came, from its question mark on. */
      finish(
        query: string,
        state: string,
        pending: PendingSignIn,
      ): Promise<Outcome<{ signIn: SignIn; idToken: string }>>
      /** Where the browser goes to end the provider's own session; undefined when it offers no such place. */
      endSessionUrl(issuer: string, idToken: string | undefined): Promise<string | undefined>
    }
  }
}

const TIMEOUT_SECONDS = 5
/** The address travels in a cookie, which holds 4096 bytes; the client id is in it either way. */
const MAX_HINT_LENGTH = 2048
/** After this metadata is read again; while the provider is away the old serves on. */
const FRESH_MS = 3_600_000

export default fp(
  async (app) => {
    const { config } = app
    const redirect_uri = `${config.ISSUER}/login/callback`
    const known = new Map<string, { server: client.Configuration; readAt: number }>()

    app.decorate('oidc', {
      begin: (provider, request) =>
        outcome(async () => {
          const server = await serverOf(provider)
          const [state, nonce] = [client.randomState(), client.randomNonce()]
          const code_verifier = client.randomPKCECodeVerifier()
          const { return_to, max_age, login_hint, another } = request
          const url = client.buildAuthorizationUrl(server, {
            redirect_uri,
            response_type: 'code',
            scope: 'openid email',
            state,
            nonce,
            code_challenge: await client.calculatePKCECodeChallenge(code_verifier),
            code_challenge_method: 'S256',
            ...(max_age === undefined ? {} : { max_age: String(max_age) }),
            ...(login_hint === undefined ? {} : { login_hint }),
            ...(another ? { prompt: promptForAnother(server) } : {}),
          })
          const { issuer } = provider
          const fresh = max_age === undefined ? {} : { max_age }
          return {
            url: url.href,
            state,
            pending: { issuer, nonce, code_verifier, return_to, ...fresh },
          }
        }),

      finish: (query, state, { issuer, nonce, code_verifier, max_age }) =>
        outcome(async () => {
          const server = await serverOf(providerOf(issuer)!)
          const tokens = await client.authorizationCodeGrant(
            server,
            new URL(redirect_uri + query),
            {
              expectedState: state,
              expectedNonce: nonce,
              pkceCodeVerifier: code_verifier,
              ...(max_age === undefined ? {} : { maxAge: max_age }),
            },
          )
          const claims = tokens.claims()!
          if (!isName(claims.sub)) throw new Error('the subject is no name')
          const email = await verifiedEmail(server, tokens.access_token, claims)
          const signIn = { issuer, subject: claims.sub, email }
          return { signIn, idToken: tokens.id_token! }
        }),

      endSessionUrl: async (issuer, idToken) => {
        const provider = providerOf(issuer)
        const found =
          provider && (await outcome(async () => ({ server: await serverOf(provider) })))
        if (!found?.ok || !found.server.serverMetadata().end_session_endpoint) return undefined
        const { href } = client.buildEndSessionUrl(found.server, {
          post_logout_redirect_uri: `${config.ISSUER}/logout/callback`,
          ...(idToken && idToken.length <= MAX_HINT_LENGTH ? { id_token_hint: idToken } : {}),
        })
        return href
      },
    })

    function providerOf(issuer: string): OidcProvider | undefined {
      return config.oidcProviders.find((provider) => provider.issuer === issuer)
    }

    async function serverOf(provider: OidcProvider): Promise<client.Configuration> {
      const before = known.get(provider.issuer)
      if (before && performance.now() - before.readAt < FRESH_MS) return before.server
      try {
        const server = await discover(provider)
        known.set(provider.issuer, { server, readAt: performance.now() })
        return server
      } catch (error) {
        if (!before) throw error
        return before.server
      }
    }

    async function discover({ issuer, client_id, client_secret }: OidcProvider) {
      const settings = { [client.clockTolerance]: config.CLOCK_SKEW_SECONDS }
      const server = await client.discovery(
        new URL(issuer),
        client_id,
        settings,
        client_secret === undefined ? client.None() : secretAuth(client_secret),
        {
          timeout: TIMEOUT_SECONDS,
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
  },
  { name: 'oidc' },
)

/** Basic is what providers register by default; the body only where they offer nothing else (Discovery 1.0 section 3). */
function secretAuth(secret: string): client.ClientAuth {
  const [basic, post] = [client.ClientSecretBasic(secret), client.ClientSecretPost(secret)]
  return (server, ...rest) => {
    const methods = server.token_endpoint_auth_methods_supported
    const inBody =
      methods?.includes('client_secret_post') && !methods.includes('client_secret_basic')
    return (inBody ? post : basic)(server, ...rest)
  }
}

/**
 * Every provider knows `login` (Core 1.0 section 3.1.2.1) but the one that matters most without a sign-out of its own,
 * which knows only `select_account`.
 */
function promptForAnother(server: client.Configuration): string {
  const { prompt_values_supported: values, end_session_endpoint } = server.serverMetadata()
  if (Array.isArray(values)) return values.includes('select_account') ? 'select_account' : 'login'
  return end_session_endpoint === undefined ? 'select_account' : 'login'
}

/** Some providers tell of the address at their userinfo endpoint only. */
async function verifiedEmail(
  server: client.Configuration,
  accessToken: string,
  claims: client.IDToken,
): Promise<string | null> {
  const told =
    claims.email === undefined && server.serverMetadata().userinfo_endpoint !== undefined
      ? await client.fetchUserInfo(server, accessToken, claims.sub)
      : claims
  const { email, email_verified } = told
  return (email_verified === true && canonicalEmail(String(email))) || null
}

async function outcome<Value>(work: () => Promise<Value>): Promise<Outcome<Value>> {
  try {
    return { ok: true, ...(await work()) }
  } catch (cause) {
    return { ok: false, reason: reasonOf(cause), cause }
  }
}

const BY_CODE: Record<string, SignInReason> = {
  OAUTH_TIMEOUT: 'away',
  OAUTH_ABORT: 'away',
  OAUTH_PARSE_ERROR: 'away',
  OAUTH_RESPONSE_IS_NOT_JSON: 'away',
  OAUTH_INVALID_RESPONSE: 'unverified',
  OAUTH_JWT_CLAIM_COMPARISON_FAILED: 'unverified',
  OAUTH_JWT_TIMESTAMP_CHECK_FAILED: 'unverified',
  OAUTH_JSON_ATTRIBUTE_COMPARISON_FAILED: 'unverified',
  OAUTH_KEY_SELECTION_FAILED: 'unverified',
  OAUTH_UNSUPPORTED_OPERATION: 'unverified',
}

/** OAuth 2.0 section 4.1.2.1, OpenID Connect Core 1.0 section 3.1.2.6 */
const BY_REDIRECT: Record<string, SignInReason> = {
  access_denied: 'declined',
  login_required: 'declined',
  interaction_required: 'declined',
  account_selection_required: 'declined',
  consent_required: 'declined',
  server_error: 'away',
  temporarily_unavailable: 'away',
}

/** By class and code, never by message: libraries reword those. */
function reasonOf(error: unknown): SignInReason {
  if (error instanceof client.AuthorizationResponseError)
    return BY_REDIRECT[error.error] ?? 'misconfigured'
  if (error instanceof client.ResponseBodyError && error.error === 'invalid_grant')
    return 'not_ours'
  const { code = '', cause } = error as { code?: string; cause?: unknown }
  if (cause instanceof Response) return cause.status >= 500 ? 'away' : 'misconfigured'
  // How fetch says that nobody answered: the cause is the network's own error.
  if (error instanceof TypeError && cause instanceof Error) return 'away'
  return BY_CODE[code] ?? 'misconfigured'
}
