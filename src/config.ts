/** The settings: one environment variable each, read once at start; every fault is reported in one message. */
import { Type, type Static, type TSchema } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import { crossFaults, inWords, isLocal, parseUrl } from './config-faults.js'
import { LIMIT_NAMES, LIMITS, NO_LIMITS, type Limits } from './domain/limits.js'
import { REGISTRATION_TYPES } from './domain/registration.js'

/** RFC 6749 §3.3 scope-token. */
const SCOPE = '^[\\x21\\x23-\\x5B\\x5D-\\x7E]+$'
const LIFETIME = { minimum: 1, maximum: 31_536_000 }
/** `expected`: the pattern in words. */
const NOT_BLANK = { pattern: '\\S', expected: 'something other than spaces' }
const HTTP_URL = { pattern: '^https?://\\S+$', expected: 'an http or https URL, without spaces' }

const OidcProvider = Type.Object(
  {
    name: Type.String({ minLength: 1, maxLength: 60 }),
    issuer: Type.String(),
    client_id: Type.String({ minLength: 1 }),
    client_secret: Type.Optional(Type.String({ minLength: 1 })),
  },
  { additionalProperties: false },
)
export type OidcProvider = Static<typeof OidcProvider>

const perHour = Type.Optional(Type.Integer({ minimum: 0, maximum: 1_000_000 }))

const oneOf = <T extends string>(...names: T[]) => Type.Union(names.map((n) => Type.Literal(n)))

const Settings = Type.Object({
  ISSUER: Type.String(),
  PORT: Type.Integer({ default: 8000, minimum: 0, maximum: 65535 }),
  HOST: Type.String({ default: '127.0.0.1' }),
  DATABASE_URL: Type.Optional(
    Type.String({ pattern: '^postgres(ql)?://', expected: 'a URL that begins with postgres://' }),
  ),
  DATA_DIR: Type.String({ default: '.data', ...NOT_BLANK }),
  SECRET: Type.Array(Type.String(), { default: [] }),
  RESOURCE: Type.String(),
  RESOURCE_NAME: Type.String({ default: 'Example API', maxLength: 100, ...NOT_BLANK }),
  RESOURCE_LOGO_URI: Type.Optional(Type.String(HTTP_URL)),
  SCOPES: Type.Record(Type.String({ pattern: SCOPE }), Type.String({ minLength: 1 }), {
    default: { 'api.read': 'Read your data', 'api.write': 'Change your data' },
    additionalProperties: false,
    minProperties: 1,
  }),
  PRE_CLAIM_SCOPES: Type.Array(Type.String(), {
    default: ['api.read'],
    minItems: 1,
    uniqueItems: true,
  }),
  IDENTITY_TYPES: Type.Array(oneOf(...REGISTRATION_TYPES), {
    default: [...REGISTRATION_TYPES],
    minItems: 1,
    uniqueItems: true,
  }),
  SIGN_IN: oneOf('development', 'oidc', 'none'),
  OIDC_ISSUER: Type.Optional(Type.String()),
  OIDC_CLIENT_ID: Type.Optional(Type.String()),
  OIDC_CLIENT_SECRET: Type.Optional(Type.String()),
  OIDC_PROVIDERS: Type.Array(OidcProvider, { default: [], maxItems: 20 }),
  SIGN_IN_MAX_AGE_SECONDS: Type.Integer({ default: 3600, minimum: 60, maximum: 43_200 }),
  TOKEN_SUBJECT: oneOf('user', 'sign_in'),
  BRAND_NAME: Type.Optional(Type.String({ maxLength: 60, ...NOT_BLANK })),
  BRAND_LOGO_URI: Type.Optional(Type.String()),
  BRAND_COLOR: Type.Optional(
    Type.String({ pattern: '^#[0-9A-Fa-f]{6}$', expected: 'a colour as #1a2b3c' }),
  ),
  CLAIM_WINDOW_SECONDS: Type.Integer({ default: 86_400, ...LIFETIME }),
  USER_CODE_TTL_SECONDS: Type.Integer({ default: 600, minimum: 1, maximum: 600 }),
  USER_CODE_MAX_TRIES: Type.Integer({ default: 5, minimum: 1, maximum: 10 }),
  POLL_INTERVAL_SECONDS: Type.Integer({ default: 5, minimum: 1, maximum: 60 }),
  ASSERTION_TTL_SECONDS: Type.Integer({ default: 3600, ...LIFETIME }),
  ACCESS_TOKEN_TTL_SECONDS: Type.Integer({ default: 3600, ...LIFETIME }),
  ID_JAG_MAX_AUTH_AGE_SECONDS: Type.Integer({ default: 3600, ...LIFETIME }),
  IDENTITY_ASSERTION_FIRST_CONTACT: oneOf('provision', 'confirm', 'refuse'),
  LEGACY_REVOCATION: Type.Boolean({ default: true }),
  CLOCK_SKEW_SECONDS: Type.Integer({ default: 60, minimum: 0, maximum: 300 }),
  RATE_LIMITS: Type.Optional(
    Type.Object(Object.fromEntries(LIMIT_NAMES.map((name) => [name, perHour])), {
      additionalProperties: false,
    }),
  ),
  TRUST_PROXY: Type.Array(Type.String(), { default: [], none: ['false', '0'] }),
  METRICS_PORT: Type.Optional(Type.Integer({ minimum: 0, maximum: 65535 })),
  METRICS_HOST: Type.String({ default: '127.0.0.1' }),
  STOP_GRACE_SECONDS: Type.Integer({ minimum: 0, maximum: 10 }),
  OTEL_EXPORTER_OTLP_ENDPOINT: Type.Optional(Type.String(HTTP_URL)),
  OTEL_SERVICE_NAME: Type.String({ default: 'agent-registrar', maxLength: 100 }),
  OTEL_TRACES_SAMPLER_ARG: Type.Number({ default: 1, minimum: 0, maximum: 1 }),
  LOG_LEVEL: oneOf('trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'),
})

export interface Config extends Static<typeof Settings> {
  /** The issuer is on this machine: only then may it be http, make its own secret, and use the development sign-in. */
  local: boolean
  /** At least 32 random bytes each; the first signs and seals, all verify and open. */
  secrets: Buffer[]
  /** The providers that people sign in with when SIGN_IN is `oidc`: OIDC_PROVIDERS, or the one of OIDC_ISSUER. */
  oidcProviders: OidcProvider[]
  /** The defaults, as RATE_LIMITS overrides them; none with a local issuer and no RATE_LIMITS. */
  rateLimits: Limits
}

/** Carries one line per fault; its message lists them all. */
export class ConfigError extends Error {
  constructor(readonly faults: string[]) {
    super(`These settings cannot be used:\n${faults.map((fault) => `  - ${fault}`).join('\n')}`)
  }
}

/** @throws {ConfigError} */
export function readConfig(env: NodeJS.ProcessEnv): Config {
  const { config, faults } = readSettings(env)
  if (faults.length > 0) throw new ConfigError(faults)
  return config
}

/**
 * Reads the environment. Unset and empty are the same. Each fault begins with the name of its setting, whose value is
 * then not to be used.
 * `secrets` is empty when `SECRET` is unset with a local issuer: the caller supplies the one in `DATA_DIR`.
 */
export function readSettings(env: NodeJS.ProcessEnv): { config: Config; faults: string[] } {
  const issuer = env.ISSUER || localIssuer(env.PORT || '8000')
  const local = isLocal(issuer)
  const defaults: NodeJS.ProcessEnv = {
    ISSUER: issuer,
    RESOURCE: `${issuer}/api`,
    SIGN_IN: env.OIDC_ISSUER || env.OIDC_PROVIDERS ? 'oidc' : local ? 'development' : 'none',
    TOKEN_SUBJECT: 'user',
    STOP_GRACE_SECONDS: local ? '0' : '5',
    LOG_LEVEL: 'info',
    IDENTITY_ASSERTION_FIRST_CONTACT: 'provision',
  }
  const settings: Record<string, unknown> = {}
  for (const [name, schema] of Object.entries<TSchema>(Settings.properties)) {
    const text = env[name] || defaults[name]
    if (text) settings[name] = parse(text, schema)
    else if (schema.default !== undefined) settings[name] = schema.default
  }
  const typed = settings as Static<typeof Settings>
  const secrets = typed.SECRET.map((text) => Buffer.from(text, 'base64'))
  const config: Config = {
    ...typed,
    local,
    secrets,
    oidcProviders: oidcProviders(typed),
    rateLimits: local && !typed.RATE_LIMITS ? NO_LIMITS : { ...LIMITS, ...typed.RATE_LIMITS },
  }
  const scopesRead = Value.Check(Settings.properties.SCOPES, typed.SCOPES)
  const faults = new Set([...schemaFaults(settings), ...crossFaults(config, scopesRead)])
  return { config, faults: [...faults] }
}

/** Written as `URL` writes it, without the port that http implies. An invalid PORT is left to its schema. */
function localIssuer(port: string): string {
  const url = /^\d+$/.test(port) ? parseUrl(`http://localhost:${port}`) : undefined
  return url?.origin ?? 'http://localhost:8000'
}

function oidcProviders(settings: Static<typeof Settings>): OidcProvider[] {
  const { OIDC_ISSUER: issuer, OIDC_CLIENT_ID: client_id = '', OIDC_PROVIDERS: list } = settings
  if (!Value.Check(Settings.properties.OIDC_PROVIDERS, list)) return []
  if (issuer === undefined) return list
  const secret = settings.OIDC_CLIENT_SECRET
  const name = parseUrl(issuer)?.hostname ?? issuer
  return [{ name, issuer, client_id, ...(secret === undefined ? {} : { client_secret: secret }) }]
}

/** Environment text → the shape its schema wants; what cannot be read stays text, for the schema to refuse. */
function parse(text: string, schema: TSchema): unknown {
  if (schema.type === 'integer') return /^-?\d+$/.test(text) ? Number(text) : text
  if (schema.type === 'number') return /^\d+(\.\d+)?$/.test(text) ? Number(text) : text
  if (schema.type === 'boolean') return { true: true, false: false }[text] ?? text
  const json = schema.type === 'object' || schema.items?.type === 'object'
  if (schema.none?.includes(text)) return []
  if (schema.type === 'array' && !json) return text.split(',').map((item) => item.trim())
  if (!json) return text
  try {
    return JSON.parse(text)
  } catch {
    return text
  }
}

function schemaFaults(settings: unknown): string[] {
  return [...Value.Errors(Settings, settings)].map(
    (error) => `${error.path.slice(1).replace('/', ' item ')}: ${inWords(error)}`,
  )
}
