-- The operator's command: registrations by age, provider and state among millions, and people who were forgotten.

-- Up Migration

-- Their row stays, or their registrations, which it would take along, would be unknown instead of revoked.
alter table users add column forgotten_at timestamptz;

create index registrations_created_at_idx on registrations (created_at, id);
create index registrations_issuer_idx on registrations (issuer, created_at, id) where issuer is not null;
create index registrations_bound_idx on registrations (created_at, id) where claimed_at is not null;
create index registrations_revoked_idx on registrations (created_at, id) where revoked_at is not null;
create index registrations_expired_idx on registrations (claim_expires_at)
  where claimed_at is null and revoked_at is null and expiry_recorded_at is not null;
create index claim_attempts_login_hint_idx on claim_attempts (login_hint) where login_hint is not null;
create index audit_events_user_id_idx on audit_events (user_id, id) where user_id is not null;

-- Down Migration

drop index audit_events_user_id_idx, claim_attempts_login_hint_idx, registrations_expired_idx, registrations_revoked_idx,
  registrations_bound_idx, registrations_issuer_idx, registrations_created_at_idx;
alter table users drop column forgotten_at;
