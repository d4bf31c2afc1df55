-- Wrong codes are limited for each account, over all its claims: the trail says who typed them and when.

-- Up Migration

create index audit_events_wrong_codes_idx on audit_events (user_id, occurred_at)
  where event = 'user_code.refused';

-- Down Migration

drop index audit_events_wrong_codes_idx;
