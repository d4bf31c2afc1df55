/** The example API: what a token lets its bearer have. */
import { Type } from '@sinclair/typebox'

export const ResourceAnswer = Type.Object({
  message: Type.String(),
  sub: Type.String(),
  scope: Type.String(),
})
