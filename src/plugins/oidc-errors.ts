/** Why a sign-in at a provider failed, from what the library throws. */
import * as client from 'openid-client'
import type { SignInReason } from '../domain/sign-in.js'

export class SignInError extends Error {
  constructor(
    readonly reason: SignInReason,
    message: string = reason,
  ) {
    super(message)
  }
}

const BY_CODE = new Map<unknown, SignInReason>([
  ['OAUTH_TIMEOUT', 'away'],
  ['OAUTH_ABORT', 'away'],
  ['OAUTH_PARSE_ERROR', 'away'],
  ['OAUTH_RESPONSE_IS_NOT_JSON', 'away'],
  ['OAUTH_INVALID_RESPONSE', 'unverified'],
  ['OAUTH_JWT_CLAIM_COMPARISON_FAILED', 'unverified'],
  ['OAUTH_JWT_TIMESTAMP_CHECK_FAILED', 'unverified'],
  ['OAUTH_JSON_ATTRIBUTE_COMPARISON_FAILED', 'unverified'],
  ['OAUTH_KEY_SELECTION_FAILED', 'unverified'],
  ['OAUTH_UNSUPPORTED_OPERATION', 'unverified'],
])

/** OAuth 2.0 section 4.1.2.1, OpenID Connect Core 1.0 section 3.1.2.6 */
const BY_REDIRECT = new Map<string, SignInReason>([
  ['access_denied', 'declined'],
  ['login_required', 'declined'],
  ['interaction_required', 'declined'],
  ['account_selection_required', 'declined'],
  ['consent_required', 'declined'],
  ['server_error', 'away'],
  ['temporarily_unavailable', 'away'],
])

/** By class and code, never by message: libraries reword those. */
export function reasonOf(error: unknown): SignInReason {
  if (error instanceof SignInError) return error.reason
  if (error instanceof client.AuthorizationResponseError)
    return BY_REDIRECT.get(error.error) ?? 'rejected'
  if (error instanceof client.ResponseBodyError) {
    if (error.status >= 500) return 'away'
    return error.error === 'invalid_grant' ? 'not_ours' : 'misconfigured'
  }
  const { code, cause } = error as { code?: unknown; cause?: unknown }
  // How fetch says that nobody answered: the cause is the network's own error.
  if (error instanceof TypeError && cause instanceof Error) return 'away'
  const status = cause instanceof Response ? cause.status : 0
  return BY_CODE.get(code) ?? (status >= 500 ? 'away' : 'misconfigured')
}

/** The address and status of the provider's answer behind the error, for the log: the library's message has neither. */
export function answerOf(error: unknown): { url: string; status: number } | undefined {
  const { cause, response = cause } = (error ?? {}) as { cause?: unknown; response?: unknown }
  return response instanceof Response ? { url: response.url, status: response.status } : undefined
}
