-- Providers that vouch for users: the trust list, what they said of whom, and which of their assertions were used.

-- Up Migration

create table issuers (
  issuer text constraint issuers_pkey primary key,
  name text not null,
  jwks_uri text not null,
  client_ids text[] not null,
  algorithms text[] not null,
  -- Empty: the issuer may vouch for addresses in any domain.
  email_domains text[] not null,
  -- Empty: our issuer or our resource.
  audiences text[] not null,
  required_amr text[] not null,
  -- Subjects are unique only together with their tenant.
  multi_tenant boolean not null,
  created_at timestamptz not null default now(),
  disabled_at timestamptz,
  -- Kept after removal: its security events still revoke.
  removed_at timestamptz
);

alter table users add column phone_number text constraint users_phone_number_key unique;

create table delegations (
  issuer text not null,
  subject text not null,
  user_id text not null constraint delegations_user_id_fkey references users on delete cascade,
  created_at timestamptz not null default now(),
  last_seen_at timestamptz not null default now(),
  -- Made before the user's first sign-in: counts again when the user confirms it.
  set_aside_at timestamptz,
  constraint delegations_pkey primary key (issuer, subject)
);
create index delegations_user_id_idx on delegations (user_id, issuer);

alter table registrations
  add column issuer text,
  add column subject text,
  add column audience text,
  -- What the provider asked for, when it narrowed it.
  add column scopes text[],
  add column set_aside_at timestamptz,
  add constraint registrations_subject_check check ((issuer is null) = (subject is null));
create unique index registrations_subject_key on registrations (issuer, subject, audience) where revoked_at is null;

alter table claim_attempts
  alter column login_hint_kind drop not null,
  alter column login_hint drop not null,
  -- A step-up: only this user can confirm, whatever their address.
  add column pinned_user_id text constraint claim_attempts_pinned_user_id_fkey references users on delete cascade,
  add constraint claim_attempts_whose_check
    check ((login_hint is null) = (login_hint_kind is null) and (login_hint is null) <> (pinned_user_id is null));
create index claim_attempts_pinned_user_id_idx on claim_attempts (pinned_user_id) where pinned_user_id is not null;

create table spent_assertions (
  issuer text not null,
  kind text not null constraint spent_assertions_kind_check check (kind in ('id-jag', 'secevent', 'logout')),
  jti text not null,
  expires_at timestamptz not null,
  constraint spent_assertions_pkey primary key (issuer, kind, jti)
);
create index spent_assertions_expires_at_idx on spent_assertions (expires_at);

-- Down Migration

drop table spent_assertions;
delete from claim_attempts where pinned_user_id is not null;
alter table claim_attempts
  drop column pinned_user_id,
  alter column login_hint_kind set not null,
  alter column login_hint set not null;
alter table registrations
  drop column issuer, drop column subject, drop column audience, drop column scopes, drop column set_aside_at;
drop table delegations;
alter table users drop column phone_number;
drop table issuers;
