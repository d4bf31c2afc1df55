/**
 * The part of the audit trail that may follow its answer (CONFORMANCE PRF-36: `token.issued`, within a second). A busy
 * replica writes it at most fifty times a second; one with less to do, or whose writes fail, writes before it answers.
 */
import fp from 'fastify-plugin'
import { recordAudit, recordMissing, type AuditEntry } from '../repositories/audit-events.js'
import { writeBehind } from '../write-behind.js'

declare module 'fastify' {
  interface FastifyInstance {
    /** Records the entry; the caller may answer when this resolves. */
    recordSoon(entry: AuditEntry): Promise<void>
  }
}

export default fp(
  async (app) => {
    const { db } = app
    const record = (entries: AuditEntry[]) => recordAudit(db, ...entries)
    const { write, end } = writeBehind(
      app.batched(record),
      record,
      (entries) => recordMissing(db, entries),
      (error) => app.log.warn({ err: error }, 'could not write the audit trail, trying again'),
    )
    app.decorate('recordSoon', write)
    app.addHook('onClose', async () => {
      const lost = await end()
      if (lost.length > 0) app.log.error({ lost }, 'these are not in the audit trail')
    })
  },
  { name: 'trail', dependencies: ['database'] },
)
