-- An assertion equal to the one on record needs no check of its signature, which is half the cost of an exchange.

-- Up Migration

-- SHA-256 of the identity assertion issued last with a claim token; null: none, or one that a provider vouched for.
alter table registrations add column assertion_hash bytea;

-- Down Migration

alter table registrations drop column assertion_hash;
