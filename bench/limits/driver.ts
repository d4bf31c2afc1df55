/** Measures one indexed select and one insert through pg, as named statements, each committed. Prints JSON. */
import { randomBytes } from 'node:crypto'
import pg from 'pg'
import { registrationId } from '../derived.js'
import { costOf } from './cost.js'

const [url, count] = [process.argv[2]!, Number(process.argv[3])]
const pool = new pg.Pool({ connectionString: url, max: 10 })
await pool.query(
  'create table if not exists bench_inserts (id text primary key, at timestamptz not null)',
)

const select = await costOf((n) =>
  pool.query({
    name: 'select',
    text: 'select id, generation, revoked_at from registrations where id = $1',
    values: [registrationId(1 + ((n * 7919) % count))],
  }),
)
const insert = await costOf(() =>
  pool.query({
    name: 'insert',
    text: 'insert into bench_inserts values ($1, now())',
    values: [randomBytes(16).toString('base64url')],
  }),
)
await pool.query('drop table bench_inserts')
await pool.end()
console.log(JSON.stringify({ select, insert }))
