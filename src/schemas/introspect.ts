/** POST /oauth2/introspect (RFC 7662 §2). */
import { Type } from '@sinclair/typebox'

export const IntrospectBody = Type.Object({ token: Type.String() })

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
})
