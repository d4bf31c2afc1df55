/** Whether an error means that the database is away, not that the statement is wrong (PROTOCOL §3: 503). */

/**
 * Codes that say "away": connecting (28, 3D000, 55000 too), resources, shutdown, read-only, timeouts, conflicts; never
 * a bad query. 0A000 is what a standby answers for an unlogged table, and Postgres for a kept plan whose table has
 * changed.
 */
const AWAY =
  /^(08...|0A000|28...|3D000|53...|55000|55P03|57P0.|57014|25006|40001|40P01|ECONN.*|EPIPE|ETIMEDOUT|E(HOST|NET)UNREACH|ENOTFOUND|EAI_AGAIN|ENOENT)$/
/** Whatever answers cannot prove, or no longer, that it is our database: Node's codes for X.509 and TLS. */
const UNTRUSTED =
  /^(CERT_.+|CRL_.+|UNABLE_TO_.+|INVALID_(CA|PURPOSE)|(DEPTH_ZERO_)?SELF_SIGNED_CERT.*|HOSTNAME_MISMATCH|EPROTO|ERR_(TLS|SSL)_.+)$/
const AWAY_MESSAGE =
  /^(timeout exceeded when trying to connect|timeout expired|Connection terminated|Client (has encountered a connection error|was closed)|Cannot use a pool after|The server does not support SSL|There was an error establishing an SSL)/

export function isDatabaseAway(error: unknown): boolean {
  const { code, message, severity } = error as Record<string, unknown>
  // Postgres ended the connection, or did not let it begin.
  if (severity === 'FATAL' || severity === 'PANIC') return true
  return (
    AWAY.test(String(code)) || UNTRUSTED.test(String(code)) || AWAY_MESSAGE.test(String(message))
  )
}
