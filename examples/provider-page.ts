/** The development provider's only page: two forms, and the result of the last one sent. */
import * as jose from 'jose'
import { ALGORITHMS } from './provider-tokens.js'

/** What the page shows: values that stay in the forms from one answer to the next, and the last result. */
export interface View {
  name: string
  issuer: string
  registrar: string
  trust: string
  email?: string
  audience?: string
  idJag?: string
  event?: string
  pushed?: { endpoint: string; status: number; body: string }
  problem?: string
}

const STYLE = `body { font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem }
label { display: block; margin: .6rem 0 } input:not([type=checkbox]), select { display: block; width: 100%; box-sizing: border-box; font: inherit; padding: .3rem }
button { font: inherit; padding: .3rem 1rem } pre { white-space: pre-wrap; overflow-wrap: anywhere; background: #f2f2f2; padding: .6rem }
[role=alert] { border-left: 4px solid #b00020; padding-left: .6rem }`

export function page(view: View): string {
  const { name, issuer, trust, email = 'user@example.com', audience = view.registrar } = view
  const fields = `<label>Email <input name="email" type="email" required value="${html(email)}"></label>
<label>Audience: the registrar's issuer <input name="audience" type="url" required value="${html(audience)}"></label>`
  return `<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>${html(name)}</title><style>${STYLE}</style>
<h1>${html(name)}</h1>
<p>A development identity provider: it vouches for any address, for whoever asks.
Its issuer is <code>${html(issuer)}</code>, its keys are <a href="/.well-known/jwks.json">here</a>.
A registrar trusts it after:</p>
<pre>${html(trust)}</pre>
${view.problem ? `<p role="alert">${html(view.problem)}</p>` : ''}
<h2>Mint an ID-JAG</h2>
<form method="post" action="/mint">${fields}
<label><input type="checkbox" name="verified" value="true" checked> <code>email_verified</code></label>
<label><code>auth_time</code> <select name="auth_age"><option value="0">now</option><option value="86400">a day ago</option></select></label>
<label>Key <select name="algorithm">${ALGORITHMS.map((name_) => `<option>${name_}</option>`).join('')}</select></label>
<button>Mint</button></form>
${view.idJag ? minted(view.idJag, audience) : ''}
<h2>Send the revoked event</h2>
<p>Tells the registrar that this provider no longer vouches for the person.</p>
<form method="post" action="/revoke">${fields}
<button>Send</button></form>
${view.event ? sent(view.event, view.pushed) : ''}
</html>`
}

function minted(idJag: string, audience: string): string {
  const body = {
    type: 'identity_assertion',
    assertion_type: 'urn:ietf:params:oauth:token-type:id-jag',
    assertion: idJag,
  }
  return `<h3>The ID-JAG</h3><pre>${html(idJag)}</pre>${decoded(idJag)}
<p>To present it, once and within minutes:</p>
<pre>curl -i ${html(quote(`${audience}/agent/identity`))} --json ${html(quote(JSON.stringify(body)))}</pre>`
}

function sent(event: string, pushed: View['pushed']): string {
  if (!pushed) return ''
  const { endpoint, status, body } = pushed
  return `<h3>The answer: ${status}</h3><p>from <code>${html(endpoint)}</code></p>
${body ? `<pre>${html(body)}</pre>` : ''}<h3>The event</h3><pre>${html(event)}</pre>${decoded(event)}`
}

function decoded(jwt: string): string {
  const parts = { header: jose.decodeProtectedHeader(jwt), claims: jose.decodeJwt(jwt) }
  return `<pre>${html(JSON.stringify(parts, null, 2))}</pre>`
}

/** Quotes a word for a POSIX shell. */
export function quote(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`
}

function html(words: string): string {
  return words.replace(/[&<>"']/g, (character) => `&#${character.codePointAt(0)};`)
}
