/** What may be put on the trust list. */
import { test } from 'tap'
import { canonicalDomain, issuerFaults, type Issuer } from '../../src/domain/issuer.js'
import { isName } from '../../src/domain/jwt.js'

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

test('an entry of the trust list is looked at before it is one', (t) => {
  const own = { issuer: 'https://as.test', local: false }
  const faults = (changes: Partial<Issuer>, local = false) =>
    issuerFaults({ ...P, ...changes }, { ...own, local }).length
  const good: Partial<Issuer>[] = [
    {},
    { issuer: 'https://idp.test/tenant/' },
    { issuer: 'https://idp.test:8443' },
    { jwks_uri: 'https://keys.test/?v=1' },
    { name: 'x'.repeat(100) },
    { algorithms: ['RS256', 'ES256', 'EdDSA'] },
    { email_domains: ['example.com', 'xn--bcher-kva.example'] },
    { audiences: ['https://old.test', 'urn:example:api'] },
    { client_ids: ['agent'], required_amr: ['mfa'] },
  ]
  const bad: Partial<Issuer>[] = [
    { issuer: own.issuer },
    { issuer: 'idp.test' },
    { issuer: '' },
    { issuer: 'https://' },
    { issuer: 'https:idp.test' },
    { issuer: 'https:\\\\idp.test' },
    { issuer: 'http://idp.test' },
    { issuer: 'http://localhost' },
    { issuer: 'ftp://idp.test' },
    { issuer: 'https://idp.test?x=1' },
    { issuer: 'https://idp.test?' },
    { issuer: 'https://idp.test#x' },
    { issuer: 'https://idp.test#' },
    { issuer: 'https://user@idp.test' },
    { issuer: 'https://:secret@idp.test' },
    { issuer: ' https://idp.test' },
    { issuer: 'https://idp.test\n' },
    { issuer: `https://idp.test/${'x'.repeat(240)}` },
    { jwks_uri: 'http://idp.test/jwks.json' },
    { jwks_uri: 'file:///etc/passwd' },
    { jwks_uri: 'jwks.json' },
    { jwks_uri: 'https://idp.test/#x' },
    { jwks_uri: 'https://idp.test/?v=1#x' },
    { jwks_uri: 'https://user:secret@idp.test/' },
    { name: ' ' },
    { name: 'x'.repeat(101) },
    { algorithms: ['ES256', 'HS256', 'none'] },
    { algorithms: ['es256'] },
    { email_domains: ['example.com', 'Example.com'] },
    { email_domains: ['bücher.example'] },
    { email_domains: ['@example.com'] },
    { email_domains: ['*.example.com'] },
    { email_domains: [''] },
    { audiences: ['api'] },
    { client_ids: ['agent', ' '] },
    { required_amr: [''] },
  ]
  for (const changes of good) t.equal(faults(changes), 0, JSON.stringify(changes))
  for (const changes of bad) t.equal(faults(changes), 1, JSON.stringify(changes))
  t.equal(faults({ issuer: 'http://localhost:9000', jwks_uri: 'http://127.0.0.1:9000/' }, true), 0)
  t.equal(faults({ issuer: 'ftp://localhost' }, true), 1)
  t.ok(isName(`https://idp.test/${'x'.repeat(238)}`), 'the longest issuer')
  t.end()
})

test('a domain is compared in the one form that addresses have', (t) => {
  t.equal(canonicalDomain('Example.COM'), 'example.com')
  t.equal(canonicalDomain('bücher.example'), 'xn--bcher-kva.example')
  for (const domain of [
    '',
    'localhost',
    'a@example.com',
    '*.example.com',
    'example.com/',
    '127.0.0.1',
  ])
    t.equal(canonicalDomain(domain), undefined, domain)
  t.end()
})
