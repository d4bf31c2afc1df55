/** A ceremony: a link for the person, and a code for the agent to show them (PROTOCOL §5). */
import type { LoginHint } from './login-hint.js'
import { loginPath } from './return-to.js'
import { hashSecret, newSecret, newSortedId, newUserCode, userCodeMac } from './secrets.js'

interface CeremonySettings {
  issuer: string
  lifetimeSeconds: number
  intervalSeconds: number
  /** The key of the codes' MACs. */
  codeKey: Buffer
}

export interface CeremonyBlock {
  user_code: string
  expires_in: number
  verification_uri: string
  interval: number
}

/**
 * Who may confirm: the account with the hinted address, or in a step-up one particular user, whatever their address.
 */
export type Claimant =
  | { login_hint_kind: 'email'; login_hint: string; pinned_user_id: null }
  | { login_hint_kind: null; login_hint: null; pinned_user_id: string }

export function hinted({ kind, value }: LoginHint): Claimant {
  return { login_hint_kind: kind, login_hint: value, pinned_user_id: null }
}

export function pinned(pinned_user_id: string): Claimant {
  return { login_hint_kind: null, login_hint: null, pinned_user_id }
}

/**
 * Makes a ceremony: `block` goes to the agent, once; `attempt` is what is stored of it. The link never holds the code.
 * `address` is the network address of the agent.
 */
export function mintCeremony(
  settings: CeremonySettings,
  claimant: Claimant,
  address: string,
  now: Date,
) {
  const id = newSortedId('cla_', now)
  const token = newSecret('cat_')
  const user_code = newUserCode()
  const block: CeremonyBlock = {
    user_code,
    expires_in: settings.lifetimeSeconds,
    verification_uri: `${settings.issuer}${loginPath(claimPath(token))}`,
    interval: settings.intervalSeconds,
  }
  const attempt = {
    id,
    token_hash: hashSecret(token),
    user_code_mac: userCodeMac(settings.codeKey, id, user_code),
    claimant,
    lifetime_seconds: settings.lifetimeSeconds,
    requested_from: address,
  }
  return { block, attempt }
}

/**
 * The path of the claim page for this token, or without a token if `token` cannot be one: the path goes into headers,
 * which proxies limit to a few kilobytes.
 */
export function claimPath(token: string): string {
  return /^[\w-]{1,64}$/.test(token) ? `/claim?claim_attempt_token=${token}` : '/claim'
}
