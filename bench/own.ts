/** Our own servers, as they run in production, each on a filled database of its own. */
import { randomBytes } from 'node:crypto'
import { chmodSync, mkdtempSync } from 'node:fs'
import { join } from 'node:path'
import { readConfig } from '../src/config.js'
import { connect } from '../src/database.js'
import { hashSecret } from '../src/domain/secrets.js'
import { migrate } from '../src/migrations.js'
import { insertResourceServer } from '../src/repositories/resource-servers.js'
import { ISSUER } from '../test/fixtures/app.js'
import type { TestProvider } from '../test/fixtures/provider.js'
import { family, postgresProcesses, processes } from './accounting.js'
import type { Cores } from './cores.js'
import { startNginx } from './nginx.js'
import { makeDatabase } from './postgres.js'
import { makeReplica, SERVER } from './replica.js'
import { fill } from './rows.js'
import { ownJobs } from './scenarios.js'
import type { Scope } from './scope.js'
import type { Target } from './target.js'
import { makeSigner, type Signer } from './tokens.js'

export interface Deployment {
  life: Scope
  folder: string
  /** Where databases are made. */
  postgresUrl: string
  cores: Cores
  replicas: number
  /** Settings that differ from production. */
  env: Record<string, string>
  /** A folder for CPU profiles. */
  profile: string | undefined
  provider: TestProvider
}

const PROVIDER_NAME = 'Bench'
const RESOURCE_SERVER = 'bench'

export interface Prepared {
  url: string
  /** The number of registrations in the database. */
  count: number
  env: Record<string, string>
  signer: Signer
  /** The `Authorization` header of the resource server that may introspect. */
  authorization: string
}

/** A migrated database with a key, and `count` registrations in it. */
export async function prepare(deployment: Deployment, count: number): Promise<Prepared> {
  const { life, provider, replicas } = deployment
  const url = await makeDatabase(life, deployment.postgresUrl, 'registrar_bench')
  await migrate(url, 'up')
  const env: Record<string, string> = {
    ISSUER,
    SECRET: randomBytes(32).toString('base64'),
    DATABASE_URL: url,
    TRUST_PROXY: replicas > 1 ? '1' : 'false',
    ...deployment.env,
  }
  const config = readConfig(env)
  const signer = await makeSigner(url, config)
  const authorization = await introduce(url, provider)
  const seconds = await fill(url, { count, issuer: provider.issuer, audience: ISSUER })
  console.error(`  ${count} registrations loaded in ${seconds.toFixed(1)} s`)

  return { url, count, env, signer, authorization }
}

export async function startOwn(
  deployment: Deployment,
  { name, rows, server = SERVER }: { name: string; rows: number; server?: string | undefined },
  { url, count, env, signer, authorization }: Prepared,
): Promise<Target> {
  const { life, cores, provider, replicas, profile } = deployment
  const nodeArguments = profile === undefined ? [] : ['--cpu-prof', `--cpu-prof-dir=${profile}`]
  const folder = mkdtempSync(join(deployment.folder, 'server-'))
  chmodSync(folder, 0o711)
  const started = await Promise.all(
    Array.from({ length: replicas }, async (_, n) => {
      const replica = await makeReplica(life, folder, `replica-${n}`, env, {
        cores: cores.servers[n],
        server,
        nodeArguments,
      })
      await replica.start()
      await replica.ready()
      // If it were killed, it would write no profile.
      if (profile !== undefined) life.teardown(() => replica.stop('SIGTERM'))
      return replica
    }),
  )
  const hosts = started.map((replica) => replica.host)
  const nginx = replicas > 1 ? await startNginx(life, folder, hosts) : undefined
  const { hostname: host, port } = new URL(nginx?.url ?? started[0]!.url)
  const pids = started.map((replica) => replica.pid())
  return {
    name,
    rows,
    host,
    port: Number(port),
    server: processes(pids),
    postgres: await postgresProcesses(url),
    proxy: nginx && family(nginx.pid),
    pids: () => pids,
    jobs: ownJobs(signer, count, provider, authorization),
  }
}

/** Adds the provider and a resource server to the database; returns the latter's `Authorization` header. */
async function introduce(url: string, provider: TestProvider): Promise<string> {
  const { pool, db } = connect(url, { max: 1, onLost: () => {} })
  try {
    await provider.trust(pool, { name: PROVIDER_NAME })
    const secret = randomBytes(32).toString('base64url')
    await insertResourceServer(db, {
      id: RESOURCE_SERVER,
      name: RESOURCE_SERVER,
      secret_hash: hashSecret(secret),
    })
    return `Basic ${Buffer.from(`${RESOURCE_SERVER}:${secret}`).toString('base64')}`
  } finally {
    await pool.end()
  }
}
