/**
 * The body and answers of POST /oauth2/token (PROTOCOL §8). Parameters without a value have been removed before (RFC
 * 6749 §3.2).
 */
import { Type } from '@sinclair/typebox'

export const TokenBody = Type.Object({
  grant_type: Type.String(),
  assertion: Type.Optional(Type.String()),
  claim_token: Type.Optional(Type.String()),
  scope: Type.Optional(Type.String()),
  /** Ignored: agents have no identity of their own. Listed because it may not repeat. */
  client_id: Type.Optional(Type.String()),
  /** The only parameter that may repeat (RFC 8707 §2). */
  resource: Type.Optional(Type.Union([Type.String(), Type.Array(Type.String())])),
})

export const TokenRefusal = Type.Object({ error: Type.String(), error_description: Type.String() })

export const TokenAnswer = Type.Object({
  access_token: Type.String(),
  token_type: Type.Literal('Bearer'),
  expires_in: Type.Integer(),
  scope: Type.String(),
  resource: Type.Optional(Type.String()),
  /** Only from the claim grant: the assertion that gets the next access tokens. */
  identity_assertion: Type.Optional(Type.String()),
  assertion_expires: Type.Optional(Type.String()),
})
