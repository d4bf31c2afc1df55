/** How the example agent registers. The answer has an `identity_assertion` to exchange, or a `claim` to confirm. */
import { heading, Problem, send, success, text, type Json } from './http.js'
import type { Options } from './options.js'

const ID_JAG = 'urn:ietf:params:oauth:token-type:id-jag'

interface Service {
  issuer: string
  identityEndpoint: string
  assertionTypes: unknown[]
}

export async function register(service: Service, options: Options): Promise<Json> {
  const { email, provider } = options
  if (provider && email) return registerWithProvider(service, provider, email)
  heading(email ? `Register for ${email}` : 'Register anonymously')
  const json = email ? { type: 'service_auth', login_hint: email } : { type: 'anonymous' }
  return success(await send('POST', service.identityEndpoint, { json }), 'register')
}

async function registerWithProvider(
  service: Service,
  provider: string,
  email: string,
): Promise<Json> {
  if (!service.assertionTypes.includes(ID_JAG))
    throw new Problem('This service takes no ID-JAGs: run this again without --provider.')
  heading(`Have the provider vouch for ${email}`)
  const asked = { json: { email, audience: service.issuer }, start: 'npm run provider' }
  const minted = await send('POST', `${provider.replace(/\/$/, '')}/id-jag`, asked)
  const assertion = text(success(minted, 'get an ID-JAG'), 'assertion')

  heading('Register with the ID-JAG')
  const json = { type: 'identity_assertion', assertion_type: ID_JAG, assertion }
  const answer = await send('POST', service.identityEndpoint, { json })
  switch (answer.status === 401 ? answer.body.error : undefined) {
    case 'interaction_required':
      return answer.body
    case 'login_required':
      throw new Problem(
        `The person has to sign in at ${provider} again, at most ${String(answer.body.max_age)} s before it signs. Then run this again.`,
      )
    default:
      return success(answer, 'register')
  }
}
