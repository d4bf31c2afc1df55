/** Sends requests and prints them: what goes out, what comes back, and another try when that may help. */
import { setTimeout as sleep } from 'node:timers/promises'
import { styleText } from 'node:util'

export type Json = Record<string, unknown>
export type Answer = { status: number; headers: Headers; body: Json }
/** `start`: the command to name when nothing answers on this machine. */
type Sending = { json?: Json; form?: Record<string, string>; token?: string; start?: string }
/** `show`: the members of a success worth printing, all unless given. `quiet`: print nothing. */
type Printing = { show?: string[]; quiet?: boolean }

/** A reason to stop that fits in one line. */
export class Problem extends Error {}
export class Declined extends Problem {}

const TRIES = 6
const LONGEST_PAUSE_SECONDS = 60
const SECRETS = ['access_token', 'identity_assertion', 'assertion', 'claim_token', 'token']
const answeredBefore = new Set<string>()

export async function send(method: string, url: string, options: Sending & Printing = {}) {
  const { json, form, token, start = 'npm start', show, quiet } = options
  const { href, origin } = safe(url)
  const body = json ? JSON.stringify(json) : form ? new URLSearchParams(form) : null
  const headers = new Headers({ accept: 'application/json' })
  if (json) headers.set('content-type', 'application/json')
  if (token) headers.set('authorization', `Bearer ${token}`)
  if (!quiet) {
    console.log(bold(`→ ${method} ${href}`))
    list({ ...(token && { authorization: `Bearer ${shortened(token)}` }), ...json, ...form })
  }
  for (let tries = 1; ; tries++) {
    const answer = await once(href, { method, headers, body })
    if (typeof answer === 'string' && !answeredBefore.has(origin)) {
      const hint = origin.startsWith('http:') ? ` Start it with: ${start}` : ''
      throw new Problem(`Nothing answers at ${origin} (${answer}).${hint}`)
    }
    answeredBefore.add(origin)
    const pause = tries < TRIES ? secondsToPause(answer, 2 ** (tries - 1)) : undefined
    if (pause !== undefined) {
      const what = typeof answer === 'string' ? answer : answer.status
      console.log(dim(`    ${what}, trying again in ${pause} s`))
      await sleep(pause * 1000)
    } else if (typeof answer === 'string') {
      throw new Problem(`${origin} stopped answering (${answer}).`)
    } else {
      if (!quiet) showAnswer(answer, show)
      return answer
    }
  }
}

/** Sends once: the answer, or why there is none. Redirects are not followed: they would carry secrets along. */
async function once(url: string, init: RequestInit): Promise<Answer | string> {
  try {
    const signal = AbortSignal.timeout(15_000)
    const response = await fetch(url, { ...init, redirect: 'manual', signal })
    return {
      status: response.status,
      headers: response.headers,
      body: parsed(await response.text()),
    }
  } catch (error) {
    const { cause, message } = error as Error
    return isJson(cause) && typeof cause.code === 'string' ? cause.code : message
  }
}

/** How long to wait before the same request may go out again; undefined when it should not. */
function secondsToPause(answer: Answer | string, backoff: number): number | undefined {
  if (typeof answer === 'string') return backoff
  if (answer.status !== 429 && answer.status !== 503) return undefined
  const after = answer.headers.get('retry-after') ?? ''
  const seconds = /^\d+$/.test(after) ? Number(after) : (Date.parse(after) - Date.now()) / 1000
  if (Number.isNaN(seconds)) return backoff
  return seconds > LONGEST_PAUSE_SECONDS ? undefined : Math.max(1, Math.ceil(seconds))
}

/** Refuses a URL that would send secrets, or the person, over plain HTTP off this machine. */
export function safe(value: string): URL {
  const url = URL.canParse(value) ? new URL(value) : undefined
  const local = /^(localhost|.+\.localhost|127\.[\d.]+|\[::1\])$/.test(url?.hostname ?? '')
  if (url?.protocol === 'https:' || (url?.protocol === 'http:' && local)) return url
  throw new Problem(`Neither https nor on this machine: ${value}`)
}

/** The body of a success; otherwise stops with the error the server gave. */
export function success({ status, body }: Answer, doing: string): Json {
  if (status >= 200 && status < 300) return body
  const reason = [status, body.error, body.error_description ?? body.message].filter(Boolean)
  throw new Problem(`Could not ${doing}: ${reason.join(' ')}`)
}

export function text(body: Json, name: string): string {
  const value = body[name]
  if (typeof value === 'string' && value !== '') return value
  throw new Problem(`The answer has no ${name}.`)
}

export function showAnswer({ status, headers, body }: Answer, show?: string[]): void {
  console.log(bold(`← ${status}`))
  const challenge = headers.get('www-authenticate')
  const shown = Object.entries(body).filter(
    ([name, value]) =>
      (status >= 400 || !show || show.includes(name)) &&
      !(name === 'message' && value === body.error_description),
  )
  list({ ...(challenge && { 'www-authenticate': challenge }), ...Object.fromEntries(shown) })
}

function list(body: Json, indent = '    '): void {
  for (const [name, value] of Object.entries(body)) {
    const whole = typeof value === 'string' ? value : JSON.stringify(value)
    const shown = isJson(value) ? '' : SECRETS.includes(name) ? shortened(whole) : whole
    console.log(dim(printable(`${indent}${name.padEnd(22)} ${shown}`).trimEnd()))
    if (isJson(value)) list(value, `${indent}  `)
  }
}

function parsed(body: string): Json {
  try {
    const value: unknown = JSON.parse(body)
    return isJson(value) ? value : {}
  } catch {
    return {}
  }
}

export function isJson(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

const shortened = (secret: string) => `${secret.slice(0, 8)}…`
/** An answer must not send control sequences to the terminal. */
export const printable = (value: string) => value.replace(/\p{Cc}/gu, ' ')
const styled = (style: 'bold' | 'dim') => (line: string) =>
  process.stdout.isTTY ? styleText(style, line) : line
export const bold = styled('bold')
const dim = styled('dim')

let step = 0
export const heading = (title: string) => console.log(bold(`\n${++step}. ${title}`))
