-- Whose database this is: replicas that disagree about it would refuse each other's tokens.

-- Up Migration

create table deployment (
  -- One row.
  singleton boolean constraint deployment_pkey primary key default true
    constraint deployment_singleton_check check (singleton),
  issuer text not null
);

-- Down Migration

drop table deployment;
