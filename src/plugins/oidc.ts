/**
 * Signs people in at the deployer's identity providers: OpenID Connect Core 1.0, authorization code with PKCE, state,
 * nonce and issuer checks; RP-Initiated Logout 1.0. The library verifies; we keep the state between the steps.
 */
import fp from 'fastify-plugin'
import * as client from 'openid-client'
import type { OidcProvider } from '../config.js'
import { isName } from '../domain/jwt.js'
import { canonicalEmail } from '../domain/login-hint.js'
import type { PendingSignIn, SignIn, SignInReason } from '../domain/sign-in.js'
import { discoverProvider, redirectUri } from './oidc-discovery.js'
import { reasonOf, SignInError } from './oidc-errors.js'

export type Outcome<Value> =
  ({ ok: true } & Value) | { ok: false; reason: SignInReason; cause: unknown }

export interface SignInRequest {
  return_to: string
  /** Seconds: asks for a sign-in that is no older. */
  max_age?: number | undefined
  login_hint?: string | null | undefined
  /** Makes the provider prompt although it remembers somebody: for another account, or for the same person again. */
  prompt?: 'another' | 'again' | undefined
}

declare module 'fastify' {
  interface FastifyInstance {
    oidc: {
      /** Where the browser goes, and what the answer it brings back must match. */
      begin(
        provider: OidcProvider,
        request: SignInRequest,
      ): Promise<Outcome<{ url: string; state: string; pending: PendingSignIn }>>
      /**
       * `query` is the callback's, as received, including its question mark. `untold`: the provider was asked for a
       * recent sign-in and did not say when it was; it has to be asked again, with a prompt.
       */
      finish(
        query: string,
        state: string,
        pending: PendingSignIn,
      ): Promise<Outcome<{ signIn: SignIn; idToken: string; untold: boolean }>>
      /**
       * Where the browser goes to end the provider's own session; undefined when it offers no such place, or cannot be
       * read.
       */
      endSessionUrl(issuer: string, idToken: string | undefined): Promise<string | undefined>
    }
  }
}

/**
 * The address travels in a cookie, which holds 4096 bytes, so a longer ID token is left out; the client id is in it
 * anyway.
 */
const MAX_HINT_LENGTH = 2048
/** After this the metadata is read again; while the provider is away the old metadata stays in use. */
const FRESH_MS = 3_600_000

export default fp(
  async (app) => {
    const { config } = app
    const after = `${config.ISSUER}/logout/callback`
    const known = new Map<string, { server: client.Configuration; readAt: number }>()
    const reading = new Map<string, Promise<client.Configuration>>()

    app.decorate('oidc', {
      begin: (provider, request) => outcome(() => begin(provider, request)),
      finish: (query, state, pending) => outcome(() => finish(query, state, pending)),
      endSessionUrl: async (issuer, idToken) => {
        const found = await outcome(async () => ({ server: await serverOf(issuer) }))
        const server = found.ok ? found.server : undefined
        if (!server?.serverMetadata().end_session_endpoint) return undefined
        const { href } = client.buildEndSessionUrl(server, {
          post_logout_redirect_uri: after,
          // Cognito's name for it; others ignore parameters that they do not know (section 2).
          logout_uri: after,
          ...(idToken && idToken.length <= MAX_HINT_LENGTH ? { id_token_hint: idToken } : {}),
        })
        return href
      },
    })

    async function begin({ issuer }: OidcProvider, request: SignInRequest) {
      const server = await serverOf(issuer)
      const redirect_uri = redirectUri(config, server.serverMetadata())
      const { return_to, max_age, login_hint, prompt } = request
      const [state, nonce] = [client.randomState(), client.randomNonce()]
      const code_verifier = client.randomPKCECodeVerifier()
      const url = client.buildAuthorizationUrl(server, {
        redirect_uri,
        response_type: 'code',
        scope: 'openid email',
        state,
        nonce,
        code_challenge: await client.calculatePKCECodeChallenge(code_verifier),
        code_challenge_method: 'S256',
        ...(max_age === undefined ? {} : { max_age: String(max_age) }),
        ...(login_hint && prompt !== 'another' ? { login_hint } : {}),
        ...(prompt && { prompt: promptFor(server, prompt) }),
      })
      const prompted = prompt !== undefined
      const callback = new URL(redirect_uri).pathname
      const asked = { issuer, nonce, code_verifier, max_age, prompted }
      return { url: url.href, state, pending: { ...asked, return_to, callback } }
    }

    async function finish(query: string, state: string, pending: PendingSignIn) {
      const { issuer, nonce, code_verifier, max_age, prompted, callback } = pending
      const server = await serverOf(issuer)
      const checks = {
        expectedState: state,
        expectedNonce: nonce,
        pkceCodeVerifier: code_verifier,
      }
      const url = new URL(callback + query, config.ISSUER)
      const tokens = await client.authorizationCodeGrant(server, url, checks)
      const claims = tokens.claims()!
      if (!isName(claims.sub)) throw new SignInError('unverified', 'its sub is no name')
      if (isTooOld(claims, max_age, config.CLOCK_SKEW_SECONDS))
        throw new SignInError('unverified', 'its auth_time is older than the max_age asked for')
      const untold = max_age !== undefined && claims.auth_time === undefined && !prompted
      const email = await verifiedEmail(server, tokens.access_token, claims)
      return { signIn: { issuer, subject: claims.sub, email }, idToken: tokens.id_token!, untold }
    }

    async function serverOf(issuer: string): Promise<client.Configuration> {
      const before = known.get(issuer)
      if (before && performance.now() - before.readAt < FRESH_MS) return before.server
      const provider = config.oidcProviders.find((listed) => listed.issuer === issuer)
      // Removed from the settings while a sign-in, or a session, was under way.
      if (!provider) throw new SignInError('not_ours')
      try {
        if (!reading.has(issuer)) reading.set(issuer, read(provider))
        return await reading.get(issuer)!
      } catch (error) {
        if (before) return before.server
        throw error
      }
    }

    /** One read at a time for each provider, however many wait for it: anybody can ask to sign in. */
    async function read(provider: OidcProvider): Promise<client.Configuration> {
      const { issuer } = provider
      try {
        const server = await discoverProvider(provider, config, (url, options) =>
          app.call('oidc', url, () => fetch(url, options as RequestInit)),
        )
        known.set(issuer, { server, readAt: performance.now() })
        return server
      } finally {
        reading.delete(issuer)
      }
    }
  },
  { name: 'oidc', dependencies: ['calls'] },
)

/** Every provider supports `login` (Core 1.0 section 3.1.2.1) except Google, which has only `select_account`. */
function promptFor(server: client.Configuration, prompt: 'another' | 'again'): string {
  const { issuer, prompt_values_supported: values } = server.serverMetadata()
  if (issuer === 'https://accounts.google.com') return 'select_account'
  const choice = prompt === 'another' && Array.isArray(values) && values.includes('select_account')
  return choice ? 'select_account' : 'login'
}

/**
 * Whether the sign-in is older than `max_age`, for a provider that says when it was: Google, Dex and, by default, Entra
 * ID do not.
 */
function isTooOld({ auth_time }: client.IDToken, max_age: number | undefined, skew: number) {
  if (max_age === undefined || auth_time === undefined) return false
  return auth_time + max_age + skew < Date.now() / 1000
}

/** Canonical. Some providers give the address, or say that it is verified, only at their userinfo endpoint. */
async function verifiedEmail(
  server: client.Configuration,
  accessToken: string,
  claims: client.IDToken,
): Promise<string | null> {
  const isTold = claims.email !== undefined && isVerified(claims) !== undefined
  const told =
    isTold || server.serverMetadata().userinfo_endpoint === undefined
      ? claims
      : await client.fetchUserInfo(server, accessToken, claims.sub)
  return (isVerified(told) && canonicalEmail(String(told.email))) || null
}

/**
 * Undefined when the provider does not say. Entra ID says it in a claim of its own: the owner of the address's domain
 * is verified.
 */
function isVerified({ email_verified, xms_edov }: client.UserInfoResponse | client.IDToken) {
  if (email_verified !== undefined) return email_verified === true
  return xms_edov === undefined ? undefined : [true, 1, '1'].includes(xms_edov as never)
}

async function outcome<Value>(work: () => Promise<Value>): Promise<Outcome<Value>> {
  try {
    return { ok: true, ...(await work()) }
  } catch (cause) {
    return { ok: false, reason: reasonOf(cause), cause }
  }
}
