/** Checks, when the faults are over, that everything that was acknowledged holds. */
import pg from 'pg'
import type { Ledger } from './ledger.js'
import type { Witness } from './witness.js'

const AT_ONCE = 6

export async function verify(ledger: Ledger, witness: Witness, databaseUrl: string) {
  const client = new pg.Client({ connectionString: databaseUrl })
  await client.connect()
  try {
    await registrationsAreThere(ledger, client)
    await claimsHold(ledger, client)
  } finally {
    await client.end()
  }
  const tokens = [...ledger.tokens]
  const next = async () => {
    for (let entry = tokens.pop(); entry; entry = tokens.pop()) {
      const [token, { kind, scope }] = entry
      if (scope === 'dead') await witness.refuses(token, kind)
      else if ((await witness.standing(token, kind)) !== scope)
        ledger.lost.set(token, `an ${kind} that should give ${scope} does not`)
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, next))
}

async function registrationsAreThere(ledger: Ledger, client: pg.Client) {
  const ids = [...ledger.registrations]
  const { rows } = await client.query(
    `select id from unnest($1::text[]) as told (id) where not exists (
       select from registrations where registrations.id = told.id)`,
    [ids],
  )
  for (const { id } of rows) ledger.lost.set(id, `registration ${id}`)
}

/** Each acknowledged claim is held by the person who was told so, and no registration was claimed twice. */
async function claimsHold(ledger: Ledger, client: pg.Client) {
  const { rows: twice } = await client.query(
    `select registration_id from audit_events where event = 'claim.confirmed'
     group by registration_id having count(*) > 1`,
  )
  for (const { registration_id } of twice) ledger.doubleClaims.add(registration_id)
  const { rows } = await client.query(
    `select registrations.id, users.email from registrations join users on users.id = user_id
     where claimed_at is not null and registrations.id = any ($1)`,
    [[...ledger.claims.keys()]],
  )
  const holders = new Map<string, string>(rows.map(({ id, email }) => [id, email]))
  for (const [id, email] of ledger.claims) {
    const holder = holders.get(id)
    if (holder === undefined) ledger.lost.set(id, `the claim of ${id}`)
    else if (holder !== email) ledger.doubleClaims.add(id)
  }
}
