-- Sign-in at the deployer's identity providers: a session remembers which one it came from, to end it there too.

-- Up Migration

alter table sessions
  -- null: the development sign-in, or a session from before this migration.
  add column issuer text,
  -- The hint that the provider's end_session_endpoint asks for (OpenID Connect RP-Initiated Logout 1.0 section 2).
  add column id_token_sealed bytea;

-- Down Migration

alter table sessions drop column issuer, drop column id_token_sealed;
