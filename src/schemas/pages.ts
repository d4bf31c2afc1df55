/** The query strings and forms of the pages (PROTOCOL §7). */
import { Type } from '@sinclair/typebox'

export const ClaimLink = Type.Object({ claim_attempt_token: Type.Optional(Type.String()) })

export const CompleteBody = Type.Object({
  claim_attempt_token: Type.String(),
  user_code: Type.Optional(Type.String()),
  decision: Type.Optional(Type.Union([Type.Literal('authorize'), Type.Literal('decline')])),
})

/** Whatever is not a path of ours, or not a provider, is ignored, not refused. */
export const LoginLink = Type.Object({
  return_to: Type.Optional(Type.Unknown()),
  provider: Type.Optional(Type.Unknown()),
  prompt: Type.Optional(Type.Unknown()),
})

export const SignInBody = Type.Object({
  email: Type.Optional(Type.String()),
  return_to: Type.Optional(Type.String()),
})

export const SignOutBody = Type.Object({
  return_to: Type.Optional(Type.String()),
  /** `all`: sign out on every device. */
  all: Type.Optional(Type.Literal('all')),
})

export const DelegationBody = Type.Object({
  issuer: Type.String({ maxLength: 2048 }),
  subject: Type.String({ maxLength: 2048 }),
  decision: Type.Union([Type.Literal('keep'), Type.Literal('remove')]),
  return_to: Type.Optional(Type.String()),
})

const RegistrationId = Type.String({ pattern: '^[\\w-]{1,64}$' })

/** `ended`: the id of the agent that the person has just asked to end, or `all`. */
export const AgentsLink = Type.Object({ ended: Type.Optional(RegistrationId) })

export const AgentLink = Type.Object({ registration_id: RegistrationId })

/** All agents only if `all` says so: a missing id must not mean every agent. */
export const RevokeAgentsBody = Type.Union([
  Type.Object({ registration_id: RegistrationId, all: Type.Optional(Type.Never()) }),
  Type.Object({ all: Type.Literal('all'), registration_id: Type.Optional(Type.Never()) }),
])
