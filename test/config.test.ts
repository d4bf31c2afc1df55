/** The environment, and the secret of a server that was given none. */
import { randomBytes } from 'node:crypto'
import fs from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { readConfig, type Config } from '../src/config.js'
import { localSecret } from '../src/secret.js'
import { SECRET } from './fixtures/app.js'
import { faults, PUBLIC } from './fixtures/settings.js'

t.test('with an empty environment it is a local server for trying things', async (t) => {
  const config = readConfig({})
  t.match(config, {
    ISSUER: 'http://localhost:8000',
    PORT: 8000,
    HOST: '127.0.0.1',
    DATABASE_URL: undefined,
    DATA_DIR: '.data',
    SECRET: [],
    RESOURCE: 'http://localhost:8000/api',
    RESOURCE_NAME: 'Example API',
    RESOURCE_LOGO_URI: undefined,
    SCOPES: { 'api.read': 'Read your data', 'api.write': 'Change your data' },
    PRE_CLAIM_SCOPES: ['api.read'],
    SIGN_IN: 'development',
    OIDC_ISSUER: undefined,
    OIDC_CLIENT_ID: undefined,
    OIDC_CLIENT_SECRET: undefined,
    OIDC_PROVIDERS: [],
    SIGN_IN_MAX_AGE_SECONDS: 3600,
    TOKEN_SUBJECT: 'user',
    CLAIM_WINDOW_SECONDS: 86_400,
    USER_CODE_TTL_SECONDS: 600,
    USER_CODE_MAX_TRIES: 5,
    POLL_INTERVAL_SECONDS: 5,
    ASSERTION_TTL_SECONDS: 3600,
    ACCESS_TOKEN_TTL_SECONDS: 3600,
    ID_JAG_MAX_AUTH_AGE_SECONDS: 3600,
    IDENTITY_ASSERTION_FIRST_CONTACT: 'provision',
    LEGACY_REVOCATION: true,
    CLOCK_SKEW_SECONDS: 60,
    TRUST_PROXY: [],
    STOP_GRACE_SECONDS: 0,
    LOG_LEVEL: 'info',
    local: true,
    secrets: [],
    oidcProviders: [],
  } satisfies Partial<Record<keyof Config, unknown>>)
  const empty = Object.fromEntries(Object.keys(config).map((name) => [name, '']))
  t.same(readConfig(empty), config, 'empty is unset')
})

t.test('off localhost a load balancer gets time to notice a stop', async (t) => {
  t.equal(readConfig(PUBLIC).STOP_GRACE_SECONDS, 5)
  t.equal(readConfig({ ...PUBLIC, STOP_GRACE_SECONDS: '0' }).STOP_GRACE_SECONDS, 0)
  t.match(faults({ ...PUBLIC, STOP_GRACE_SECONDS: '11' }), [/^STOP_GRACE_SECONDS: /])
})

t.test('settings are read in the types they have', async (t) => {
  const newer = randomBytes(40).toString('base64url')
  const config = readConfig({
    ...PUBLIC,
    PORT: '0',
    SECRET: ` ${newer} , ${SECRET}`,
    SCOPES: '{"a:b/c":"Do","__proto__":"Odd"}',
    PRE_CLAIM_SCOPES: 'a:b/c, __proto__',
    IDENTITY_TYPES: 'service_auth',
    LEGACY_REVOCATION: 'false',
    TRUST_PROXY: '10.0.0.0/8, ::1, fd00::/8',
    RESOURCE: 'https://api.test/v1/',
  })
  for (const none of ['false', '0'])
    t.same(readConfig({ TRUST_PROXY: none }).TRUST_PROXY, [], `${none}: no proxy is trusted`)
  t.throws(() => readConfig({ SECRET: 'false' }), 'only there')
  t.match(config, {
    PORT: 0,
    PRE_CLAIM_SCOPES: ['a:b/c', '__proto__'],
    IDENTITY_TYPES: ['service_auth'],
    LEGACY_REVOCATION: false,
    TRUST_PROXY: ['10.0.0.0/8', '::1', 'fd00::/8'],
    RESOURCE: 'https://api.test/v1/',
    SIGN_IN: 'none',
    local: false,
  })
  t.same(Object.entries(config.SCOPES), [
    ['a:b/c', 'Do'],
    ['__proto__', 'Odd'],
  ])
  t.same(
    config.secrets,
    [newer, SECRET].map((text) => Buffer.from(text, 'base64')),
  )
})

t.test('the issuer follows PORT in the form that URLs have', async (t) => {
  for (const [PORT, issuer] of [
    ['3000', 'http://localhost:3000'],
    ['80', 'http://localhost'],
    ['08000', 'http://localhost:8000'],
    ['0', 'http://localhost:0'],
  ] as const)
    t.match(readConfig({ PORT }), { ISSUER: issuer, RESOURCE: `${issuer}/api`, local: true })
})

t.test('SEC-08: every fault is told, by its setting, all in one message', async (t) => {
  const env = {
    ISSUER: 'http://as.test',
    PORT: 'x',
    SECRET: 'demo-secret-do-not-ship',
    SCOPES: '[',
    SIGN_IN: 'development',
    LOG_LEVEL: 'loud',
    CLOCK_SKEW_SECONDS: '301',
  }
  t.throws(() => readConfig(env), {
    message:
      /^These settings cannot be used:\n {2}- PORT: Expected a whole number, without unit or spaces\n(.*\n)+.*$/,
  })
  t.same(faults(env), [
    'PORT: Expected a whole number, without unit or spaces',
    'SCOPES: Expected a JSON object: this is not JSON, or has quotes around it',
    'CLOCK_SKEW_SECONDS: Expected integer to be less or equal to 300',
    'LOG_LEVEL: Expected one of trace, debug, info, warn, error, fatal, silent',
    'ISSUER: https is required off localhost',
    'SECRET: at least 32 random bytes in base64; make one with openssl rand -base64 32',
    'DATABASE_URL: required off localhost; the embedded Postgres is for trying things',
    'SIGN_IN: the development sign-in lets anyone in; only for an ISSUER on localhost',
  ])
  t.same(
    faults({ ISSUER: 'https://as.test' }).map((fault) => fault.split(':')[0]),
    ['SECRET', 'DATABASE_URL'],
    'secrets have no default off localhost',
  )
})

t.test('a DATABASE_URL that cannot be read is told without its password', async (t) => {
  const url = /^DATABASE_URL: not a URL; percent-encode .* port of at most 65535$/
  for (const [DATABASE_URL, fault] of [
    ['mysql://u:hunter2@db', 'DATABASE_URL: Expected a URL that begins with postgres://'],
    ['postgres://u:hunter2@[', url],
    ['postgres://u:hunter2#@db/x', url],
    ['postgres://u:12#hunter2@db/x', url],
    ['postgres://u:hunter2%ff@db/x', url],
    ['postgres://u:hunter2@db:99999/x', url],
    ['postgres://u:hunter2@db/x?port=99999', url],
    [
      'postgres://u:hunter2@db/x?sslrootcert=/no/such.crt',
      "DATABASE_URL: ENOENT: no such file or directory, open '/no/such.crt'",
    ],
  ] as const) {
    t.match(faults({ DATABASE_URL }), [fault], DATABASE_URL)
    t.notMatch(faults({ DATABASE_URL }).join(), 'hunter2')
  }
  for (const DATABASE_URL of [
    'postgres://u:hunter%232@db:5432/x?sslmode=verify-full',
    'postgresql://u@/x?host=/var/run/postgresql',
    'postgres:///x',
  ])
    t.same(faults({ DATABASE_URL }), [], DATABASE_URL)
})

t.test('a setting that has a form is told in words which', async (t) => {
  for (const [name, value, fault] of [
    ['BRAND_COLOR', 'navy', 'Expected a colour as #1a2b3c'],
    ['RESOURCE_NAME', ' ', 'Expected something other than spaces'],
    ['CLOCK_SKEW_SECONDS', '60s', 'Expected a whole number, without unit or spaces'],
    ['RATE_LIMITS', '[]', 'Expected a JSON object'],
    ['OIDC_PROVIDERS', '"[]"', 'Expected a JSON list: this is not JSON, or has quotes around it'],
    [
      'OTEL_EXPORTER_OTLP_ENDPOINT',
      'http://otel.test ',
      'Expected an http or https URL, without spaces',
    ],
  ] as const)
    t.same(faults({ [name]: value }), [`${name}: ${fault}`])
})

t.test('what cannot be used is refused, each by one fault', async (t) => {
  const long = '9'.repeat(400)
  const table: [keyof Config, ...string[]][] = [
    ['PORT', '65536', '-1', '1e3', '80.5', '0x50', ' 80', long, '8000/x', '8000@evil.test'],
    ['RESOURCE_NAME', 'x'.repeat(101), ' '],
    ['BRAND_NAME', ' '],
    ['DATA_DIR', ' '],
    ['RESOURCE_LOGO_URI', 'javascript:alert(1)', '/logo.png', ' https://x', 'https://x '],
    ['DATABASE_URL', 'mysql://x', 'localhost', ' postgres://x'],
    [
      'SCOPES',
      '{',
      'null',
      '[]',
      '"x"',
      '1',
      '{}',
      '{"a":""}',
      '{"a":1}',
      '{"a b":"x"}',
      '{"":"x"}',
    ],
    ['SCOPES', '{"a\\"b":"x"}', '{"é":"x"}', '{"a\\n":"x"}'],
    [
      'PRE_CLAIM_SCOPES',
      'api.read,',
      ',',
      'admin',
      'api.read api.write',
      'constructor',
      'toString',
    ],
    ['PRE_CLAIM_SCOPES', 'api.read,api.read', 'API.READ'],
    ['IDENTITY_TYPES', 'anonymous,x', 'Anonymous', 'anonymous,anonymous', ',anonymous'],
    ['SIGN_IN', 'magic', 'none,oidc'],
    ['SIGN_IN_MAX_AGE_SECONDS', '59', '43201'],
    ['TOKEN_SUBJECT', 'email', 'sign_in,user'],
    ['USER_CODE_TTL_SECONDS', '0', '601'],
    ['USER_CODE_MAX_TRIES', '0', '11', '5,5'],
    ['POLL_INTERVAL_SECONDS', '0', '61'],
    ['ASSERTION_TTL_SECONDS', '0', '31536001', 'NaN', 'Infinity'],
    ['LEGACY_REVOCATION', 'yes', '1', 'TRUE'],
    ['IDENTITY_ASSERTION_FIRST_CONTACT', 'trust'],
    ['TRUST_PROXY', 'true', 'abc', '1,2', '10.0.0.0/8,1', '-1', '1.5', '10.0.0.0/33', '10.0.0.0/0'],
    ['TRUST_PROXY', '999.1.1.1', '10.0.0.0/8/8', '::1/129', '10.0.0.0/', '10.0.0.0/+8', '/8', ' '],
    ['LOG_LEVEL', 'INFO', 'warning'],
    ['SECRET', 'short', ',', `${SECRET},`, `${SECRET},short`, 'A'.repeat(64), `"${SECRET}"`],
    [
      'SECRET',
      'change-me-'.repeat(6),
      'a passphrase of many words that is long enough for all of it',
    ],
    ['RESOURCE', 'x', '/api', '//api.test', 'https://', 'https://api.test/?', 'https://api.test?a'],
    ['RESOURCE', 'https://api.test/a%20b', 'https://api.test/caf%C3%A9'],
    [
      'RESOURCE',
      'https://api.test/#',
      'https://u:p@api.test',
      'https://@api.test',
      'https://api.test ',
    ],
    ['RESOURCE', 'http://api.test', 'urn:x', 'ftp://api.test', 'javascript:alert(1)'],
    [
      'RESOURCE',
      'http://localhost.evil.test',
      'http://localhost@evil.test',
      'http://127.0.0.1.evil.test',
    ],
    ['ISSUER', 'http://localhost/', 'http://localhost:80', 'http://LOCALHOST', 'http://127.1'],
  ]
  for (const [name, ...values] of table)
    for (const value of values) {
      const told = faults({ [name]: value }).map((fault) => fault.split(/[: ]/)[0])
      t.same([...new Set(told)], [name], `${name}=${value.slice(0, 50)}`)
    }
  t.same(
    faults({ ISSUER: 'https://as.test/t1', RESOURCE: 'https://as.test/t1', SECRET }),
    [
      'RESOURCE: must differ from ISSUER',
      'DATABASE_URL: required off localhost; the embedded Postgres is for trying things',
    ],
    '9068-05',
  )
})

t.test('8414-04, SEC-08: an issuer is an https URL in its one form', async (t) => {
  for (const ISSUER of [
    'https://as.test',
    'https://as.test:8443',
    'https://as.test/t1',
    'https://as.test/a/b-c_d.e~f',
    'https://xn--bcher-kva.example',
  ])
    t.same(faults({ ...PUBLIC, ISSUER }), [], ISSUER)

  const hint = (url: string) =>
    `ISSUER: write it without user, trailing slash, query or fragment: ${url}`
  const table: [string, string][] = [
    ['https://as.test/', hint('https://as.test')],
    ['https://as.test//', hint('https://as.test')],
    ['https://as.test/t1/', hint('https://as.test/t1')],
    ['https://AS.test', hint('https://as.test')],
    ['https://as.test:443', hint('https://as.test')],
    ['https://as.test?', hint('https://as.test')],
    ['https://as.test/?', hint('https://as.test')],
    ['https://as.test/#', hint('https://as.test')],
    ['https://as.test?a=b', hint('https://as.test')],
    ['https://user:hunter2@as.test', hint('https://as.test')],
    ['https://as.test/a/../b', hint('https://as.test/b')],
    [' https://as.test', hint('https://as.test')],
    ['https://bücher.example', hint('https://xn--bcher-kva.example')],
    ['https://as.test/:tenant', 'ISSUER: only letters, digits and . _ ~ - in its path'],
    ['https://as.test/*', 'ISSUER: only letters, digits and . _ ~ - in its path'],
    ['https://as.test/a%20b', 'ISSUER: only letters, digits and . _ ~ - in its path'],
    ['http://as.test', 'ISSUER: https is required off localhost'],
    ['http://0.0.0.0:8000', 'ISSUER: https is required off localhost'],
    ['http://localhost.evil.test', 'ISSUER: https is required off localhost'],
    ['http://evil.test#localhost', 'ISSUER: https is required off localhost'],
    ['ftp://localhost', 'ISSUER: https is required off localhost'],
    ['as.test', 'ISSUER: not a URL'],
    ['https://', 'ISSUER: not a URL'],
  ]
  for (const [ISSUER, fault] of table) t.same(faults({ ...PUBLIC, ISSUER }), [fault], ISSUER)
})

t.test('this machine goes by many names', async (t) => {
  for (const ISSUER of [
    'http://localhost',
    'http://as.localhost:8000',
    'http://127.0.0.1:8000',
    'http://127.9.9.9',
    'http://[::1]:8000',
    'https://localhost',
  ])
    t.match(readConfig({ ISSUER }), { local: true, SIGN_IN: 'development' }, ISSUER)
})

t.test('the secret of a local server is made once and kept for its owner', async (t) => {
  const dataDir = join(t.testdir(), 'data')
  const path = join(dataDir, 'secret')
  const secret = localSecret(dataDir)
  t.equal(secret.length, 32)
  t.same(faults({ SECRET: secret.toString('base64') }), [])
  t.equal(fs.statSync(path).mode & 0o777, 0o600, 'SEC-04')
  t.same(fs.readdirSync(dataDir), ['secret'], 'no draft is left')
  t.same(localSecret(dataDir), secret)

  t.test('a draft that a kill has left behind does not change it', async (t) => {
    const draft = `${path}.${process.pid}`
    fs.linkSync(path, draft)
    t.same(localSecret(dataDir), secret)
    fs.rmSync(draft)
  })

  t.test('a damaged one is not taken for a secret', async (t) => {
    for (const text of ['', 'x', secret.subarray(1).toString('base64')]) {
      fs.writeFileSync(path, text)
      t.throws(() => localSecret(dataDir), { message: /secret is damaged/ })
      t.equal(fs.readFileSync(path, 'utf8'), text, 'and is left as it is')
    }
  })

  t.test('one that leads nowhere is not made up for', async (t) => {
    fs.rmSync(path)
    fs.symlinkSync(join(dataDir, 'nowhere'), path)
    t.throws(() => localSecret(dataDir), { cause: { code: 'ENOENT', path } })
    t.same(fs.readdirSync(dataDir), ['secret'])
  })

  t.test('a folder that cannot be written to is an error', async (t) => {
    const file = join(fs.mkdtempSync(join(tmpdir(), 'secret-')), 'file')
    fs.writeFileSync(file, '')
    t.throws(() => localSecret(file), {
      message: `SECRET is not set, and none can be kept in DATA_DIR (${file}): EEXIST: file already exists, mkdir '${file}'`,
      cause: { code: 'EEXIST' },
    })
    fs.rmSync(join(file, '..'), { recursive: true })
  })
})
