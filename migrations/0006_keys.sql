-- The life of a signing key, and which secrets this database was made with.

-- Up Migration

alter table signing_keys
  -- Published before it signs: whoever caches our JWKS has it by then.
  add column signs_from timestamptz not null default now(),
  -- The longest that a token under it may be presented: what the replicas that sign with it say.
  add column token_lifetime_seconds integer not null default 0;
update signing_keys set signs_from = created_at;

create table secret_fingerprints (
  -- Derived from SECRET, and leads nowhere back.
  fingerprint text constraint secret_fingerprints_pkey primary key,
  -- Not now(): of a list that is met at once, each has its place.
  created_at timestamptz not null default clock_timestamp()
);

-- Down Migration

drop table secret_fingerprints;
alter table signing_keys drop column signs_from, drop column token_lifetime_seconds;
