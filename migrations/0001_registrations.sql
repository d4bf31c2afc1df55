-- The first set: people and their sessions, agents' registrations and the ceremonies that link the two,
-- what revokes tokens (nothing that is signed is stored), the signing keys, and the audit trail.

-- Up Migration

create table users (
  id text constraint users_pkey primary key,
  -- Verified and canonical (trimmed, NFC, lower case); what a login hint is compared with.
  email text constraint users_email_key unique,
  created_at timestamptz not null default now()
);

create table sign_ins (
  issuer text not null,
  subject text not null,
  user_id text not null constraint sign_ins_user_id_fkey references users on delete cascade,
  created_at timestamptz not null default now(),
  last_seen_at timestamptz not null default now(),
  constraint sign_ins_pkey primary key (issuer, subject)
);
create index sign_ins_user_id_idx on sign_ins (user_id);

create table sessions (
  id_hash bytea constraint sessions_pkey primary key,
  user_id text not null constraint sessions_user_id_fkey references users on delete cascade,
  created_at timestamptz not null default now(),
  last_seen_at timestamptz not null default now()
);
create index sessions_user_id_idx on sessions (user_id);
create index sessions_created_at_idx on sessions (created_at);

create table registrations (
  id text constraint registrations_pkey primary key,
  registration_type text not null
    constraint registrations_type_check check (registration_type in ('anonymous', 'service_auth', 'identity_assertion')),
  user_id text constraint registrations_user_id_fkey references users on delete cascade,
  claim_token_hash bytea constraint registrations_claim_token_hash_key unique,
  claim_expires_at timestamptz,
  -- First success of the claim grant; the token answers for a short grace after it.
  claim_token_used_at timestamptz,
  claimed_at timestamptz,
  revoked_at timestamptz,
  -- Status is derived from the times above; this only keeps registration.expired from being audited twice.
  expiry_recorded_at timestamptz,
  -- Raised to kill at once every assertion and access token minted before.
  generation integer not null default 1 constraint registrations_generation_check check (generation > 0),
  created_at timestamptz not null default now(),
  created_from inet,
  constraint registrations_claimed_user_check check (claimed_at is null or user_id is not null),
  constraint registrations_claim_token_check check ((claim_token_hash is null) = (claim_expires_at is null))
);
create index registrations_user_id_idx on registrations (user_id);
create index registrations_unrecorded_expiry_idx on registrations (claim_expires_at)
  where claimed_at is null and revoked_at is null and expiry_recorded_at is null;

create table claim_attempts (
  id text constraint claim_attempts_pkey primary key,
  registration_id text not null constraint claim_attempts_registration_id_fkey references registrations on delete cascade,
  token_hash bytea not null constraint claim_attempts_token_hash_key unique,
  -- HMAC keyed outside the database: a plain hash of six digits is no secret.
  user_code_mac bytea not null,
  login_hint_kind text not null constraint claim_attempts_login_hint_kind_check check (login_hint_kind in ('email')),
  login_hint text not null,
  wrong_codes integer not null default 0,
  requested_at timestamptz not null default now(),
  requested_from inet,
  expires_at timestamptz not null,
  superseded_at timestamptz,
  declined_at timestamptz,
  confirmed_at timestamptz
);
create unique index claim_attempts_current_key on claim_attempts (registration_id) where superseded_at is null;
create index claim_attempts_registration_id_idx on claim_attempts (registration_id, requested_at);

-- Losing a poll's time costs one early poll, so it is not worth a write-ahead log.
create unlogged table poll_states (
  registration_id text constraint poll_states_pkey primary key,
  polled_at timestamptz not null,
  interval_seconds integer not null,
  slow_down boolean not null
) with (fillfactor = 50);

create table revoked_tokens (
  jti text constraint revoked_tokens_pkey primary key,
  expires_at timestamptz not null
);
create index revoked_tokens_expires_at_idx on revoked_tokens (expires_at);

create table signing_keys (
  kid text constraint signing_keys_pkey primary key,
  public_jwk jsonb not null,
  private_jwk_sealed bytea not null,
  created_at timestamptz not null default now(),
  retired_at timestamptz
);

create table resource_servers (
  id text constraint resource_servers_pkey primary key,
  name text not null constraint resource_servers_name_key unique,
  secret_hash bytea not null,
  created_at timestamptz not null default now()
);

-- Append-only. No foreign keys: the trail outlives what it tells of.
create table audit_events (
  id bigint generated always as identity constraint audit_events_pkey primary key,
  occurred_at timestamptz not null default now(),
  event text not null,
  registration_id text,
  user_id text,
  address inet,
  details jsonb
);
create index audit_events_registration_id_idx on audit_events (registration_id, id);

-- Down Migration

drop table audit_events, resource_servers, signing_keys, revoked_tokens, poll_states,
  claim_attempts, registrations, sessions, sign_ins, users;
