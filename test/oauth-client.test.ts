/** oauth4webapi, a client that knows the RFCs and nothing of us, finds its way and gets what it asks for. */
import * as oauth from 'oauth4webapi'
import { test, type Test } from 'tap'
import { hashSecret, newId, newSecret } from '../src/domain/secrets.js'
import { insertResourceServer } from '../src/repositories/resource-servers.js'
import { ISSUER, linkToken, registerAnonymous, RESOURCE, testApp } from './fixtures/app.js'
import { Person } from './fixtures/person.js'
import { listening } from './fixtures/wire.js'

const JWT_BEARER = 'urn:ietf:params:oauth:grant-type:jwt-bearer'
const CLAIM = 'urn:workos:agent-auth:grant-type:claim'
const FULL_SCOPE = 'api.read api.write'

/** A server, what oauth4webapi found out about it, and how to ask it. */
async function discovered(t: Test) {
  const { app } = await testApp(t)
  const server = await listening(app)
  const http = {
    [oauth.allowInsecureRequests]: true,
    // It listens on a port that was free; its name is the issuer's.
    [oauth.customFetch]: (url: string, options: object) =>
      fetch(url.replace(ISSUER, server.url), options),
  } as const
  const resource = new URL(RESOURCE)
  const described = await oauth.processResourceDiscoveryResponse(
    resource,
    await oauth.resourceDiscoveryRequest(resource, http),
  )
  const issuer = new URL(described.authorization_servers![0]!)
  const as = await oauth.processDiscoveryResponse(
    issuer,
    await oauth.discoveryRequest(issuer, { algorithm: 'oauth2', ...http }),
  )

  const grant = async (client_id: string, type: string, parameters: Record<string, string>) => {
    const client = { client_id }
    const none = oauth.None()
    const asked = oauth.genericTokenEndpointRequest(as, client, none, type, parameters, http)
    return oauth.processGenericTokenEndpointResponse(as, client, await asked)
  }
  const revoke = async (client_id: string, token: string) =>
    oauth.processRevocationResponse(
      await oauth.revocationRequest(as, { client_id }, oauth.None(), token, http),
    )
  const call = (token: string, method: 'GET' | 'POST') =>
    oauth.protectedResourceRequest(
      token,
      method,
      new URL(`${RESOURCE}/resource`),
      undefined,
      null,
      http,
    )

  const [id, secret] = [newId('rs_'), newSecret('rss_')]
  await insertResourceServer(app.db, { id, name: 'an API', secret_hash: hashSecret(secret) })
  const introspect = async (token: string, as_: string = secret) => {
    const client = { client_id: id }
    const basic = oauth.ClientSecretBasic(as_)
    const answer = await oauth.introspectionRequest(as, client, basic, token, http)
    return oauth.processIntrospectionResponse(as, client, answer)
  }
  /** As a resource server checks it: RFC 9068 and our published keys. */
  const verify = (token: string) => {
    const request = new Request(RESOURCE, { headers: { authorization: `Bearer ${token}` } })
    return oauth.validateJwtAccessToken(as, request, RESOURCE, http)
  }
  return { server, as, described, grant, revoke, call, introspect, verify }
}

test('it discovers the protected resource and its authorization server', async (t) => {
  const { as, described } = await discovered(t)
  t.match(described, { resource: RESOURCE, authorization_servers: [ISSUER] })
  t.match(as, {
    issuer: ISSUER,
    token_endpoint: `${ISSUER}/oauth2/token`,
    grant_types_supported: [JWT_BEARER, CLAIM],
  })
})

test('it exchanges an assertion, calls the API, and has the token introspected and revoked', async (t) => {
  const { server, grant, call, introspect, verify, revoke } = await discovered(t)
  const { registration_id: id, identity_assertion } = await registerAnonymous(server)
  const granted = await grant(id, JWT_BEARER, { assertion: identity_assertion })
  t.match(granted, { token_type: 'bearer', expires_in: 3600, scope: 'api.read' })
  const token = granted.access_token

  t.match(await verify(token), { iss: ISSUER, aud: RESOURCE, client_id: id, sub: id })
  t.equal((await call(token, 'GET')).status, 200)
  await t.rejects(call(token, 'POST'), {
    status: 403,
    cause: [{ scheme: 'bearer', parameters: { error: 'insufficient_scope', scope: 'api.write' } }],
  })
  t.match(await introspect(token), { active: true, client_id: id, scope: 'api.read' })
  await t.rejects(introspect(token, 'wrong'), {
    status: 401,
    cause: [{ scheme: 'basic', parameters: { realm: /./ } }],
  })

  await revoke(id, token)
  t.same(await introspect(token), { active: false })
  await t.rejects(call(token, 'GET'), {
    status: 401,
    cause: [
      { scheme: 'bearer', parameters: { error: 'invalid_token', resource_metadata: /^http/ } },
    ],
  })
  const next = await grant(id, JWT_BEARER, { assertion: identity_assertion, scope: 'api.read' })
  await revoke(id, identity_assertion)
  t.same(await introspect(next.access_token), { active: false })
  await t.rejects(grant(id, JWT_BEARER, { assertion: identity_assertion }), {
    cause: { error: 'invalid_grant' },
  })
})

test('it polls with the claim token until the person has confirmed', async (t) => {
  const { server, grant, call, verify } = await discovered(t)
  const answer = await server.inject({
    method: 'POST',
    url: '/agent/identity',
    payload: { type: 'service_auth', login_hint: 'alice@example.com' },
  })
  const { registration_id: id, claim_token, claim } = answer.json()
  await t.rejects(grant(id, CLAIM, { claim_token }), { cause: { error: 'authorization_pending' } })
  await t.rejects(grant(id, CLAIM, { claim_token }), { cause: { error: 'slow_down' } })

  const alice = await Person.signedIn(server, 'alice@example.com')
  t.equal((await alice.confirm(linkToken(claim), claim.user_code)).statusCode, 303)
  const granted = await grant(id, CLAIM, { claim_token })
  t.match(granted, { token_type: 'bearer', scope: FULL_SCOPE, identity_assertion: /^ey/ })
  t.match(await verify(granted.access_token), { sub: /^user_/, scope: FULL_SCOPE })
  t.equal((await call(granted.access_token, 'POST')).status, 200)

  const assertion = String(granted.identity_assertion)
  const again = await grant(id, JWT_BEARER, { assertion, resource: RESOURCE })
  t.match(again, { scope: FULL_SCOPE, resource: RESOURCE })
  await t.rejects(grant(id, JWT_BEARER, { assertion, resource: 'https://else.example' }), {
    cause: { error: 'invalid_target' },
  })
  await t.rejects(grant(id, 'password', {}), { cause: { error: 'unsupported_grant_type' } })
})
