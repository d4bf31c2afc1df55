/**
 * Refuses a database that belongs to another ISSUER (C50): replicas that disagree about it would refuse each other's
 * tokens, one request in two.
 */
import fp from 'fastify-plugin'
import { otherDeployment } from '../domain/deployment.js'
import { findIssuerOfDatabase, takeDatabase } from '../repositories/deployment.js'

export default fp(
  async (app) => {
    const { db } = app
    const { ISSUER, local } = app.config
    // A localhost issuer is for trying things, at any port.
    if (local) return
    async function requireOwnDatabase(): Promise<void> {
      const issuer = await findIssuerOfDatabase(db)
      if (issuer !== undefined && issuer !== ISSUER) throw new Error(otherDeployment(issuer))
    }
    await takeDatabase(db, ISSUER)
    await requireOwnDatabase()
    app.readiness.push(requireOwnDatabase)
  },
  { name: 'deployment', dependencies: ['database', 'readiness'] },
)
