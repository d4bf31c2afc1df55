/** POST /oauth2/revoke (RFC 7009 §2.1). */
import { Type } from '@sinclair/typebox'

/** `token_type_hint` is not needed: both kinds of token say what they are. */
export const RevokeBody = Type.Object({ token: Type.String() })
