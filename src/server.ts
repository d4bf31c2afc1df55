/** environment → config → database → app → listen; stop on a signal. */
import { setTimeout as sleep } from 'node:timers/promises'
import { buildApp } from './app.js'
import { readConfig } from './config.js'
import { sentence } from './database.js'
import { migrate } from './migrations.js'
import { openDatabase } from './open-database.js'
import { localSecret } from './secret.js'

/** Orchestrators kill after 30 s. */
const STOP_WITHIN_MS = 28_000

/** Resolves once, at the first signal. Later ones do not cut the stop short. */
const stopSignal = new Promise<NodeJS.Signals>((resolve) => {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, resolve)
})
const say = (line: string) => console.error(line)

try {
  await serve()
} catch (error) {
  say(sentence(error))
  process.exitCode = 1
}

async function serve(): Promise<void> {
  const config = readConfig(process.env)
  if (config.secrets.length === 0) config.secrets = [localSecret(config.DATA_DIR)]
  const database = await openDatabase(config, say)
  try {
    if (database.embedded) await migrate(database.url, 'up', { log: say })
    const app = await buildApp({ ...config, DATABASE_URL: database.url })
    try {
      // The metrics port is open before the public one.
      await listening('METRICS_HOST, METRICS_PORT', app.ready())
      const { HOST: host, PORT: port } = config
      await listening('HOST, PORT', app.listen({ host, port }))
    } catch (error) {
      await app.close()
      throw error
    }
    if (config.local) say(welcome(config.ISSUER))
    app.log.info({ signal: await stopSignal }, 'stopping')
    setTimeout(process.exit, STOP_WITHIN_MS, 1).unref()
    app.drain()
    await sleep(config.STOP_GRACE_SECONDS * 1000)
    await app.close()
  } finally {
    await database.close()
  }
}

/** Names the settings whose address cannot be listened at. */
async function listening(settings: string, begun: PromiseLike<unknown>): Promise<void> {
  try {
    await begun
  } catch (cause) {
    const { message, syscall } = cause as NodeJS.ErrnoException
    if (syscall !== 'listen' && syscall !== 'getaddrinfo') throw cause
    throw new Error(`${settings}: ${message}`, { cause })
  }
}

function welcome(issuer: string): string {
  return `
Agent Registrar is ready.

  Open         ${issuer}/
  Agents read  ${issuer}/auth.md
  Try next     npm run agent -- --issuer ${issuer} --email you@example.com

Stop it with Ctrl-C.
`
}
