/** Which cores run what: the servers measured have a core each, everything else shares the others. */
import { execFileSync } from 'node:child_process'
import { availableParallelism } from 'node:os'

/** Lists of cores as taskset writes them. Undefined: wherever there is room. */
export interface Cores {
  /** For the first server, the second, and so on. */
  servers: (string | undefined)[]
  /** For the load, Postgres and the proxy. */
  others: string | undefined
}

/** One core for each of `servers`, if one is left for the others. */
export function planCores(servers: number): Cores {
  const cores = availableParallelism()
  if (cores <= servers)
    return { servers: Array.from({ length: servers }, () => undefined), others: undefined }
  return {
    servers: Array.from({ length: servers }, (_, core) => String(core)),
    others: servers === cores - 1 ? String(servers) : `${servers}-${cores - 1}`,
  }
}

/** The command that runs `command` on these cores only. */
export function pinned(cores: string | undefined, command: string[]): string[] {
  return cores === undefined ? command : ['taskset', '-c', cores, ...command]
}

/** Keeps this process, and what it starts from now on, on these cores. */
export function pinSelf(cores: string | undefined): void {
  if (cores === undefined) return
  execFileSync('taskset', ['-a', '-p', '-c', cores, String(process.pid)], { stdio: 'pipe' })
}
