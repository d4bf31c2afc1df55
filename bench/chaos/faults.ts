/** Real faults. Each is over, except for its consequences, when its promise resolves. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Gate } from '../../test/fixtures/wire.js'
import { ask, type Postgres } from '../postgres.js'
import type { Replica } from '../replica.js'

/** `make` resolves to the number of faults it made; undefined: one. */
export type Faults = [name: string, make: () => Promise<number | void>][]

const OUTAGE_MS = 2_000
const SLOW_MS = 6_000
const CUTTING_MS = 2_000

export function faultsOf(replicas: Replica[], postgres: Postgres, gate: Gate): Faults {
  const [one, two] = replicas as [Replica, Replica]

  const kill = (replica: Replica) => async () => {
    await replica.stop('SIGKILL')
    await sleep(500)
    await replica.start()
  }

  /** As in an upgrade: the next replica stops when the last one is back. */
  async function roll(): Promise<void> {
    for (const replica of replicas) {
      const code = await replica.stop('SIGTERM')
      if (code !== 0) throw new Error(`A replica that was told to stop ended with ${code}`)
      await replica.start()
      await replica.ready()
    }
  }

  async function sever(): Promise<void> {
    await ask(
      postgres.url,
      `select pg_terminate_backend(pid) from pg_stat_activity
       where datname = current_database() and application_name = 'agent-registrar'`,
    )
  }

  const cut = (moment: 'before' | 'after') => async () => {
    let cuts = 0
    for (const until = Date.now() + CUTTING_MS; Date.now() < until; cuts += 1)
      await gate.breakAt('commit', moment)
    return cuts
  }

  async function slow(ms: number): Promise<void> {
    gate.slow(ms)
    await sleep(SLOW_MS)
    await gate.open()
  }

  async function away(how: () => unknown): Promise<void> {
    await how()
    await sleep(OUTAGE_MS)
    await gate.open()
  }

  async function crash(): Promise<void> {
    await postgres.crash!()
    await sleep(OUTAGE_MS)
    await postgres.start!()
  }

  return [
    ['SIGKILL of a replica', kill(one)],
    ['connections severed by Postgres', sever],
    ['cut before COMMIT arrives', cut('before')],
    ['rolling restart by SIGTERM', roll],
    ...(postgres.crash ? ([['Postgres stopped (immediate)', crash]] satisfies Faults) : []),
    ['cut before the answer to COMMIT', cut('after')],
    ['SIGKILL of the other replica', kill(two)],
    ['answers of Postgres 0.3 s late', () => slow(300)],
    ['answers of Postgres 5 s late', () => slow(5_000)],
    ['Postgres silent', () => away(gate.hush)],
    ['Postgres refuses connections', () => away(gate.shut)],
  ]
}
