-- A person's agents are listed newest first.

-- Up Migration

create index registrations_claimed_idx on registrations (user_id, claimed_at desc) where claimed_at is not null;

-- Down Migration

drop index registrations_claimed_idx;
