/** The ceremony's decisions, at both sides of every boundary. */
import t from 'tap'
import {
  accessEnd,
  CLAIM_TOKEN_GRACE_MS,
  decidePage,
  decidePoll,
  decideStart,
  normalizeUserCode,
  usedSince,
  type PageClaim,
} from '../../src/domain/claim.js'
import { hinted, pinned } from '../../src/domain/ceremony.js'
import type { LoginHint } from '../../src/domain/login-hint.js'
import {
  isAlive,
  registrationStatus,
  type Attempt,
  type Registration,
} from '../../src/domain/registration.js'

const NOW = new Date('2026-11-22T14:05:06.789Z')
const TRIES = 5
/** Milliseconds from now. */
const at = (ms: number) => new Date(NOW.getTime() + ms)
const GRACE = CLAIM_TOKEN_GRACE_MS

const PENDING: Registration = {
  id: 'reg_1',
  registration_type: 'service_auth',
  user_id: null,
  email: null,
  generation: 1,
  claim_expires_at: at(3_600_000),
  claim_token_used_at: null,
  claimed_at: null,
  revoked_at: null,
  issuer: null,
  subject: null,
  issuer_active: true,
  set_aside_at: null,
  scopes: null,
}
const LIVE: Attempt = {
  id: 'cla_1',
  expires_at: at(600_000),
  wrong_codes: 0,
  declined_at: null,
  confirmed_at: null,
}
const CLAIMED: Partial<Registration> = { user_id: 'user_a', claimed_at: at(-1000) }
const hint = (value: string): LoginHint => ({ kind: 'email', value })

t.test('a registration is what its times say (PROTOCOL §11)', async (t) => {
  const table: [string, Partial<Registration>, Partial<Attempt> | undefined, string][] = [
    ['a live ceremony', {}, {}, 'pending_claim'],
    ['no ceremony', {}, undefined, 'unclaimed'],
    ['no claim window', { claim_expires_at: null }, undefined, 'unclaimed'],
    ['window ends in a millisecond', { claim_expires_at: at(1) }, {}, 'pending_claim'],
    ['window ends now', { claim_expires_at: at(0) }, {}, 'expired'],
    ['claimed, and its window over', { ...CLAIMED, claim_expires_at: at(-1) }, {}, 'claimed'],
    ['claimed, then revoked', { ...CLAIMED, revoked_at: at(-1) }, {}, 'revoked'],
    ['expired, then revoked', { claim_expires_at: at(-2), revoked_at: at(-1) }, {}, 'revoked'],
    ['ceremony ends in a millisecond', {}, { expires_at: at(1) }, 'pending_claim'],
    ['ceremony ends now', {}, { expires_at: at(0) }, 'unclaimed'],
    ['one try left', {}, { wrong_codes: TRIES - 1 }, 'pending_claim'],
    ['no try left', {}, { wrong_codes: TRIES }, 'unclaimed'],
    ['declined', {}, { declined_at: at(-1) }, 'unclaimed'],
    ['confirmed', {}, { confirmed_at: at(-1) }, 'unclaimed'],
  ]
  for (const [name, registration, attempt, expected] of table)
    t.equal(
      registrationStatus(
        { ...PENDING, ...registration },
        attempt && { ...LIVE, ...attempt },
        TRIES,
        NOW,
      ),
      expected,
      name,
    )
})

t.test(
  '9068-09: what was minted counts under its own generation of a live registration',
  async (t) => {
    const table: [string, Partial<Registration>, boolean][] = [
      ['unclaimed', {}, true],
      ['claimed', CLAIMED, true],
      ['claimed long ago', { ...CLAIMED, claim_expires_at: at(-1) }, true],
      ['never to be claimed', { claim_expires_at: null }, true],
      ['in the last millisecond of its window', { claim_expires_at: at(1) }, true],
      ['unclaimed when its window ends', { claim_expires_at: at(0) }, false],
      ['revoked', { revoked_at: at(-1) }, false],
      ['claimed and revoked', { ...CLAIMED, revoked_at: at(-1) }, false],
      ['set aside', { ...CLAIMED, set_aside_at: at(-1) }, false],
      ['of a later generation', { generation: 2 }, false],
      ['of an earlier generation', { generation: 0 }, false],
    ]
    for (const [name, changes, expected] of table)
      t.equal(isAlive({ ...PENDING, ...changes }, 1, NOW), expected, name)
  },
)

t.test('a ceremony starts while there is something to claim', async (t) => {
  const alice = hint('alice@example.com')
  const bob = hint('bob@example.com')
  const none = { last: undefined, given: undefined }
  const start = (
    changes: Partial<Registration>,
    asked: Partial<Parameters<typeof decideStart>[1]>,
  ) => decideStart({ ...PENDING, ...changes }, { ...none, ...asked }, NOW)

  t.same(decideStart(undefined, { ...none, given: alice }, NOW), { ok: false, reason: 'unknown' })
  const refused: [string, Partial<Registration>, Partial<typeof none>, string][] = [
    ['PRF-14: claimed', CLAIMED, {}, 'claimed'],
    ['PRF-14: revoked', { revoked_at: at(-1) }, {}, 'over'],
    ['claimed, then revoked', { ...CLAIMED, revoked_at: at(-1) }, {}, 'over'],
    ['PRF-17: its window ends now', { claim_expires_at: at(0) }, {}, 'over'],
    ['its provider trusted no more', { issuer_active: false }, {}, 'over'],
  ]
  for (const [name, changes, asked, reason] of refused)
    t.same(start(changes, { given: alice, ...asked }), { ok: false, reason }, name)
  t.same(start({}, {}), { ok: false, reason: 'hint_missing' }, 'the first attempt needs a hint')

  const started: [string, Parameters<typeof start>[1], LoginHint][] = [
    ['the first', { given: alice }, alice],
    ['a renewal keeps the last hint', { last: hinted(alice) }, alice],
    ['B45: a renewal carries a corrected hint', { last: hinted(alice), given: bob }, bob],
  ]
  for (const [name, asked, expected] of started)
    t.same(start({}, asked), { ok: true, registration: PENDING, claimant: hinted(expected) }, name)
  t.ok(start({ claim_expires_at: at(1) }, { given: alice }).ok, 'in the last millisecond')

  const stepUp = pinned('user_a')
  t.same(start({}, { last: stepUp }), { ok: true, registration: PENDING, claimant: stepUp })
  const other = start({ issuer: 'https://idp.test' }, { last: stepUp, given: alice })
  t.same(other, { ok: false, reason: 'pinned' }, 'the hint of a step-up cannot be changed')
})

t.test('the claim grant answers by the state table (PROTOCOL §8)', async (t) => {
  type Row = [string, Partial<Registration>, Partial<Attempt> | undefined, string]
  const used = (ms: number) => ({ ...CLAIMED, claimed_at: at(-9e9), claim_token_used_at: at(ms) })
  const fetched = { confirmed_at: at(-1000) }
  const table: Row[] = [
    ['8628-01: waiting', {}, {}, 'pending'],
    ['waiting for a first ceremony', {}, undefined, 'pending'],
    ['the last millisecond of the ceremony', {}, { expires_at: at(1) }, 'pending'],
    ['PRF-17: the ceremony ends now', {}, { expires_at: at(0) }, 'ceremony_over'],
    ['one try left', {}, { wrong_codes: TRIES - 1 }, 'pending'],
    ['WEB-14: no try left', {}, { wrong_codes: TRIES }, 'ceremony_over'],
    ['8628-03: declined', {}, { declined_at: at(-1) }, 'declined'],
    ['declined, and over since', {}, { declined_at: at(-2), expires_at: at(-1) }, 'declined'],
    ['the last millisecond of the window', { claim_expires_at: at(1) }, {}, 'pending'],
    ['8628-04: the window ends now', { claim_expires_at: at(0) }, {}, 'window_over'],
    ['the window ends, no ceremony', { claim_expires_at: at(0) }, undefined, 'window_over'],
    ['PRF-24: revoked', { revoked_at: at(-1) }, {}, 'revoked'],
    ['revoked after the claim', { ...CLAIMED, revoked_at: at(-1) }, fetched, 'revoked'],
    ['8628-05: confirmed', CLAIMED, fetched, 'ok'],
    ['confirmed by other means', CLAIMED, undefined, 'ok'],
    ['confirmed, but set aside', { ...CLAIMED, set_aside_at: at(-1) }, fetched, 'revoked'],
    ['its provider trusted no more', { ...CLAIMED, issuer_active: false }, fetched, 'revoked'],
    ['used now', used(0), fetched, 'ok'],
    ['C08: the last millisecond of the grace', used(-GRACE), fetched, 'ok'],
    ['C08, B77: the grace is over', used(-GRACE - 1), fetched, 'spent'],
    [
      'not fetched, the window open for its last millisecond',
      { ...CLAIMED, claimed_at: at(-9e9), claim_expires_at: at(0) },
      fetched,
      'ok',
    ],
    [
      'not fetched, the window over',
      { ...CLAIMED, claimed_at: at(-9e9), claim_expires_at: at(-1) },
      fetched,
      'spent',
    ],
    [
      'confirmed as the window closed: the grace is still there',
      { ...CLAIMED, claimed_at: at(-GRACE), claim_expires_at: at(-GRACE + 1) },
      fetched,
      'ok',
    ],
    [
      'confirmed as the window closed: that grace is over',
      { ...CLAIMED, claimed_at: at(-GRACE - 1), claim_expires_at: at(-GRACE) },
      fetched,
      'spent',
    ],
  ]
  for (const [name, registration, attempt, expected] of table) {
    const decision = decidePoll(
      { ...PENDING, ...registration },
      attempt && { ...LIVE, ...attempt },
      TRIES,
      NOW,
    )
    t.equal(decision.ok ? 'ok' : decision.reason, expected, name)
  }
})

t.test('a link opens for the hinted person while its ceremony lives (PROTOCOL §7)', async (t) => {
  type Changes = Partial<PageClaim['attempt']>
  const alice = { user_id: 'user_a', email: 'alice@example.com' }
  const bob = { user_id: 'user_b', email: 'bob@example.com' }
  const nameless = { user_id: 'user_n', email: null }
  const ALICE = hinted({ kind: 'email', value: alice.email })
  const claim = (registration: Partial<Registration>, attempt: Changes): PageClaim => ({
    registration: { ...PENDING, ...registration },
    attempt: { ...LIVE, superseded_at: null, ...ALICE, ...attempt } as PageClaim['attempt'],
  })
  const done = { confirmed_at: at(-1000) }
  const revoked = { revoked_at: at(-1) }

  t.same(decidePage(undefined, alice, TRIES, NOW), { ok: false, reason: 'not_found' })
  const open = claim({}, {})
  t.same(decidePage(open, alice, TRIES, NOW), { ok: true, claim: open })

  const table: [string, Partial<Registration>, Changes, typeof alice | typeof nameless, string][] =
    [
      ['the last millisecond', {}, { expires_at: at(1) }, alice, 'ok'],
      ['B62: expired now', {}, { expires_at: at(0) }, alice, 'link_expired'],
      ['one try left', {}, { wrong_codes: TRIES - 1 }, alice, 'ok'],
      ['B61: no try left', {}, { wrong_codes: TRIES }, alice, 'too_many_codes'],
      [
        'no try left, and expired',
        {},
        { wrong_codes: 5, expires_at: at(0) },
        alice,
        'too_many_codes',
      ],
      ['declined', {}, { declined_at: at(-1) }, alice, 'declined'],
      [
        'declined, with no try left',
        {},
        { declined_at: at(-1), wrong_codes: 5 },
        alice,
        'declined',
      ],
      ['PRF-15: superseded', {}, { superseded_at: at(-1) }, alice, 'not_found'],
      ['superseded once used', CLAIMED, { ...done, superseded_at: at(-1) }, alice, 'not_found'],
      ['the window in its last millisecond', { claim_expires_at: at(1) }, {}, alice, 'ok'],
      ['the window over', { claim_expires_at: at(0) }, {}, alice, 'registration_over'],
      ['revoked', revoked, {}, alice, 'registration_over'],
      ['claimed by other means', CLAIMED, {}, alice, 'registration_over'],
      ['PRF-28: not the hinted account', {}, {}, bob, 'wrong_account'],
      ['WEB-19: no verified address', {}, {}, nameless, 'wrong_account'],
      [
        'an address in other letters',
        {},
        {},
        { ...alice, email: 'Alice@example.com' },
        'wrong_account',
      ],
      [
        'of a provider that is trusted no more',
        { issuer_active: false },
        {},
        alice,
        'registration_over',
      ],
      ['pinned to them', {}, pinned(alice.user_id), alice, 'ok'],
      ['pinned to somebody else', {}, pinned(bob.user_id), alice, 'wrong_account'],
      ['a hint that reads like no address', {}, { login_hint: 'null' }, nameless, 'wrong_account'],
      ['not the hinted account, expired', {}, { expires_at: at(0) }, bob, 'wrong_account'],
      ['not the hinted account, revoked', revoked, {}, bob, 'wrong_account'],
      ['not the hinted account, superseded', {}, { superseded_at: at(-1) }, bob, 'not_found'],
      ['B63: used by this user', CLAIMED, done, alice, 'already_done'],
      [
        'used by this user, window over',
        { ...CLAIMED, claim_expires_at: at(-1) },
        done,
        alice,
        'already_done',
      ],
      [
        'used by this user, whose address changed',
        CLAIMED,
        done,
        { ...bob, user_id: 'user_a' },
        'already_done',
      ],
      [
        'used by this user, revoked since',
        { ...CLAIMED, ...revoked },
        done,
        alice,
        'registration_over',
      ],
      ['WEB-15: used by someone else', { ...CLAIMED, user_id: 'user_z' }, done, alice, 'not_found'],
      ['used by the hinted one', CLAIMED, done, bob, 'not_found'],
    ]
  for (const [name, registration, attempt, person, expected] of table) {
    const decision = decidePage(claim(registration, attempt), person, TRIES, NOW)
    t.equal(decision.ok ? 'ok' : decision.reason, expected, name)
  }
})

t.test('an agent has ended when nothing that it could have fetched works any more', async (t) => {
  const lifetimes = {
    ASSERTION_TTL_SECONDS: 3600,
    ACCESS_TOKEN_TTL_SECONDS: 1800,
    CLOCK_SKEW_SECONDS: 60,
  }
  const fetched = { ...PENDING, ...CLAIMED, claim_token_used_at: at(0) }
  const end = at(GRACE + (3600 + 60 + 1800) * 1000)
  t.same(accessEnd(fetched, lifetimes), end, '7523-04: exchanged as late as clocks may differ')
  t.same(usedSince(lifetimes, end), at(0))
  t.same(accessEnd({ ...fetched, claim_token_used_at: null }, lifetimes), PENDING.claim_expires_at)
  t.equal(accessEnd({ ...fetched, issuer: 'https://idp.test' }, lifetimes), undefined)
})

t.test('8628-12, B59: a code is six digits, however they are typed', async (t) => {
  const codes: [string, string | undefined][] = [
    ['123456', '123456'],
    ['000123', '000123'],
    ['12 34-56', '123456'],
    [' 000 123\r\n', '000123'],
    ['12–34—56', '123456'],
    ['123\u00a0456', '123456'],
    ['１２３４５６', '123456'],
    ['１２３－４５６', '123456'],
    ['①②③④⑤⑥', '123456'],
    ['-12345', undefined],
    ['12345', undefined],
    ['1234567', undefined],
    ['', undefined],
    ['      ', undefined],
    ['abcdef', undefined],
    ['1e5', undefined],
    ['0x1234', undefined],
    ['12.3456', '123456'],
    ['`123456`', '123456'],
    ['**123456**.', '123456'],
    ['123−456', '123456'],
    ['+123456', undefined],
    ['123456\0', undefined],
    ['12\u200b3456', '123456'],
    ['\u2068123456\u2069', '123456'],
    ['123\u00ad456\u2060', '123456'],
    ['1\ufe0f\u20e32\ufe0f\u20e33\u20e3 4\ufe0f\u20e35\ufe0f\u20e36\ufe0f\u20e3', '123456'],
    ['١٢٣٤٥٦', undefined],
    ['1२३४५६', undefined],
    ['½½½', undefined],
    [`123456${' '.repeat(60_000)}x`, undefined],
    ['\ufdfa'.repeat(60_000), undefined],
    ['\ud83d12345', undefined],
  ]
  for (const [typed, expected] of codes)
    t.equal(normalizeUserCode(typed), expected, JSON.stringify(typed).slice(0, 30))
})
