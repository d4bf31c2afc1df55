/** A Postgres of our own, which can be stopped and started, or a database of our own at DATABASE_URL, which cannot. */
import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { once } from 'node:events'
import pg from 'pg'
import type { Scope } from './scope.js'

const run = promisify(execFile)

export interface Postgres {
  url: string
  /** As when its machine fails: no checkpoint, no goodbye. Absent when it is not ours to stop. */
  crash?: () => Promise<void>
  start?: () => Promise<void>
}

export async function openPostgres(life: Scope, folder: string): Promise<Postgres> {
  const { DATABASE_URL } = process.env
  return DATABASE_URL ? ownDatabase(life, DATABASE_URL) : ownServer(life, folder)
}

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}

async function ownDatabase(life: Scope, at: string): Promise<Postgres> {
  const name = `registrar_chaos_${randomBytes(4).toString('hex')}`
  const ask = async (query: string) => {
    const client = new pg.Client({ connectionString: at })
    await client.connect()
    await client.query(query).finally(() => client.end())
  }
  await ask(`create database ${name}`)
  life.teardown(() => ask(`drop database ${name} with (force)`))
  const url = new URL(at)
  url.pathname = `/${name}`
  return { url: url.href }
}

async function ownServer(life: Scope, folder: string): Promise<Postgres> {
  const bin = findBinaries()
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
  const options = `-p ${port} -c listen_addresses=127.0.0.1 -c unix_socket_directories=''`
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

function findBinaries(): string {
  const root = '/usr/lib/postgresql'
  const versions = existsSync(root) ? readdirSync(root) : []
  const bins = versions
    .toSorted((a, b) => Number(b) - Number(a))
    .map((version) => join(root, version, 'bin'))
  const found = [...bins, ...(process.env.PATH ?? '').split(':')].find(
    (bin) => existsSync(join(bin, 'initdb')) && existsSync(join(bin, 'pg_ctl')),
  )
  if (found) return found
  throw new Error(
    'No initdb and pg_ctl found: install Postgres (apt-get install postgresql), or set DATABASE_URL to a server that may be disturbed.',
  )
}

async function unprivileged(): Promise<string> {
  return run('id', ['-u', 'postgres']).then(
    () => 'postgres',
    () => 'nobody',
  )
}
