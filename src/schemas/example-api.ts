/** The example API's answer: what the access token allows, and its claims. */
import { Type } from '@sinclair/typebox'

export const ResourceAnswer = Type.Object({
  message: Type.String(),
  sub: Type.String(),
  scope: Type.String(),
})
