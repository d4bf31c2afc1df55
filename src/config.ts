/** The settings: one environment variable each, read once at start; every fault is reported in one message. */
import { Type, type Static, type TSchema } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import { isIP } from 'node:net'

/** RFC 6749 §3.3 scope-token. */
const SCOPE = '^[\\x21\\x23-\\x5B\\x5D-\\x7E]+$'
const LIFETIME = { minimum: 1, maximum: 31_536_000 }

const oneOf = <T extends string>(...names: T[]) => Type.Union(names.map((n) => Type.Literal(n)))

const Settings = Type.Object({
  ISSUER: Type.String(),
  PORT: Type.Integer({ default: 8000, minimum: 0, maximum: 65535 }),
  HOST: Type.String({ default: '127.0.0.1' }),
  DATABASE_URL: Type.Optional(Type.String({ pattern: '^postgres(ql)?://' })),
  DATA_DIR: Type.String({ default: '.data' }),
  SECRET: Type.Array(Type.String(), { default: [] }),
  RESOURCE: Type.String(),
  RESOURCE_NAME: Type.String({ default: 'Example API', maxLength: 100 }),
  RESOURCE_LOGO_URI: Type.Optional(Type.String({ pattern: '^https?://' })),
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
  IDENTITY_TYPES: Type.Array(oneOf('anonymous', 'service_auth', 'identity_assertion'), {
    default: ['anonymous', 'service_auth', 'identity_assertion'],
    minItems: 1,
    uniqueItems: true,
  }),
  SIGN_IN: oneOf('development', 'none'),
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
  TRUST_PROXY: Type.Array(Type.String(), { default: [] }),
  LOG_LEVEL: oneOf('trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'),
})

export interface Config extends Static<typeof Settings> {
  /** The issuer is on this machine: only then may it be http, make its own secret, and use the development sign-in. */
  local: boolean
  /** At least 32 random bytes each; the first signs and seals, all verify and open. */
  secrets: Buffer[]
}

/** Carries one line per fault; its message lists them all. */
export class ConfigError extends Error {
  constructor(readonly faults: string[]) {
    super(`These settings cannot be used:\n${faults.map((fault) => `  - ${fault}`).join('\n')}`)
  }
}

/**
 * Reads the environment. Unset and empty are the same.
 * `secrets` is empty when `SECRET` is unset with a local issuer: the caller supplies the one in `DATA_DIR`.
 * @throws {ConfigError}
 */
export function readConfig(env: NodeJS.ProcessEnv): Config {
  const issuer = env.ISSUER || localIssuer(env.PORT || '8000')
  const local = isLocal(issuer)
  const defaults: NodeJS.ProcessEnv = {
    ISSUER: issuer,
    RESOURCE: `${issuer}/api`,
    SIGN_IN: local ? 'development' : 'none',
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
  const config: Config = { ...typed, local, secrets }
  const faults = new Set([...schemaFaults(settings), ...crossFaults(config)])
  if (faults.size > 0) throw new ConfigError([...faults])
  return config
}

/** In the form that URLs have: without the port that http implies. A PORT that is none is left to its schema. */
function localIssuer(port: string): string {
  const url = /^\d+$/.test(port) ? parseUrl(`http://localhost:${port}`) : undefined
  return url?.origin ?? 'http://localhost:8000'
}

/** Environment text → the shape its schema wants; what cannot be read stays text, for the schema to refuse. */
function parse(text: string, schema: TSchema): unknown {
  if (schema.type === 'integer') return /^-?\d+$/.test(text) ? Number(text) : text
  if (schema.type === 'boolean') return { true: true, false: false }[text] ?? text
  if (schema.type === 'array' && text === 'false') return []
  if (schema.type === 'array') return text.split(',').map((item) => item.trim())
  if (schema.type !== 'object') return text
  try {
    return JSON.parse(text)
  } catch {
    return text
  }
}

function schemaFaults(settings: unknown): string[] {
  return [...Value.Errors(Settings, settings)].map(({ path, message, schema }) => {
    const choices = (schema.anyOf as { const: string }[] | undefined)?.map((choice) => choice.const)
    const fault = choices ? `Expected one of ${choices.join(', ')}` : message
    return `${path.slice(1).replace('/', ' item ')}: ${fault}`
  })
}

/** Reads only what has its type whatever the schema says about its value; SCOPES has not. */
function crossFaults(config: Config): string[] {
  const faults = [...urlFaults(config)]
  if (Value.Check(Settings.properties.SCOPES, config.SCOPES)) {
    const unknown = config.PRE_CLAIM_SCOPES.filter((scope) => !Object.hasOwn(config.SCOPES, scope))
    if (unknown.length > 0) faults.push(`PRE_CLAIM_SCOPES: ${unknown.join(', ')} not in SCOPES`)
  }
  const base64 = config.SECRET.every((text) => /^[\w+/-]+=*$/.test(text))
  if (!base64 || config.secrets.some((secret) => secret.length < 32 || new Set(secret).size < 16))
    faults.push('SECRET: at least 32 random bytes in base64; make one with openssl rand -base64 32')
  const hops = config.TRUST_PROXY.length === 1 && /^\d+$/.test(config.TRUST_PROXY[0]!)
  if (!hops && !config.TRUST_PROXY.every(isNetwork))
    faults.push('TRUST_PROXY: either one hop count or a list of addresses and networks')
  if (config.local) return faults
  if (config.secrets.length === 0)
    faults.push('SECRET: required off localhost; make one with openssl rand -base64 32')
  if (!config.DATABASE_URL)
    faults.push('DATABASE_URL: required off localhost, the embedded Postgres is for trying things')
  if (config.SIGN_IN === 'development')
    faults.push('SIGN_IN: the development sign-in lets anyone in; only for an ISSUER on localhost')
  return faults
}

function urlFaults({ ISSUER, RESOURCE, local }: Config): string[] {
  const faults: string[] = []
  const issuer = parseUrl(ISSUER)
  if (!issuer) faults.push('ISSUER: not a URL')
  else if (issuer.protocol !== 'https:' && !local)
    faults.push('ISSUER: https is required off localhost')
  else if (issuer.href.replace(/\/$/, '') !== ISSUER || /[?#@]/.test(ISSUER))
    faults.push(
      `ISSUER: write it without user, trailing slash, query or fragment: ${issuer.origin}${issuer.pathname.replace(/\/+$/, '')}`,
    )
  // Others would mean something to the router, which serves everything below this path.
  else if (!/^[\w.~/-]*$/.test(issuer.pathname))
    faults.push('ISSUER: only letters, digits and . _ ~ - in its path')
  // The default repeats the issuer's fault.
  if (faults.length > 0 && RESOURCE === `${ISSUER}/api`) return faults
  const resource = parseUrl(RESOURCE)
  // A router decodes what it compares, so an escape in the path would be found nowhere.
  if (!resource || /[?#%\s]|\/\/[^/]*@/.test(RESOURCE))
    faults.push('RESOURCE: an absolute URL without user, query, fragment or escapes')
  else if (resource.protocol !== 'https:' && !isLocal(RESOURCE))
    faults.push('RESOURCE: https is required off localhost')
  // What an access token is for must not be what an assertion is for.
  else if (RESOURCE === ISSUER) faults.push('RESOURCE: not the ISSUER itself')
  return faults
}

/** An address, or one and the length of its network. */
function isNetwork(text: string): boolean {
  const [address = '', length, more] = text.split('/')
  const bits = { 0: 0, 4: 32, 6: 128 }[isIP(address)]!
  return (
    bits > 0 &&
    more === undefined &&
    (length === undefined || (/^[1-9]\d*$/.test(length) && Number(length) <= bits))
  )
}

function isLocal(url: string): boolean {
  const { protocol = '', hostname = '' }: Partial<URL> = parseUrl(url) ?? {}
  return (
    /^https?:$/.test(protocol) && /^(localhost|.+\.localhost|127(\.\d+){3}|\[::1\])$/.test(hostname)
  )
}

function parseUrl(text: string): URL | undefined {
  return URL.canParse(text) ? new URL(text) : undefined
}
