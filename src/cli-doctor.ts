/** `registrar doctor`: checks all that replicas need, and says how to fix what is not in place. It changes nothing. */
import type { Command } from 'commander'
import { fault, notChecked, ok, reasonOf, warning, type Check } from './cli-doctor-check.js'
import * as database from './cli-doctor-database.js'
import type { Connected } from './cli-doctor-database.js'
import { keys, type KeysSeen as Seen } from './cli-doctor-keys.js'
import { issuers, signIn } from './cli-doctor-providers.js'
import { proxy, publicUrl } from './cli-doctor-public.js'
import { output, print, printLine, say } from './cli-io.js'
import { visible } from './cli-table.js'
import { readSettings, type Config } from './config.js'
import { connect } from './database.js'
import { isThere, openDatabase } from './open-database.js'
import { hasLocalSecret, localSecret } from './secret.js'

const HELP = `
Looks at the settings, the database and its migrations, connections and clock, the signing keys, the keys of each issuer in
the trust list, the providers that people sign in with, and our own public URL; says what it found and what to fix. Run it
with the settings of a replica, where a replica runs: after each deployment, and when you are paged. It changes nothing.
Exits with 1 when there is a fault; a warning is not one.

Examples:
  registrar doctor
  registrar doctor --json | jq '.checks[] | select(.status != "ok")'`

const ON_DATABASE = ['migrations', 'connections', 'clock']
const ON_TABLES = ['privileges', 'deployment', 'keys', 'issuers']

export function addDoctorCommand(program: Command): void {
  program
    .command('doctor')
    .description('check that everything is in place, and say what to fix')
    .addHelpText('after', HELP)
    .action(async () => {
      const checks = await examine(process.env)
      const faults = checks.filter(({ status }) => status === 'fault').length
      if (faults > 0) process.exitCode = 1
      if (output.asked) await print({ ok: faults === 0, checks })
      else await printLine(inWords(checks))
    })
}

interface Patient {
  config: Config
  /** Settings whose values cannot be used. */
  faulty: Set<string>
}

async function examine(env: NodeJS.ProcessEnv): Promise<Check[]> {
  const { config, faults } = readSettings(env)
  const patient = { config, faulty: new Set(faults.map((text) => /^\w+/.exec(text)![0])) }
  const settings =
    faults.length === 0
      ? [ok('settings', 'all of them can be used')]
      : faults.map((text) => fault('settings', text, 'correct it: no replica starts with it'))
  const { checks, kid } = await onDatabase(patient)
  const unusable = (...names: string[]) => names.find((name) => patient.faulty.has(name))
  const SIGN_IN = unusable('SIGN_IN', 'OIDC_ISSUER', 'OIDC_CLIENT_ID', 'OIDC_PROVIDERS', 'ISSUER')
  const ISSUER = unusable('ISSUER')
  const [people, agents] = await Promise.all([
    SIGN_IN ? [notChecked('sign-in', SIGN_IN)] : signIn(config),
    ISSUER ? [notChecked('public URL', ISSUER)] : publicUrl(config, kid),
  ])
  const trust = unusable('ISSUER', 'TRUST_PROXY') ? [] : proxy(config)
  return [...settings, ...checks, ...people, ...agents, ...trust]
}

async function onDatabase({ config, faulty }: Patient): Promise<Seen> {
  if (faulty.has('DATABASE_URL')) return { checks: [notChecked('database', 'DATABASE_URL')] }
  if (!isThere(config))
    return {
      checks: [
        warning(
          'database',
          `there is none in ${config.DATA_DIR} yet`,
          'start the server, which makes it (npm start), or set DATABASE_URL',
        ),
      ],
    }
  try {
    const { url, embedded, close } = await openDatabase(config, say)
    const { pool, db } = connect(url, { max: 1, onLost: say })
    try {
      return await look({ pool, db, embedded }, { config, faulty })
    } finally {
      await pool.end()
      await close()
    }
  } catch (error) {
    return { checks: [fault('database', reasonOf(error), 'look at what it says')] }
  }
}

/** One check after the other, on one connection: it may be the last one free. */
async function look(connected: Connected, { config, faulty }: Patient): Promise<Seen> {
  const { db } = connected
  const { check, reached } = await database.reachable(connected)
  if (!reached) return { checks: [check, ...without('the database', ...ON_DATABASE, ...ON_TABLES)] }
  const skew = faulty.has('CLOCK_SKEW_SECONDS') ? undefined : config.CLOCK_SKEW_SECONDS
  const migrations = await database.migrated(connected)
  const checks = [
    check,
    migrations.check,
    await database.connections(connected),
    await database.clock(connected, skew),
  ]
  if (!migrations.complete)
    return { checks: [...checks, ...without('the migrations', ...ON_TABLES)] }
  checks.push(await database.writable(connected))
  checks.push(
    faulty.has('ISSUER')
      ? notChecked('deployment', 'ISSUER')
      : await database.deployment(connected, config),
  )
  const found = faulty.has('SECRET')
    ? { checks: without('SECRET', 'keys') }
    : await keys(db, () => secretsOf(config))
  const trusted = faulty.has('ISSUER') ? without('ISSUER', 'issuers') : await issuers(db, config)
  return { ...found, checks: [...checks, ...found.checks, ...trusted] }
}

function without(want: string, ...names: string[]): Check[] {
  return names.map((name) => notChecked(name, want))
}

/** Without SECRET, the one that a local server keeps in DATA_DIR; none until its first start. */
function secretsOf({ secrets, DATA_DIR }: Config): Buffer[] {
  if (secrets.length > 0 || !hasLocalSecret(DATA_DIR)) return secrets
  return [localSecret(DATA_DIR)]
}

function inWords(checks: Check[]): string {
  const width = Math.max(...checks.map(({ name }) => name.length))
  const lines = checks.flatMap(({ name, status, found, fix }) => [
    `${status.padEnd(8)} ${name.padEnd(Math.min(width, 16))}  ${found}`,
    ...(fix === null ? [] : [`         fix: ${fix}`]),
  ])
  const count = (status: Check['status']) => checks.filter((one) => one.status === status).length
  const counts = `faults: ${count('fault')}, warnings: ${count('warning')}, ok: ${count('ok')}`
  return [...lines.map(visible), counts].join('\n')
}
