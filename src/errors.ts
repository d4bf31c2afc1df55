/** Errors named after their wire codes, and the one place where their bodies are made (RFC 6749 §5.2, PROTOCOL §3). */
import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify'
import { isDatabaseAway } from './database-away.js'

/** Why a request was refused, for the log and the metrics: names of our own, never what the caller sent. */
export interface Refusal {
  error: string
  /** What the caller is not told. */
  reason: string | undefined
  description: string
}

declare module 'fastify' {
  interface FastifyRequest {
    refusal: Refusal | undefined
  }
}

/** What a caller is told. `description` is our own words, never the caller's input. */
export class OAuthError extends Error {
  constructor(
    readonly statusCode: number,
    readonly error: string,
    readonly description: string,
    readonly headers: Record<string, string> = {},
    /** More members for the body. */
    readonly members: Record<string, unknown> = {},
  ) {
    super(description)
  }
}

/** `error` with the reason for it, which the caller does not get. */
export function because(reason: string | undefined, error: OAuthError): OAuthError {
  error.cause = reason
  return error
}

/** The error that a surface answers for a reason. */
export function refusalFor<Reason extends string>(
  refusals: Record<Reason, () => OAuthError>,
  reason: Reason,
): OAuthError {
  return because(reason, refusals[reason]())
}

export const badRequest = (error: string, description: string, reason?: string) =>
  because(reason, new OAuthError(400, error, description))

export const invalidRequest = (description: string) => badRequest('invalid_request', description)

export const methodNotAllowed = (allow: string) =>
  new OAuthError(405, 'method_not_allowed', `Use ${allow}.`, { allow })

export const invalidLoginHint = () =>
  badRequest('invalid_login_hint', 'login_hint must be an email address.')

export const notEnabled = (registrationType: string) =>
  badRequest(
    `${registrationType}_not_enabled`,
    'This server has that registration type switched off.',
  )

/** The step-up of an assertion whose person has an account here already: `members` say how the person confirms. */
export const interactionRequired = (members: object) =>
  new OAuthError(
    401,
    'interaction_required',
    'The person has an account here and has to confirm this agent.',
    { 'www-authenticate': 'AgentAuth error="interaction_required"' },
    { ...members },
  )

export const tooManyCodes = (headers: Record<string, string>) =>
  because(
    'too_many_codes',
    new OAuthError(
      429,
      'rate_limited',
      'Too many wrong codes. Wait as long as Retry-After says, or register anew.',
      headers,
    ),
  )

/** `limit`: which one, for the log. */
export const rateLimited = (limit: string, headers: Record<string, string>, seconds: number) =>
  because(
    limit,
    new OAuthError(429, 'rate_limited', 'Too many requests. Wait as long as Retry-After says.', {
      ...headers,
      'retry-after': String(seconds),
    }),
  )

const tryAgain = (description: string) =>
  new OAuthError(503, 'temporarily_unavailable', description, { 'retry-after': '5' })

export const unavailable = () => tryAgain('The service cannot answer now. Try again soon.')

export const providerAway = () =>
  because('provider_away', tryAgain("The provider's keys cannot be fetched now. Try again soon."))

/** Fastify's own refusals → ours. Descriptions are fixed: the originals may quote the request. */
const FRAMEWORK: Record<string, [status: number, error: string, description: string]> = {
  FST_ERR_CTP_BODY_TOO_LARGE: [413, 'invalid_request', 'The request body is too large.'],
  FST_ERR_CTP_INVALID_JSON_BODY: [400, 'invalid_request', 'The request body is not valid JSON.'],
  FST_ERR_CTP_EMPTY_JSON_BODY: [400, 'invalid_request', 'The request body is empty.'],
}

/** Anything thrown, even nothing, → what the caller is told about it. `accept`: the media type that is taken. */
export function toOAuthError(thrown: unknown, accept?: string): OAuthError {
  if (thrown instanceof OAuthError) return thrown
  const error = (thrown ?? {}) as FastifyError
  if (error.validation) return invalidRequest(validationText(error.validation))
  if (error.code === 'FST_ERR_CTP_INVALID_MEDIA_TYPE')
    return new OAuthError(
      415,
      'invalid_request',
      `The content type must be ${accept ?? 'another'}.`,
    )
  const known = FRAMEWORK[error.code]
  if (known) return new OAuthError(...known)
  if (error.statusCode && error.statusCode >= 400 && error.statusCode < 500)
    return new OAuthError(
      error.statusCode,
      'invalid_request',
      'The request could not be understood.',
    )
  // After the caller's own faults: hanging up while sending is an ECONNRESET as well.
  if (isDatabaseAway(error)) return unavailable()
  return new OAuthError(500, 'server_error', 'Something went wrong on our side.')
}

/**
 * From a short list, whatever was thrown: a refusal's cause is a reason of ours, or an error, whose message is not
 * used.
 */
function reasonOf(thrown: unknown): string | undefined {
  if (thrown instanceof OAuthError)
    return typeof thrown.cause === 'string' ? thrown.cause : reasonOf(thrown.cause)
  const { validation, code } = (thrown ?? {}) as Partial<FastifyError>
  if (validation) return 'schema'
  if (code?.startsWith?.('FST_')) return code.toLowerCase()
  return isDatabaseAway(thrown ?? {}) ? 'database_away' : undefined
}

/** Names the member at fault by the schema's own words; values and unknown names are not repeated. */
function validationText(faults: NonNullable<FastifyError['validation']>): string {
  const fault = faults[0]
  const { missingProperty: missing, tag } = fault?.params ?? {}
  if (typeof missing === 'string') return `${missing} is required.`
  const member = tag ?? fault?.instancePath.slice(1).split('/')[0]
  return member
    ? `${member} is not valid.`
    : 'The request body must be an object of the documented form.'
}

/** What `/agent/*` adds for auth.md clients: the description once more, as `message`. */
export function profileBody(told: OAuthError): object {
  const { error, description, members } = told
  return { error, message: description, error_description: description, ...members }
}

/** RFC 8935 §2.3 */
export function eventBody({ error, description }: OAuthError): object {
  return { err: error, description }
}

/** RFC 6749 §5.2 */
export function oauthBody({ error, description, members }: OAuthError) {
  return { error, error_description: description, ...members }
}

/** The JSON error handler of a surface: `accept` is the one media type of its requests. */
export function jsonErrors(body: (told: OAuthError) => object, accept?: string) {
  return (
    error: FastifyError | OAuthError,
    _request: FastifyRequest,
    reply: FastifyReply,
  ): void => {
    const told = toOAuthError(error, accept)
    if (told.statusCode === 415 && accept) reply.header('accept', accept)
    // Set here too: no hook runs for a URL that cannot be decoded.
    reply.header('cache-control', 'no-store')
    void reply.send(refused(body, reply, told, error))
  }
}

/**
 * Notes a refusal, for the log and in the answer's head, and returns its body, to be sent. Also for what is refused so often
 * that it is not thrown: a throw takes a twentieth of a poll.
 */
export function refused<Body>(
  body: (told: OAuthError) => Body,
  reply: FastifyReply,
  told: OAuthError,
  thrown: unknown = told,
): Body {
  const { request } = reply
  const { error, description } = told
  request.refusal = { error, reason: reasonOf(thrown), description }
  // The log gets all of what is our own fault.
  if (told.statusCode >= 500) request.log.error({ err: thrown }, 'request failed')
  reply.code(told.statusCode).headers(told.headers)
  return body(told)
}
