-- Limits count here for all replicas. Unlogged: after a crash of Postgres the counts may begin anew.

-- Up Migration

create unlogged table rate_limits (
  name text not null,
  -- A network, a hinted address, or empty for what is counted over all.
  key text not null,
  count integer not null,
  started_at timestamptz not null,
  constraint rate_limits_pkey primary key (name, key)
) with (fillfactor = 70);
create index rate_limits_started_at_idx on rate_limits (started_at);

-- Down Migration

drop table rate_limits;
