/** How much CPU and memory processes used, from the operating system's accounting (proc(5)). */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import pg from 'pg'

/** The unit of times in /proc/PID/stat: Linux shows hundredths of a second to programs on every machine. */
const TICK_MICROSECONDS = 10_000

/** The CPU microseconds that a group of processes has used: of one server, or of a Postgres cluster. */
export type Processes = () => number

/** CPU microseconds of all threads, as exact as the kernel tells. 0 once the process is gone. */
function cpuOf(pid: number): number {
  try {
    let nanoseconds = 0
    for (const thread of readdirSync(`/proc/${pid}/task`))
      nanoseconds += Number(
        readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'utf8').split(' ')[0],
      )
    if (nanoseconds > 0) return nanoseconds / 1000
  } catch {
    // A kernel without schedstat, or a process that has just ended.
  }
  const stat = statOf(pid)
  return stat ? (stat.utime + stat.stime) * TICK_MICROSECONDS : 0
}

/** Fields 4 and 14 to 17; the name before them may hold spaces and brackets. */
function statOf(pid: number | string) {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8')
    const fields = text
      .slice(text.lastIndexOf(')') + 2)
      .split(' ')
      .map(Number)
    const [ppid, utime, stime, cutime, cstime] = [1, 11, 12, 13, 14].map((i) => fields[i]!)
    const name = text.slice(text.indexOf('(') + 1, text.lastIndexOf(')'))
    return { name, ppid: ppid!, utime: utime!, stime: stime!, reaped: cutime! + cstime! }
  } catch {
    return undefined
  }
}

export function processes(pids: number[]): Processes {
  return () => pids.reduce((sum, pid) => sum + cpuOf(pid), 0)
}

/** A process, its children, and those of its children that have ended. */
export function family(parent: number): Processes {
  return () => {
    let sum = cpuOf(parent) + (statOf(parent)?.reaped ?? 0) * TICK_MICROSECONDS
    for (const entry of readdirSync('/proc'))
      if (/^\d+$/.test(entry) && statOf(entry)?.ppid === parent) sum += cpuOf(Number(entry))
    return sum
  }
}

/** All processes of the cluster behind the URL. Undefined when it is on another machine. */
export async function postgresProcesses(url: string): Promise<Processes | undefined> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    const { rows } = await client.query('select pg_backend_pid() as pid')
    const backend = statOf(rows[0].pid)
    return backend?.name.startsWith('postgres') ? family(backend.ppid) : undefined
  } finally {
    await client.end()
  }
}

/**
 * Of the CPU time wanted since now, the percentage that the host of a virtual machine gave to others (`steal` of
 * proc(5)): measurements in that time are slower, and the slowest requests are the host's doing.
 */
export function stolen(): () => number {
  const read = () => {
    const line = readFileSync('/proc/stat', 'utf8').split('\n', 1)[0]!
    const [user, nice, system, , , irq, softirq, steal] = line.split(/ +/).slice(1).map(Number)
    return { used: user! + nice! + system! + irq! + softirq!, steal: steal! }
  }
  const before = read()
  return () => {
    const after = read()
    const steal = after.steal - before.steal
    return (100 * steal) / Math.max(1, after.used - before.used + steal)
  }
}

/** Resident memory of all these processes together, in MB. */
export function residentMb(pids: number[]): number {
  const kilobytes = pids.map((pid) => {
    try {
      return Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0)
    } catch {
      return 0
    }
  })
  return kilobytes.reduce((a, b) => a + b, 0) / 1024
}

/** The process that listens on a TCP port of this machine, or undefined when it cannot be seen. */
export function listenerOf(port: number): number | undefined {
  const inodes = new Set<string>()
  for (const table of ['/proc/net/tcp', '/proc/net/tcp6'])
    for (const line of readFileSync(table, 'utf8').split('\n').slice(1)) {
      const [, local, , state, , , , , , inode] = line.trim().split(/\s+/)
      if (state === '0A' && Number.parseInt(local!.split(':')[1]!, 16) === port) inodes.add(inode!)
    }
  for (const entry of readdirSync('/proc')) {
    if (!/^\d+$/.test(entry)) continue
    try {
      for (const fd of readdirSync(`/proc/${entry}/fd`)) {
        const inode = /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/${entry}/fd/${fd}`))?.[1]
        if (inode !== undefined && inodes.has(inode)) return Number(entry)
      }
    } catch {
      // Another user's process, or one that is gone.
    }
  }
  return undefined
}
