/**
 * The body and answer of POST /agent/identity (PROTOCOL §5); a comment on a member names the types whose answers have
 * it.
 */
import { Type, type Static } from '@sinclair/typebox'
import { Ceremony } from './ceremony.js'

const bodies = [
  Type.Object({ type: Type.Literal('anonymous') }),
  Type.Object({ type: Type.Literal('service_auth'), login_hint: Type.String({ minLength: 1 }) }),
  Type.Object({
    type: Type.Literal('identity_assertion'),
    assertion_type: Type.Literal('urn:ietf:params:oauth:token-type:id-jag'),
    assertion: Type.String({ minLength: 1 }),
  }),
] as const

export const IdentityBody = Type.Unsafe<Static<(typeof bodies)[number]>>({
  type: 'object',
  required: ['type'],
  discriminator: { propertyName: 'type' },
  oneOf: bodies,
})

export const IdentityAnswer = Type.Object({
  registration_id: Type.String(),
  registration_type: Type.String(),
  /** anonymous, identity_assertion */
  identity_assertion: Type.Optional(Type.String()),
  assertion_expires: Type.Optional(Type.String()),
  /** anonymous, service_auth */
  claim_url: Type.Optional(Type.String()),
  claim_token: Type.Optional(Type.String()),
  claim_token_expires: Type.Optional(Type.String()),
  post_claim_scopes: Type.Optional(Type.Array(Type.String())),
  /** anonymous */
  pre_claim_scopes: Type.Optional(Type.Array(Type.String())),
  /** service_auth */
  claim: Type.Optional(Ceremony),
  /** identity_assertion */
  scopes: Type.Optional(Type.Array(Type.String())),
})
