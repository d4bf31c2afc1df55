/** The body of POST /oauth2/revoke (RFC 7009 §2.1). */
import { Type } from '@sinclair/typebox'

export const RevokeBody = Type.Object({
  token: Type.String(),
  /** Ignored, since both kinds of token say what they are; listed because it may not repeat either. */
  token_type_hint: Type.Optional(Type.String()),
  client_id: Type.Optional(Type.String()),
})
