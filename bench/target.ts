/** A server that is measured. */
import type { Processes } from './accounting.js'
import type { Jobs } from './scenarios.js'

export interface Target {
  /** What it is called in tables. */
  name: string
  /** How many registrations it had at the start, without those for the load itself. */
  rows: number
  host: string
  port: number
  /** The CPU time of the server, and of its Postgres if that can be seen. */
  server: Processes
  postgres: Processes | undefined
  /** The CPU time of the proxy in front of the replicas. */
  proxy: Processes | undefined
  pids: () => number[]
  jobs: Jobs
}
