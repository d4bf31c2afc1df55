/** A Postgres of our own, which can be stopped and started, or a database of our own at DATABASE_URL, which cannot. */
import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import pg from 'pg'
import { freePort } from '../src/embedded.js'
import type { Scope } from './scope.js'

const run = promisify(execFile)
const NO_BINARIES =
  'No initdb and pg_ctl found: install Postgres (apt-get install postgresql), or set DATABASE_URL to a server that may be disturbed.'

export interface Postgres {
  url: string
  /** Ends it as if its machine failed: without a checkpoint. Absent when it is not ours to stop. */
  crash?: () => Promise<void>
  start?: () => Promise<void>
}

/** `name`: the prefix of the database that is made at DATABASE_URL. */
export async function openPostgres(life: Scope, folder: string, name: string): Promise<Postgres> {
  const { DATABASE_URL } = process.env
  return DATABASE_URL
    ? { url: await makeDatabase(life, DATABASE_URL, name) }
    : await ownServer(life, folder)
}

/** Runs one statement on a connection of its own. */
export async function ask(url: string, query: string): Promise<pg.QueryResult> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  return await client.query(query).finally(() => client.end())
}

/** Makes a database on the server of `at`, dropped at the end. Returns its URL. */
export async function makeDatabase(life: Scope, at: string, prefix: string): Promise<string> {
  const name = `${prefix}_${randomBytes(4).toString('hex')}`
  await ask(at, `create database ${name}`)
  life.teardown(() => ask(at, `drop database ${name} with (force)`))
  const url = new URL(at)
  url.pathname = `/${name}`
  return url.href
}

/** Starts a Postgres from the machine's newest binaries, with `settings` over Postgres's defaults. */
export async function ownServer(
  life: Scope,
  folder: string,
  settings: Record<string, string> = {},
): Promise<Required<Postgres>> {
  const bin = findBinaries()
  if (bin === undefined) throw new Error(NO_BINARIES)
  const data = join(folder, 'postgres')
  mkdirSync(data)
  // Postgres refuses to be root.
  const account = process.getuid?.() === 0 ? await unprivileged() : undefined
  if (account) await run('chown', [account, data])
  const tool = (name: string, ...args: string[]) =>
    account
      ? run('runuser', ['-u', account, '--', join(bin, name), ...args], { cwd: folder })
      : run(join(bin, name), args, { cwd: folder })

  await tool('initdb', '-D', data, '-U', 'postgres', '--auth=trust', '-E', 'UTF8', '--no-locale')
  const port = await freePort()
  const given = Object.entries({ listen_addresses: '127.0.0.1', ...settings })
  const options = [
    `-p ${port} -c unix_socket_directories=''`,
    ...given.map(([name, value]) => `-c ${name}=${value}`),
  ].join(' ')
  const log = join(data, 'log')
  const start = () =>
    tool('pg_ctl', '-D', data, '-l', log, '-w', '-t', '60', '-o', options, 'start')
  const crash = () => tool('pg_ctl', '-D', data, '-m', 'immediate', '-w', 'stop')
  let over = false
  let busy: Promise<unknown> = Promise.resolve()
  const unlessOver = (what: () => Promise<unknown>) => async () => {
    if (!over) await (busy = what())
  }
  life.teardown(async () => {
    over = true
    await busy.catch(() => {})
    if (existsSync(join(data, 'postmaster.pid'))) await crash()
  })
  await unlessOver(start)()
  return {
    url: `postgres://postgres@127.0.0.1:${port}/postgres`,
    crash: unlessOver(crash),
    start: unlessOver(start),
  }
}

export function findBinaries(): string | undefined {
  const root = '/usr/lib/postgresql'
  const versions = existsSync(root) ? readdirSync(root) : []
  const bins = versions
    .toSorted((a, b) => Number(b) - Number(a))
    .map((version) => join(root, version, 'bin'))
  return [...bins, ...(process.env.PATH ?? '').split(':')].find(
    (bin) => existsSync(join(bin, 'initdb')) && existsSync(join(bin, 'pg_ctl')),
  )
}

async function unprivileged(): Promise<string> {
  return run('id', ['-u', 'postgres']).then(
    () => 'postgres',
    () => 'nobody',
  )
}
