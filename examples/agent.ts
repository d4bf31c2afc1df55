/** A small agent that walks auth.md from a bare 401 to a revoked token, and shows every message. */
import { setTimeout as sleep } from 'node:timers/promises'
import { bold, Declined, heading, isJson, printable, Problem, safe } from './http.js'
import { send, showAnswer, success, text, type Json } from './http.js'
import { HELP, Misused, readOptions, type Options } from './options.js'
import { register } from './register.js'

const RESOURCE_METADATA = '/.well-known/oauth-protected-resource'
const JWT_BEARER = 'urn:ietf:params:oauth:grant-type:jwt-bearer'
const CLAIM = 'urn:workos:agent-auth:grant-type:claim'

type Service = Awaited<ReturnType<typeof discover>>

async function run(options: Options): Promise<void> {
  const service = await discover(options)
  const registration = await register(service, options)
  let token: string | undefined
  if (typeof registration.identity_assertion === 'string') {
    token = await exchange(service, registration.identity_assertion)
    await callApi(service, token)
  }
  if (isJson(registration.claim) || options.hint) {
    const claimToken = text(registration, 'claim_token')
    const ceremony = isJson(registration.claim)
      ? registration.claim
      : await startCeremony(service, claimToken, options)
    showPerson(ceremony)
    if (options['no-wait']) return
    const granted = await waitForPerson(service, claimToken, ceremony, options)
    await callApi(service, text(granted, 'access_token'))
    token = await exchange(service, text(granted, 'identity_assertion'))
  } else if (options.provider) console.log('  The provider vouched: nobody had to confirm.')
  else console.log('  Nobody was asked to confirm this agent: --hint ADDR does that.')
  if (options.revoke && token) await revoke(service, token)
}

/** RFC 9728 §5 leads from the API's 401 to the authorization server, RFC 8414 §3 to its endpoints. */
async function discover({ issuer, api: given }: Options) {
  heading('Discover the authorization server from the API')
  const guess = new URL(RESOURCE_METADATA, safe(given ?? issuer)).href
  const api = given ?? `${stem(text(await metadata(guess, ['resource']), 'resource'))}/resource`
  const challenge = (await send('GET', api)).headers.get('www-authenticate') ?? ''
  const challenged = /\bresource_metadata="([^"]+)"/i.exec(challenge)?.[1]
  const described = await metadata(challenged ?? guess, ['resource', 'authorization_servers'])

  // Otherwise any API could make this agent fetch a token for another API, and keep it.
  const resource = text(described, 'resource')
  if (!`${safe(api).href}/`.startsWith(`${stem(safe(resource).href)}/`)) {
    throw new Problem(`The metadata is about ${resource}, which ${api} is not part of.`)
  }
  const server = String([described.authorization_servers].flat()[0])
  const { origin, pathname } = safe(server)
  const url = `${origin}/.well-known/oauth-authorization-server${stem(pathname)}`
  const found = await metadata(url, ['issuer', 'token_endpoint', 'agent_auth'])
  if (found.issuer !== server) throw new Problem(`The issuer is not ${server}.`)
  if (!isJson(found.agent_auth))
    throw new Problem('There is no agent_auth: agents cannot register.')
  return {
    api,
    resource,
    issuer: server,
    assertionTypes: assertionTypes(found.agent_auth),
    identityEndpoint: text(found.agent_auth, 'identity_endpoint'),
    claimEndpoint: text(found.agent_auth, 'claim_endpoint'),
    tokenEndpoint: text(found, 'token_endpoint'),
    revocationEndpoint: found.revocation_endpoint,
  }
}

function assertionTypes({ identity_assertion }: Json): unknown[] {
  return [isJson(identity_assertion) ? identity_assertion.assertion_types_supported : []].flat()
}

async function metadata(url: string, show: string[]): Promise<Json> {
  return success(await send('GET', url, { show }), `read ${url}`)
}

/** RFC 7523 §2.1, with the resource of RFC 8707 §2. */
async function exchange(service: Service, assertion: string): Promise<string> {
  heading('Exchange the identity assertion for an access token')
  const form = { grant_type: JWT_BEARER, assertion, resource: service.resource }
  const answer = await send('POST', service.tokenEndpoint, { form })
  return text(success(answer, 'exchange the assertion'), 'access_token')
}

async function callApi({ api }: Service, token: string): Promise<void> {
  heading('Call the API')
  success(await send('GET', api, { token }), 'read from the API')
  const written = await send('POST', api, { token, json: { note: 'Hello from an agent' } })
  const refusal = `${written.body.error} ${written.headers.get('www-authenticate')}`
  if (written.status === 403 && refusal.includes('insufficient_scope')) {
    console.log('  Writing needs a scope that this token does not carry.')
  } else success(written, 'write to the API')
}

/** Starts or renews the ceremony: an older link and code die. A person named by a provider is not named again. */
async function startCeremony(service: Service, claim_token: string, options: Options) {
  heading('Ask for a link and a code for the person')
  const login_hint = options.provider ? undefined : (options.hint ?? options.email)
  const json = { claim_token, ...(login_hint && { type: 'login_hint', login_hint }) }
  const answer = await send('POST', service.claimEndpoint, { json })
  const { claim_attempt } = success(answer, 'start the claim')
  if (isJson(claim_attempt)) return claim_attempt
  throw new Problem('The answer has no claim_attempt.')
}

/** Without side borders: the link has to stay whole when the terminal wraps it. */
function showPerson(ceremony: Json): void {
  const rule = '━'.repeat(80)
  const link = safe(text(ceremony, 'verification_uri')).href
  const code = printable(text(ceremony, 'user_code'))
  const minutes = Math.round(seconds(ceremony.expires_in, 600) / 60)
  console.log(`\n${rule}\n\n  To let this agent act for you, open this link and sign in:\n`)
  console.log(
    `  ${bold(link)}\n\n  Then type this code, within ${minutes} minutes:   ${bold(code)}`,
  )
  console.log(`\n${rule}`)
}

/** Polls as in RFC 8628 §3.5 until the person has decided; a code that lapses is renewed once. */
async function waitForPerson(service: Service, token: string, ceremony: Json, options: Options) {
  heading('Wait for the person')
  const form = { grant_type: CLAIM, claim_token: token }
  let interval = seconds(ceremony.interval, 5)
  for (let quiet = false, renewed = false; ; quiet = true) {
    await sleep(interval * 1000)
    const answer = await send('POST', service.tokenEndpoint, { form, quiet })
    if (answer.status === 200 && quiet) showAnswer(answer)
    if (answer.status === 200) return answer.body
    switch (answer.body.error) {
      case 'authorization_pending':
        break
      case 'slow_down':
        interval += 5
        break
      case 'access_denied':
        throw new Declined('Declined: the person said no, or the registration was revoked.')
      case 'expired_token':
        if (renewed) throw new Problem('Nobody confirmed in time. Run this again when someone can.')
        renewed = true
        showPerson(await startCeremony(service, token, options))
        break
      default:
        success(answer, 'collect the claim')
    }
    console.log(`  ${String(answer.body.error)}: asking again in ${interval} s`)
  }
}

/** RFC 7009 §2.1. */
async function revoke(service: Service, token: string): Promise<void> {
  heading('Revoke the access token')
  const form = { token, token_type_hint: 'access_token' }
  const url = text(service, 'revocationEndpoint')
  success(await send('POST', url, { form }), 'revoke the token')
  const { status } = await send('GET', service.api, { token })
  if (status !== 401) throw new Problem(`The revoked token still gets ${status} from the API.`)
  console.log('  The token is dead.')
}

const stem = (url: string) => url.replace(/\/$/, '')
const seconds = (value: unknown, otherwise: number) =>
  typeof value === 'number' && value >= 1 ? value : otherwise

try {
  const options = readOptions()
  if (options.help) console.log(HELP)
  else await run(options)
} catch (error) {
  if (error instanceof Misused) console.error(`${error.message}\n\n${HELP}`)
  else if (error instanceof Problem) console.error(`\n${printable(error.message)}`)
  else throw error
  process.exitCode = error instanceof Declined ? 2 : 1
}
