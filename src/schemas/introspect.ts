/** The body and answer of POST /oauth2/introspect (RFC 7662 §2). */
import { Type } from '@sinclair/typebox'

export const IntrospectBody = Type.Object({
  token: Type.String(),
  /** Ignored: only access tokens are ever active. */
  token_type_hint: Type.Optional(Type.String()),
})

export const IntrospectAnswer = Type.Object({
  active: Type.Boolean(),
  iss: Type.Optional(Type.String()),
  aud: Type.Optional(Type.String()),
  sub: Type.Optional(Type.String()),
  client_id: Type.Optional(Type.String()),
  scope: Type.Optional(Type.String()),
  token_type: Type.Optional(Type.Literal('Bearer')),
  jti: Type.Optional(Type.String()),
  iat: Type.Optional(Type.Integer()),
  exp: Type.Optional(Type.Integer()),
  registration_id: Type.Optional(Type.String()),
  generation: Type.Optional(Type.Integer()),
  /** The verified address of the person whom the agent acts for. */
  username: Type.Optional(Type.String()),
  /** The account that the person last signed in with (RFC 9493 §3.2.1). */
  sub_id: Type.Optional(
    Type.Object({ format: Type.Literal('iss_sub'), iss: Type.String(), sub: Type.String() }),
  ),
})
