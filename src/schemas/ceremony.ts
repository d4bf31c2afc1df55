/** The ceremony block: what an agent shows its person (PROTOCOL §5). `expires_in` and `interval` are seconds. */
import { Type } from '@sinclair/typebox'

export const Ceremony = Type.Object({
  user_code: Type.String(),
  expires_in: Type.Integer(),
  verification_uri: Type.String(),
  interval: Type.Integer(),
})

/** The most bytes of a JSON body: room for an assertion and a hint, not for more. */
export const JSON_BODY_LIMIT = 131_072
