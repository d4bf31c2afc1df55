/** The settings of the sign-in, and of what the API learns of it. */
import t from 'tap'
import { readConfig } from '../src/config.js'
import { faults, PUBLIC } from './fixtures/settings.js'

const IDP = 'https://idp.test'
const OTHER = 'https://other.test/t1'
/** The value of OIDC_PROVIDERS for these issuers, each with these members changed. */
const providers = (issuers: string[], more: object = {}) =>
  JSON.stringify(issuers.map((issuer) => ({ name: 'Acme', issuer, client_id: 'r', ...more })))

t.test('people sign in at the providers that are given, and else where nobody is', async (t) => {
  const one = { OIDC_ISSUER: IDP, OIDC_CLIENT_ID: 'r' }
  const provider = { name: 'idp.test', issuer: IDP, client_id: 'r' }
  t.match(readConfig({ ...PUBLIC, ...one }), { SIGN_IN: 'oidc', oidcProviders: [provider] })
  t.same(readConfig({ ...one, OIDC_CLIENT_SECRET: 's' }).oidcProviders, [
    { ...provider, client_secret: 's' },
  ])
  const two = { OIDC_PROVIDERS: providers([IDP, OTHER], { client_secret: 's' }) }
  for (const env of [two, { ...PUBLIC, ...two }])
    t.match(readConfig(env), {
      SIGN_IN: 'oidc',
      oidcProviders: [IDP, OTHER].map((issuer) => ({ name: 'Acme', issuer, client_secret: 's' })),
    })
  t.match(readConfig({ ...one, SIGN_IN: 'development' }), { SIGN_IN: 'development' })
  t.match(readConfig({ ...PUBLIC, ...one, SIGN_IN: 'none' }), { SIGN_IN: 'none' })
  const local = { OIDC_CLIENT_ID: 'r', OIDC_ISSUER: 'http://localhost:9000' }
  t.match(readConfig(local), { SIGN_IN: 'oidc', oidcProviders: [{ name: 'localhost' }] })
})

t.test(
  'providers that nobody could sign in at are refused, without a word of secrets',
  async (t) => {
    const url = 'an absolute URL without user, query or fragment'
    const table: [env: NodeJS.ProcessEnv, ...faults: string[]][] = [
      [{ SIGN_IN: 'oidc' }, 'OIDC_ISSUER or OIDC_PROVIDERS: required for SIGN_IN=oidc'],
      [{ OIDC_PROVIDERS: '[]' }, 'OIDC_ISSUER or OIDC_PROVIDERS: required for SIGN_IN=oidc'],
      [{ OIDC_ISSUER: IDP }, 'OIDC_CLIENT_ID: required with OIDC_ISSUER'],
      [{ OIDC_CLIENT_ID: 'r' }, 'OIDC_ISSUER: required with OIDC_CLIENT_ID and OIDC_CLIENT_SECRET'],
      [
        { OIDC_CLIENT_SECRET: 'hunter2', OIDC_PROVIDERS: providers([IDP]) },
        'OIDC_ISSUER: required with OIDC_CLIENT_ID and OIDC_CLIENT_SECRET',
      ],
      [
        { OIDC_ISSUER: IDP, OIDC_CLIENT_ID: 'r', OIDC_PROVIDERS: providers([OTHER]) },
        'OIDC_ISSUER: not together with OIDC_PROVIDERS, which lists every provider',
      ],
      [
        { OIDC_PROVIDERS: providers([IDP, OTHER, IDP]) },
        'OIDC_PROVIDERS: an issuer is there twice',
      ],
      [
        { OIDC_PROVIDERS: '{' },
        'OIDC_PROVIDERS: Expected a JSON list: this is not JSON, or has quotes around it',
      ],
      [{ OIDC_PROVIDERS: 'null' }, 'OIDC_PROVIDERS: Expected a JSON list'],
      [{ OIDC_PROVIDERS: '{}', TOKEN_SUBJECT: 'sign_in' }, 'OIDC_PROVIDERS: Expected a JSON list'],
      [
        { OIDC_PROVIDERS: providers([IDP], { client_secret: 'hunter2', secret: 'hunter2' }) },
        'OIDC_PROVIDERS item 0/secret: Unexpected property',
      ],
      [
        { OIDC_PROVIDERS: providers([IDP], { client_id: '' }) },
        'OIDC_PROVIDERS item 0/client_id: Expected string length greater or equal to 1',
      ],
      [
        { OIDC_PROVIDERS: providers([IDP, 'http://idp.test']) },
        'OIDC_PROVIDERS item 1/issuer: https is required off localhost',
      ],
      ...[
        'x',
        '/idp',
        'https://',
        `${IDP}?`,
        `${IDP}#a`,
        `${IDP} `,
        'https://u:hunter2@idp.test',
      ].map((OIDC_ISSUER): [NodeJS.ProcessEnv, string] => [
        { OIDC_ISSUER, OIDC_CLIENT_ID: 'r' },
        `OIDC_ISSUER: ${url}`,
      ]),
      ...['http://idp.test', 'ftp://idp.test', 'http://localhost.idp.test', 'urn:idp'].map(
        (OIDC_ISSUER): [NodeJS.ProcessEnv, string] => [
          { OIDC_ISSUER, OIDC_CLIENT_ID: 'r' },
          'OIDC_ISSUER: https is required off localhost',
        ],
      ),
      ...['http://localhost:8000', 'http://localhost:8000/', 'http://LOCALHOST:8000'].map(
        (OIDC_ISSUER): [NodeJS.ProcessEnv, string] => [
          { OIDC_ISSUER, OIDC_CLIENT_ID: 'r' },
          'OIDC_ISSUER: must not be our own ISSUER',
        ],
      ),
    ]
    for (const [env, ...told] of table) {
      t.same(faults(env), told, JSON.stringify(env))
      t.notMatch(faults(env).join(), 'hunter2')
    }
    const local = { ...PUBLIC, OIDC_ISSUER: 'http://localhost:9000', OIDC_CLIENT_ID: 'r' }
    t.same(faults(local), ['OIDC_ISSUER: https is required off localhost'])
  },
)

t.test('the subject of a sign-in is one only while there is one provider', async (t) => {
  const fault = 'TOKEN_SUBJECT: sign_in needs one provider that people sign in with'
  const env = { TOKEN_SUBJECT: 'sign_in' }
  const two = { OIDC_PROVIDERS: providers([IDP, OTHER]) }
  t.same(faults({ ...env, OIDC_PROVIDERS: providers([IDP]) }), [])
  t.same(faults(env), [])
  t.same(faults({ ...env, ...two, SIGN_IN: 'development' }), [])
  t.same(faults({ ...env, ...two }), [fault])
  t.same(faults({ ...env, SIGN_IN: 'none' }), [fault])
  t.same(faults({ ...env, ...PUBLIC }), [fault])
})
