/** The discovery metadata: where it is, and what it says (RFC 8414, RFC 9728, PROTOCOL §4). */
import { REVOKED_EVENT } from './security-event.js'

/** How long metadata, keys and /auth.md may be cached, in seconds. */
export const MAX_AGE_SECONDS = 300

export const JWT_BEARER_GRANT = 'urn:ietf:params:oauth:grant-type:jwt-bearer'
export const CLAIM_GRANT = 'urn:workos:agent-auth:grant-type:claim'
const ID_JAG_TOKEN_TYPE = 'urn:ietf:params:oauth:token-type:id-jag'

/** RFC 8414 §3.1, RFC 9728 §3.1: the well-known name goes between host and path; a lone slash counts as no path. */
export function wellKnownPath(name: string, identifier: string): string {
  const { pathname } = new URL(identifier)
  return `/.well-known/${name}${pathname === '/' ? '' : pathname}`
}

export const PROTECTED_RESOURCE = 'oauth-protected-resource'
export const AUTHORIZATION_SERVER = 'oauth-authorization-server'

/** The URL that a challenge points to: on our own host, whatever host the resource is on. */
export function resourceMetadataUrl(resource: string, issuer: string): string {
  return new URL(wellKnownPath(PROTECTED_RESOURCE, resource), issuer).href
}

export function authorizationServerMetadataUrl(issuer: string): string {
  return new URL(wellKnownPath(AUTHORIZATION_SERVER, issuer), issuer).href
}

interface MetadataSettings {
  ISSUER: string
  RESOURCE: string
  RESOURCE_NAME: string
  RESOURCE_LOGO_URI?: string | undefined
  SCOPES: Record<string, string>
  IDENTITY_TYPES: string[]
  LEGACY_REVOCATION: boolean
}

interface ShownSettings {
  ISSUER: string
  RESOURCE: string
  RESOURCE_NAME: string
  SCOPES: Record<string, string>
  PRE_CLAIM_SCOPES: string[]
  IDENTITY_TYPES: string[]
  local: boolean
}

/** The settings that pages and /auth.md may show. Templates never get the others, some of which are secrets. */
export function shownSettings(settings: ShownSettings): ShownSettings {
  const { ISSUER, RESOURCE, RESOURCE_NAME, SCOPES, PRE_CLAIM_SCOPES, IDENTITY_TYPES, local } =
    settings
  return { ISSUER, RESOURCE, RESOURCE_NAME, SCOPES, PRE_CLAIM_SCOPES, IDENTITY_TYPES, local }
}

/** RFC 9728 §2 */
export function protectedResourceMetadata(settings: MetadataSettings) {
  return {
    resource: settings.RESOURCE,
    resource_name: settings.RESOURCE_NAME,
    ...(settings.RESOURCE_LOGO_URI ? { resource_logo_uri: settings.RESOURCE_LOGO_URI } : {}),
    authorization_servers: [settings.ISSUER],
    scopes_supported: Object.keys(settings.SCOPES),
    bearer_methods_supported: ['header'],
  }
}

/**
 * RFC 8414 §2, with the profile's `agent_auth`. There is no authorization endpoint, so no `response_types_supported`.
 */
export function authorizationServerMetadata(settings: MetadataSettings) {
  const { ISSUER: issuer, IDENTITY_TYPES } = settings
  return {
    issuer,
    ...protectedResourceMetadata(settings),
    token_endpoint: `${issuer}/oauth2/token`,
    revocation_endpoint: `${issuer}/oauth2/revoke`,
    introspection_endpoint: `${issuer}/oauth2/introspect`,
    jwks_uri: `${issuer}/.well-known/jwks.json`,
    grant_types_supported: [JWT_BEARER_GRANT, CLAIM_GRANT],
    token_endpoint_auth_methods_supported: ['none'],
    revocation_endpoint_auth_methods_supported: ['none'],
    introspection_endpoint_auth_methods_supported: ['client_secret_basic'],
    agent_auth: {
      skill: `${issuer}/auth.md`,
      identity_endpoint: `${issuer}/agent/identity`,
      claim_endpoint: `${issuer}/agent/identity/claim`,
      events_endpoint: `${issuer}/agent/event/notify`,
      ...(settings.LEGACY_REVOCATION ? { revocation_uri: `${issuer}/agent/auth/revoke` } : {}),
      identity_types_supported: IDENTITY_TYPES.toSorted(),
      ...(IDENTITY_TYPES.includes('identity_assertion')
        ? { identity_assertion: { assertion_types_supported: [ID_JAG_TOKEN_TYPE] } }
        : {}),
      events_supported: [REVOKED_EVENT],
    },
  }
}
