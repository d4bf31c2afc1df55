/** `login_hint`: an opaque string on the wire (OIDC CIBA §7.1), classified once, on arrival. */
import { domainToUnicode } from 'node:url'

export interface LoginHint {
  kind: 'email'
  /**
   * Canonical: trimmed, lower case, NFC, the domain in A-labels. Mailbox folding (`+tag`, dots) is up to the mail
   * server.
   */
  value: string
}

/** The longest top-level domain that is shown, in characters. */
const MOST_SHOWN = 8

/** The dot-atom of RFC 5322 §3.2.3, extended to letters of any script (RFC 6531); no quotes, no comments. */
const LOCAL_PART =
  /^[\p{L}\p{N}\p{M}!#$%&'*+/=?^_`{|}~-]+(\.[\p{L}\p{N}\p{M}!#$%&'*+/=?^_`{|}~-]+)*$/u
const DOMAIN_CHARACTERS = /^[\p{L}\p{N}\p{M}.-]+$/u
const DOMAIN = /^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])$/

export function classifyLoginHint(text: string): LoginHint | undefined {
  const value = canonicalEmail(text)
  return value === undefined ? undefined : { kind: 'email', value }
}

/** The form in which addresses are stored and compared; undefined when the text is not an address. */
export function canonicalEmail(text: string): string | undefined {
  if (text.length > 1000) return undefined
  const [local, domain, more] = text
    .replace(/^ +| +$/g, '')
    .toLowerCase()
    .normalize('NFC')
    .split('@')
  if (!local || !domain || more !== undefined) return undefined
  if (!LOCAL_PART.test(local) || !DOMAIN_CHARACTERS.test(domain)) return undefined
  const host = asciiHost(domain)
  const email = `${local}@${host}`
  return DOMAIN.test(host) && Buffer.byteLength(local) <= 64 && Buffer.byteLength(email) <= 254
    ? email
    : undefined
}

/**
 * The host in A-labels, or '' if it is none. Not by `URL.canParse`: once it is hot, it fails on ß in Node 20 and 22.
 */
function asciiHost(domain: string): string {
  try {
    const { hostname } = new URL(`http://${domain}`)
    // Node 24 and later leave an invalid A-label as it is.
    return /(^|\.)xn--/.test(domainToUnicode(hostname)) ? '' : hostname
  } catch {
    return ''
  }
}

/** A canonical address as its owner writes it, with the domain in its own script. */
export function shownEmail(email: string): string {
  const [local, domain = ''] = email.split('@')
  const shown = domainToUnicode(domain)
  return shown === '' ? email : `${local}@${shown}`
}

/**
 * Enough to recognise one's own address, too little to learn another's: `a•••@e•••.com`. The agent chose the address,
 * so a top-level domain long enough to hold a message is masked too.
 */
export function maskEmail(email: string): string {
  const [local = '', domain = ''] = shownEmail(email).split('@')
  const top = domain.slice(domain.lastIndexOf('.') + 1)
  return `${[...local][0]}•••@${[...domain][0]}•••.${top.length > MOST_SHOWN ? '•••' : top}`
}
