/** The body and answer of POST /agent/identity/claim (PROTOCOL §6). */
import { Type } from '@sinclair/typebox'
import { Ceremony } from './ceremony.js'

export const ClaimBody = Type.Object({
  type: Type.Optional(Type.Union([Type.Literal('login_hint'), Type.Literal('identity_assertion')])),
  claim_token: Type.String({ minLength: 1 }),
  login_hint: Type.Optional(Type.String({ minLength: 1 })),
  /** The older name of `login_hint`. */
  email: Type.Optional(Type.String({ minLength: 1 })),
  /** Required with type `identity_assertion`; ignored without. */
  assertion: Type.Optional(Type.String({ minLength: 1 })),
})

export const ClaimAnswer = Type.Object({
  registration_id: Type.String(),
  status: Type.Union([Type.Literal('initiated'), Type.Literal('claimed')]),
  /** With status `initiated`, as far as `claim_attempt`; times are ISO 8601 in UTC. */
  claim_attempt_id: Type.Optional(Type.String()),
  expires_at: Type.Optional(Type.String()),
  claim_attempt: Type.Optional(Ceremony),
  /** With status `claimed`. */
  registration_type: Type.Optional(Type.String()),
  identity_assertion: Type.Optional(Type.String()),
  assertion_expires: Type.Optional(Type.String()),
})
