/** Claims of what providers push: one that is valid, and one change per row. */
import { test } from 'tap'
import type { Issuer } from '../../src/domain/issuer.js'
import {
  checkLogoutToken,
  checkSecurityEvent,
  REVOKED_EVENT,
} from '../../src/domain/security-event.js'

const NOW = new Date('2026-03-01T12:00:00Z')
const now = NOW.getTime() / 1000
const SETTINGS = { issuer: 'https://as.test', skewSeconds: 60 }
const P: Issuer = {
  issuer: 'https://idp.test',
  name: 'Provider',
  jwks_uri: 'https://idp.test/jwks.json',
  client_ids: [],
  algorithms: ['ES256'],
  email_domains: [],
  audiences: [],
  required_amr: [],
  multi_tenant: false,
}
const OIDC_LOGOUT = 'http://schemas.openid.net/event/backchannel-logout'
const CLAIMS = {
  iss: P.issuer,
  aud: SETTINGS.issuer,
  sub: 'alice',
  iat: now,
  jti: 'j1',
  events: { [REVOKED_EVENT]: {} },
}

type Members = Record<string, unknown>

function check(
  how: typeof checkSecurityEvent,
  typ: unknown,
  changes: Members,
  entry: Partial<Issuer> = {},
) {
  const payload = { ...CLAIMS, ...changes } as Members
  for (const [name, value] of Object.entries(payload)) if (value === undefined) delete payload[name]
  const jwt = { header: { typ }, payload, signature: undefined }
  const checked = how(jwt, { ...P, ...entry }, SETTINGS, NOW)
  return checked.ok ? checked.event : checked.reason
}

const event = (changes: Members, entry: Partial<Issuer> = {}) =>
  check(checkSecurityEvent, 'secevent+jwt', changes, entry)
const logout = (changes: Members, entry: Partial<Issuer> = {}) =>
  check(checkLogoutToken, 'logout+jwt', changes, entry)

const show = (changes: Members) => {
  const text = JSON.stringify(changes, (_, value) => (value === undefined ? 'missing' : value))
  return text.length > 80 ? `${text.slice(0, 80)}…` : text
}

const REVOKES = { subject: 'alice', jti: 'j1', revoked: true }

test('8417-05, BCL-05, B91: each kind has its typ, and is nothing under another', (t) => {
  for (const typ of ['secevent+jwt', 'application/secevent+jwt', 'SecEvent+JWT'])
    t.same(check(checkSecurityEvent, typ, {}), REVOKES, typ)
  for (const typ of ['logout+jwt', 'application/logout+jwt', 'LOGOUT+jwt'])
    t.same(check(checkLogoutToken, typ, {}), REVOKES, typ)
  const others = [undefined, null, '', 'JWT', 'oauth-id-jag+jwt', 'at+jwt', ['secevent+jwt'], 1]
  for (const typ of [...others, 'logout+jwt'])
    t.equal(check(checkSecurityEvent, typ, {}), 'invalid_request', show({ typ }))
  for (const typ of [...others, 'secevent+jwt'])
    t.equal(check(checkLogoutToken, typ, {}), 'invalid_request', show({ typ }))
  t.end()
})

test('8417-01, 8417-02, 8417-03, 8417-04, 8417-05, 8417-06, 8417-07, 8417-08, BCL-02, B85, B89, B90: the claims of both kinds', (t) => {
  const accepted: Members[] = [
    {},
    { aud: [SETTINGS.issuer] },
    { aud: ['https://other.test', SETTINGS.issuer] },
    { iat: now + 60 },
    { iat: now - 179.5 },
    { nbf: now + 60 },
    { nbf: 0 },
    { exp: now - 59.5 },
    { exp: now + 1e9 },
    { events: { [REVOKED_EVENT]: { reason: 'left' } } },
    { events: { [REVOKED_EVENT]: {}, 'https://x.test/event': {} } },
    { sub_id: { format: 'iss_sub', iss: 'https://x.test', sub: 'root' } },
    { txn: 'x', toe: now, sid: 's' },
  ]
  const noNames = [undefined, null, '', 42, ['x'], {}, 'x'.repeat(256), 'a\0b', '\uD800']
  const noDates = [null, `${now}`, Infinity, NaN, -1, true, [now]]
  const refused: Members[] = [
    ...[undefined, null, 'https://idp.test/', SETTINGS.issuer, [P.issuer]].map((iss) => ({ iss })),
    ...noNames.map((jti) => ({ jti })),
    ...noNames.map((sub) => ({ sub })),
    { sub: undefined, sub_id: { format: 'iss_sub', iss: P.issuer, sub: 'alice' } },
    { sub: undefined, sid: 's' },
    ...[undefined, ...noDates].map((iat) => ({ iat })),
    { iat: now + 60.5 },
    { iat: now + 3600 },
    ...noDates.map((nbf) => ({ nbf })),
    { nbf: now + 60.5 },
    ...noDates.map((exp) => ({ exp })),
    { exp: now - 60 },
    { exp: 0 },
    ...[undefined, null, {}, [], [REVOKED_EVENT], [{}], REVOKED_EVENT, 1, true].map((events) => ({
      events,
    })),
    ...[null, '', 'x', 1, true, []].map((member) => ({ events: { [REVOKED_EVENT]: member } })),
    { events: { [REVOKED_EVENT]: {}, 'https://x.test/event': 'x' } },
    { events: JSON.parse('{"__proto__":"x"}') },
  ]
  const audiences = [
    undefined,
    null,
    '',
    1,
    {},
    [],
    'https://as.test/',
    'https://other.test',
    ['https://other.test'],
    [[SETTINGS.issuer]],
    [SETTINGS.issuer, 1],
  ]
  for (const how of [event, logout]) {
    for (const changes of accepted) t.same(how(changes), REVOKES, show(changes))
    for (const changes of refused) t.equal(how(changes), 'invalid_request', show(changes))
    for (const aud of audiences) t.equal(how({ aud }), 'invalid_audience', show({ aud }))
  }
  t.end()
})

test('8417-03, BCL-04: an unknown event is nothing to us, and no logout', (t) => {
  for (const uri of ['https://x.test/event', OIDC_LOGOUT, `${REVOKED_EVENT}/`, 'constructor', '']) {
    const events = { [uri]: {} }
    t.same(event({ events }), { ...REVOKES, revoked: false }, uri)
    t.equal(logout({ events }), 'invalid_request', uri)
    t.same(logout({ events: { ...events, [REVOKED_EVENT]: {} } }), REVOKES, uri)
  }
  const inherited = JSON.parse(`{"__proto__":{"${REVOKED_EVENT}":{}}}`)
  t.same(event({ events: inherited }), { ...REVOKES, revoked: false })
  t.end()
})

test('8417-08, BCL-06: history still revokes; a logout without exp has to be fresh', (t) => {
  for (const iat of [0, now - 1e6]) {
    t.same(event({ iat }), REVOKES)
    t.equal(logout({ iat }), 'invalid_request')
    t.same(logout({ iat, exp: now }), REVOKES, 'exp says how long')
  }
  t.same(logout({ iat: now - 180 }), REVOKES)
  t.equal(logout({ iat: now - 180.5 }), 'invalid_request')
  t.end()
})

test('BCL-03, B91: a logout token with a nonce is an ID token in disguise', (t) => {
  for (const nonce of ['n', '', null, 0]) t.equal(logout({ nonce }), 'invalid_request')
  t.same(event({ nonce: 'n' }), REVOKES)
  t.end()
})

test('IDJ-14: the subject of a multi-tenant issuer is found by its tenant', (t) => {
  const many = { multi_tenant: true }
  for (const how of [event, logout]) {
    t.same(how({ tenant: 't' }, many), { ...REVOKES, subject: '["t","alice"]' })
    t.equal(how({}, many), 'invalid_request')
    t.equal(how({ tenant: '' }, many), 'invalid_request')
    t.same(how({ tenant: 't' }), REVOKES)
  }
  t.end()
})
