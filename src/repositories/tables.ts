/** The tables as the migrations leave them, for Kysely. */
import type { ColumnType, Generated, JSONColumnType, Kysely, Transaction } from 'kysely'

export type Database = Kysely<Tables>
export type DatabaseTransaction = Transaction<Tables>

/** Set by the database when the row is inserted. */
type CreatedAt = ColumnType<Date, never, never>
/** Written as an expression of the database's own clock. */
type Time = ColumnType<Date, Date, Date>
type OptionalTime = ColumnType<Date | null, Date | null | undefined, Date | null>

export interface Tables {
  users: {
    id: string
    email: string | null
    phone_number: string | null
    created_at: CreatedAt
    forgotten_at: OptionalTime
  }
  issuers: {
    issuer: string
    name: string
    jwks_uri: string
    client_ids: string[]
    algorithms: string[]
    email_domains: string[]
    audiences: string[]
    required_amr: string[]
    multi_tenant: boolean
    created_at: CreatedAt
    disabled_at: OptionalTime
    removed_at: OptionalTime
  }
  delegations: {
    issuer: string
    subject: string
    user_id: string
    created_at: CreatedAt
    last_seen_at: Generated<Date>
    set_aside_at: OptionalTime
  }
  spent_assertions: { issuer: string; kind: AssertionKind; jti: string; expires_at: Time }
  sign_ins: {
    issuer: string
    subject: string
    user_id: string
    created_at: CreatedAt
    last_seen_at: Generated<Date>
  }
  sessions: {
    id_hash: Buffer
    user_id: string
    issuer: string | null
    id_token_sealed: Buffer | null
    created_at: CreatedAt
    last_seen_at: Generated<Date>
  }
  registrations: {
    id: string
    registration_type: RegistrationType
    user_id: string | null
    claim_token_hash: Buffer | null
    claim_expires_at: OptionalTime
    claim_token_used_at: OptionalTime
    claimed_at: OptionalTime
    revoked_at: OptionalTime
    expiry_recorded_at: OptionalTime
    generation: Generated<number>
    created_at: CreatedAt
    created_from: string | null
    issuer: string | null
    subject: string | null
    audience: string | null
    scopes: string[] | null
    set_aside_at: OptionalTime
    assertion_hash: Buffer | null
  }
  claim_attempts: {
    id: string
    registration_id: string
    token_hash: Buffer
    user_code_mac: Buffer
    login_hint_kind: 'email' | null
    login_hint: string | null
    pinned_user_id: string | null
    wrong_codes: Generated<number>
    requested_at: CreatedAt
    requested_from: string | null
    expires_at: Time
    superseded_at: OptionalTime
    declined_at: OptionalTime
    confirmed_at: OptionalTime
  }
  poll_states: {
    registration_id: string
    polled_at: Time
    interval_seconds: number
    slow_down: boolean
  }
  rate_limits: { name: string; key: string; count: number; started_at: Time }
  revoked_tokens: { jti: string; expires_at: Time }
  signing_keys: {
    kid: string
    public_jwk: JSONColumnType<Record<string, string>>
    private_jwk_sealed: Buffer
    created_at: CreatedAt
    signs_from: Time
    token_lifetime_seconds: Generated<number>
    retired_at: OptionalTime
  }
  deployment: { singleton: Generated<boolean>; issuer: string }
  secret_fingerprints: { fingerprint: string; created_at: CreatedAt }
  resource_servers: { id: string; name: string; secret_hash: Buffer; created_at: CreatedAt }
  audit_events: {
    id: Generated<string>
    occurred_at: CreatedAt
    event: string
    registration_id: string | null
    user_id: string | null
    address: string | null
    details: JSONColumnType<object | null> | null
  }
}

export type AssertionKind = 'id-jag' | 'secevent' | 'logout'
export type RegistrationType = 'anonymous' | 'service_auth' | 'identity_assertion'
