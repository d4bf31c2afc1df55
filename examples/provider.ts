/** A development identity provider of agents. It believes whoever asks, so it listens on this machine only. */
import { createServer, type IncomingMessage } from 'node:http'
import { parseArgs } from 'node:util'
import { isJson, Problem, safe } from './http.js'
import { Misused } from './options.js'
import { page, quote, type View } from './provider-page.js'
import { makeSigner, push, type Signer } from './provider-tokens.js'

const HELP = `Usage: npm run provider -- [options]

A development identity provider: signs ID-JAGs and security events for any address.
A page for people is at its URL; agents POST {"email", "audience"} to /id-jag.

  --port N         listen on this port of this machine (default: 9000)
  --registrar URL  the issuer of the registrar (default: http://localhost:8000)
  --name NAME      what people are shown (default: Development Provider)
  --client-id ID   sign this client_id (default: its own URL)
  --help           show this text`

const MAX_BODY_BYTES = 16_384
const PAGE = {
  'content-type': 'text/html; charset=utf-8',
  'content-security-policy': `default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'`,
}

type Options = ReturnType<typeof readOptions>
interface Reply {
  status: number
  headers: Record<string, string>
  body: string
}

function readOptions() {
  const text = { type: 'string' } as const
  try {
    const { values } = parseArgs({
      options: {
        port: { ...text, default: '9000' },
        registrar: { ...text, default: 'http://localhost:8000' },
        name: { ...text, default: 'Development Provider' },
        'client-id': text,
        help: { type: 'boolean' },
      },
    })
    const port = Number(values.port)
    if (!Number.isInteger(port) || port < 1 || port > 65_535)
      throw new Misused('--port is a number from 1 to 65535.')
    const registrar = safe(values.registrar).href.replace(/\/$/, '')
    return { ...values, port, registrar, issuer: new URL(`http://localhost:${port}`).origin }
  } catch (error) {
    throw new Misused((error as Error).message)
  }
}

async function serve(options: Options): Promise<void> {
  const { port, issuer, registrar, name, 'client-id': clientId } = options
  const signer = await makeSigner(issuer, clientId ?? issuer)
  const extra = clientId ? ` --client-id ${quote(clientId)}` : ''
  const trust = `npm run registrar -- issuers add ${issuer} --name ${quote(name)}${extra}`
  const where = registrar === 'http://localhost:8000' ? '' : ` --issuer ${quote(registrar)}`
  const view = { name, issuer, registrar, trust }

  const server = createServer(async (request, response) => {
    const told = await answer(request, view, signer).catch(() =>
      json(500, { error: 'server_error' }),
    )
    console.log(`${request.method} ${request.url?.split('?')[0]} ${told.status}`)
    response.writeHead(told.status, { 'cache-control': 'no-store', ...told.headers }).end(told.body)
  })
  server.on('error', (error) => fail(new Problem(error.message)))
  server.listen(port, '127.0.0.1', () => {
    console.log(`${name}: ${issuer}\n\nLet the registrar trust it:\n\n  ${trust}\n`)
    console.log(`Then let an agent use it:\n
  npm run agent -- --provider ${issuer} --email user@example.com${where}\n`)
  })
}

async function answer(request: IncomingMessage, view: View, signer: Signer): Promise<Reply> {
  const refusal = foreign(request, view.issuer)
  if (refusal) return json(403, { error: 'access_denied', error_description: refusal })
  switch (`${request.method} ${request.url}`) {
    case 'GET /':
      return shown(view)
    case 'GET /.well-known/jwks.json':
      return json(200, signer.jwks)
    case 'POST /id-jag':
      return forAgent(request, view, signer)
    case 'POST /mint':
    case 'POST /revoke':
      return forPerson(request, view, signer)
    default:
      return json(404, { error: 'not_found' })
  }
}

/** Another site's page must not send the forms, nor read the answers by a host name that leads to this machine. */
function foreign({ headers }: IncomingMessage, issuer: string): string | undefined {
  const own = [issuer, issuer.replace('localhost', '127.0.0.1')]
  if (!own.includes(`http://${headers.host}`)) return `This is ${issuer} only.`
  if (headers.origin && !own.includes(headers.origin)) return 'This is for its own pages only.'
  return undefined
}

async function forAgent(request: IncomingMessage, view: View, signer: Signer): Promise<Reply> {
  try {
    const asked: unknown = JSON.parse(await bodyOf(request))
    if (!isJson(asked)) throw new Problem('The body must be a JSON object.')
    const { email, audience = view.registrar } = asked
    return json(200, { assertion: await signer.idJag(named(email, audience)) })
  } catch (error) {
    const told = error instanceof Problem ? error.message : 'The body must be JSON.'
    return json(400, { error: 'invalid_request', error_description: told })
  }
}

async function forPerson(request: IncomingMessage, view: View, signer: Signer): Promise<Reply> {
  try {
    const form = new URLSearchParams(await bodyOf(request))
    const asked = named(form.get('email'), form.get('audience'))
    const { email, audience } = asked
    if (request.url === '/revoke') {
      const event = await signer.revokedEvent(email, audience)
      return shown({ ...view, ...asked, event, pushed: await push(event, audience) })
    }
    const idJag = await signer.idJag({
      ...asked,
      verified: form.has('verified'),
      authAgeSeconds: Number(form.get('auth_age')) || 0,
      algorithm: form.get('algorithm') ?? 'ES256',
    })
    return shown({ ...view, ...asked, idJag })
  } catch (error) {
    if (error instanceof Problem) return shown({ ...view, problem: error.message }, 400)
    throw error
  }
}

function named(email: unknown, audience: unknown): { email: string; audience: string } {
  if (typeof email !== 'string' || !/^\S+@\S+$/.test(email.trim()))
    throw new Problem('email must be an email address.')
  if (typeof audience !== 'string' || !URL.canParse(audience))
    throw new Problem('audience must be a URL.')
  return { email: email.trim(), audience }
}

async function bodyOf(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length
    if (bytes > MAX_BODY_BYTES) throw new Problem('The body is too large.')
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString('utf8')
}

function shown(view: View, status = 200): Reply {
  return { status, headers: PAGE, body: page(view) }
}

function json(status: number, body: object): Reply {
  return { status, headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) }
}

function fail(error: unknown): void {
  if (error instanceof Misused) console.error(`${error.message}\n\n${HELP}`)
  else if (error instanceof Problem) console.error(error.message)
  else throw error
  process.exitCode = 1
}

try {
  const options = readOptions()
  if (options.help) console.log(HELP)
  else await serve(options)
} catch (error) {
  fail(error)
}
