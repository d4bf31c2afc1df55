/** One replica, as a process that can be killed, told to stop, and started again at the same address. */
import { spawn, type ChildProcess } from 'node:child_process'
import { openSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { freePort } from '../src/embedded.js'
import { pinned } from './cores.js'
import type { Scope } from './scope.js'

export const SERVER = join(import.meta.dirname, '../src/server.js')
const READY_WITHIN_MS = 60_000

export interface Replica {
  host: string
  url: string
  /** The process that was started last. */
  pid(): number
  start(): Promise<void>
  /** Resolves to the exit code when the process has ended. */
  stop(signal: 'SIGKILL' | 'SIGTERM'): Promise<number | null>
  /** Resolves when /readyz says that it is ready. @throws after a minute. */
  ready(): Promise<void>
}

interface ReplicaOptions {
  /** The cores that it may use, as taskset writes them. */
  cores?: string | undefined
  /** Another build's server.js. */
  server?: string
  nodeArguments?: string[]
}

export async function makeReplica(
  life: Scope,
  folder: string,
  name: string,
  env: NodeJS.ProcessEnv,
  { cores, server = SERVER, nodeArguments = [] }: ReplicaOptions = {},
): Promise<Replica> {
  const port = await freePort()
  const host = `127.0.0.1:${port}`
  const path = join(folder, `${name}.log`)
  const log = openSync(path, 'a')
  let over = false
  let child: ChildProcess | undefined
  let ended: Promise<number | null> = Promise.resolve(null)

  const replica: Replica = {
    host,
    url: `http://${host}`,
    pid: () => child!.pid!,
    async start() {
      if (over) return
      const { PATH } = process.env
      const node = [process.execPath, ...flagsOf(server), ...nodeArguments]
      const command = pinned(cores, [...node, server])
      child = spawn(command[0]!, command.slice(1), {
        env: { PATH, ...env, PORT: String(port) },
        stdio: ['ignore', log, log],
      })
      ended = new Promise((resolve) => child!.once('close', resolve))
    },
    async stop(signal) {
      child?.kill(signal)
      return await ended
    },
    async ready() {
      const until = Date.now() + READY_WITHIN_MS
      while (Date.now() < until) {
        const answer = await fetch(`http://${host}/readyz`).catch(() => undefined)
        if (answer?.ok) return
        // The database may have been away when it started: an orchestrator would start it again.
        if (typeof child?.exitCode === 'number') await replica.start()
        await sleep(50)
      }
      const last = readFileSync(path, 'utf8').slice(-1_000)
      throw new Error(`${name} was not ready within a minute; it said last:\n${last}`)
    },
  }
  life.teardown(async () => {
    over = true
    await replica.stop('SIGKILL')
  })
  return replica
}

/** The flags for node in that build's `npm start`: `exec node --flag … dist/src/server.js`. */
function flagsOf(server: string): string[] {
  const manifest = join(dirname(server), '../../package.json')
  const { start } = JSON.parse(readFileSync(manifest, 'utf8')).scripts
  const words = String(start).split(' ')
  // Earlier builds have no exec.
  return words.slice(words.indexOf('node') + 1, -1)
}
