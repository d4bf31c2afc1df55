/** Who runs where: what is measured has a core of its own, everything else shares the others. */
import { execFileSync } from 'node:child_process'
import { availableParallelism } from 'node:os'

/** As taskset writes them. Undefined: wherever there is room. */
export interface Cores {
  /** Of the first server, of the second … */
  servers: (string | undefined)[]
  /** Of the load, Postgres and the proxy. */
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

/** The command, to be run on these cores only. */
export function pinned(cores: string | undefined, command: string[]): string[] {
  return cores === undefined ? command : ['taskset', '-c', cores, ...command]
}

/** This process, and what it starts from now on. */
export function pinSelf(cores: string | undefined): void {
  if (cores === undefined) return
  execFileSync('taskset', ['-a', '-p', '-c', cores, String(process.pid)], { stdio: 'pipe' })
}
