/** What a poll of many registrations at once records, beside the state table that decides (PROTOCOL §8, CONFORMANCE C10). */
import { test } from 'tap'
import { connect } from '../src/database.js'
import { decidePoll } from '../src/domain/claim.js'
import { hashSecret } from '../src/domain/secrets.js'
import { recordPolls } from '../src/repositories/poll-states.js'
import { findByClaimToken, useClaimToken } from '../src/repositories/claim-tokens.js'
import { testDatabase } from './fixtures/database.js'

const SETTINGS = { intervalSeconds: 5, maxTries: 5 }
const FLAGS = ['claimed', 'revoked', 'window', 'aside', 'issuer', 'attempt', 'live'] as const
const ATTEMPTS = [
  'expires_at = now()',
  'wrong_codes = 5',
  'declined_at = now()',
  'confirmed_at = now()',
]

async function testPolls(t: Parameters<typeof testDatabase>[0]) {
  const { url, pool } = await testDatabase(t)
  const { pool: own, db } = connect(url, { max: 2, onLost: () => {} })
  t.teardown(() => own.end())
  await pool.query(`insert into users (id) values ('user_1')`)
  return { pool, db }
}

test('what is recorded as waiting is what the state table calls pending, in every state', async (t) => {
  const { pool, db } = await testPolls(t)
  await pool.query(
    `insert into issuers (issuer, name, jwks_uri, client_ids, algorithms, email_domains, audiences, required_amr, multi_tenant, disabled_at)
     select 'https://' || name, name, 'https://' || name, '{}', '{ES256}', '{}', '{}', '{}', false, case name when 'off' then now() end
     from unnest(array['on', 'off']) as name`,
  )
  const tokens: string[] = []
  for (let bits = 0; bits < 2 ** FLAGS.length; bits += 1) {
    const is = (flag: (typeof FLAGS)[number]) => (bits >> FLAGS.indexOf(flag)) % 2 === 1
    const token = `clm_${bits}`
    tokens.push(token)
    await pool.query(
      `insert into registrations (id, registration_type, claim_token_hash, claim_expires_at, claimed_at, user_id, revoked_at,
         set_aside_at, issuer, subject)
       values ($1, 'service_auth', $2, now() + $3::interval, case when $4 then now() end, case when $4 then 'user_1' end,
         case when $5 then now() end, case when $6 then now() end, $7, $1)`,
      [
        `reg_${bits}`,
        hashSecret(token),
        is('window') ? '1 hour' : '-1 s',
        is('claimed'),
        is('revoked'),
        is('aside'),
        is('issuer') ? 'https://on' : 'https://off',
      ],
    )
    if (!is('attempt')) continue
    await pool.query(
      `insert into claim_attempts (id, registration_id, token_hash, user_code_mac, login_hint_kind, login_hint, expires_at)
       values ($1, $1, sha256($1::text::bytea), 'mac', 'email', 'a@example.com', now() + interval '10 minutes')`,
      [`reg_${bits}`],
    )
    if (!is('live'))
      await pool.query(
        `update claim_attempts set ${ATTEMPTS[bits % ATTEMPTS.length]} where id = $1`,
        [`reg_${bits}`],
      )
  }
  await pool.query(
    `insert into registrations (id, registration_type, claim_token_hash, claim_expires_at)
     values ('reg_own', 'anonymous', $1, now() + interval '1 hour')`,
    [hashSecret('clm_own')],
  )
  tokens.push('clm_own')
  const hashes = tokens.map(hashSecret)
  const polls = await recordPolls(db, hashes, SETTINGS)
  const found = new Set<string>(polls)
  for (const [i, hash] of hashes.entries()) {
    const { registration, attempt, now } = (await findByClaimToken(db, hash))!
    const decision = decidePoll(registration, attempt, SETTINGS.maxTries, now)
    const pending = !decision.ok && decision.reason === 'pending'
    t.equal(polls[i], pending ? 'pending' : 'other', tokens[i]!)
  }
  t.same([...found].toSorted(), ['other', 'pending'])
  const { rows } = await pool.query('select count(*)::int as n from poll_states')
  t.equal(
    rows[0].n,
    polls.filter((poll) => poll === 'pending').length,
    'and nothing else is recorded',
  )
})

test('C10: of polls in one statement the first is in time, and each of the others adds 5 s', async (t) => {
  const { pool, db } = await testPolls(t)
  await pool.query(
    `insert into registrations (id, registration_type, claim_token_hash, claim_expires_at)
     values ('reg_1', 'anonymous', $1, now() + interval '1 hour'), ('reg_2', 'anonymous', $2, now() + interval '1 hour')`,
    [hashSecret('clm_1'), hashSecret('clm_2')],
  )
  const poll = (...tokens: string[]) => recordPolls(db, tokens.map(hashSecret), SETTINGS)
  const intervals = async () =>
    (
      await pool.query('select interval_seconds from poll_states order by registration_id')
    ).rows.map(({ interval_seconds }) => interval_seconds)
  const together = ['clm_1', 'clm_2', 'clm_1', 'clm_x', 'clm_1']
  t.same(await poll(...together), ['pending', 'pending', 'slow_down', 'unknown', 'slow_down'])
  t.same(await intervals(), [15, 5])
  t.same(await poll('clm_1', 'clm_1'), ['slow_down', 'slow_down'])
  t.same(await intervals(), [25, 5])
  await pool.query(`update poll_states set polled_at = now() - interval '25 s'`)
  t.same(await poll('clm_1', 'clm_2', 'clm_2'), ['pending', 'pending', 'slow_down'])
  t.same(await intervals(), [25, 10])
  t.same(await poll(), [])

  // Of one that never listens: there is an end to it, or the number would end every poll beside it.
  await pool.query(
    `update poll_states set interval_seconds = 86398 where registration_id = 'reg_1'`,
  )
  t.same(await poll('clm_1', 'clm_1', 'clm_2'), ['slow_down', 'slow_down', 'slow_down'])
  t.same(await intervals(), [86_400, 15])
})

test('the claim token of what is not confirmed, is revoked, or was fetched long ago is not used up', async (t) => {
  const { pool, db } = await testPolls(t)
  await pool.query(
    `insert into registrations (id, registration_type, claim_token_hash, claim_expires_at)
     values ('reg_1', 'anonymous', '', now() + interval '1 hour')`,
  )
  const use = () =>
    db.transaction().execute((tx) => useClaimToken(tx, 'reg_1', Buffer.alloc(32), 60_000))
  t.equal(await use(), 'spent')
  await pool.query(
    `update registrations set claimed_at = now(), user_id = 'user_1', revoked_at = now()`,
  )
  t.equal(await use(), 'revoked')
  const { rows } = await pool.query('select claim_token_used_at from registrations')
  t.same(rows, [{ claim_token_used_at: null }])
  for (const [ago, outcome] of [
    ['50 seconds', 'used'],
    ['61 seconds', 'spent'],
  ] as const) {
    await pool.query(
      `update registrations set revoked_at = null, claim_token_used_at = now() - $1::interval`,
      [ago],
    )
    t.equal(await use(), outcome, ago)
  }
})

test('a poll that comes a moment early is in time, one that comes a second early is not', async (t) => {
  const { pool, db } = await testPolls(t)
  const hash = hashSecret('clm_x')
  await pool.query(
    `insert into registrations (id, registration_type, claim_token_hash, claim_expires_at)
     values ('reg_1', 'anonymous', $1, now() + interval '1 hour')`,
    [hash],
  )
  t.same(await recordPolls(db, [hash], SETTINGS), ['pending'])
  for (const [ago, told] of [
    ['4.91 seconds', 'pending'],
    ['4 seconds', 'slow_down'],
  ]) {
    await pool.query('update poll_states set polled_at = now() - $1::interval', [ago])
    t.same(await recordPolls(db, [hash], SETTINGS), [told])
  }
})
