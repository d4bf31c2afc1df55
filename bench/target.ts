/** A server that is measured. */
import type { Processes } from './accounting.js'
import type { Jobs } from './scenarios.js'

export interface Target {
  /** What it is called in tables. */
  name: string
  /** How many registrations it had at the start, beside the few that the load itself needs. */
  rows: number
  host: string
  port: number
  /** Of the server, and of its Postgres if it has one that can be seen. */
  server: Processes
  postgres: Processes | undefined
  /** Of what stands before the replicas. */
  proxy: Processes | undefined
  pids: () => number[]
  jobs: Jobs
}
