/** POST /agent/identity/claim (PROTOCOL §6). */
import { Type } from '@sinclair/typebox'
import { Ceremony } from './ceremony.js'

export const ClaimBody = Type.Object({
  type: Type.Optional(Type.Union([Type.Literal('login_hint'), Type.Literal('identity_assertion')])),
  claim_token: Type.String({ minLength: 1 }),
  login_hint: Type.Optional(Type.String({ minLength: 1 })),
  /** The older name of `login_hint`. */
  email: Type.Optional(Type.String({ minLength: 1 })),
})

export const ClaimAnswer = Type.Object({
  registration_id: Type.String(),
  claim_attempt_id: Type.String(),
  status: Type.String(),
  expires_at: Type.String(),
  claim_attempt: Ceremony,
})
