/** Bounded load: agents that register, poll, exchange and are revoked, and people who confirm them. */
import { setTimeout as sleep } from 'node:timers/promises'
import * as agents from '../../test/fixtures/app.js'
import { Person } from '../../test/fixtures/person.js'
import { count, type Ledger } from './ledger.js'
import type { Witness } from './witness.js'

const COMPLETE = '/agent/identity/claim/complete'
const PRE_CLAIM = 'api.read'
const FULL = 'api.read api.write'
const PAUSE_MS = 100
const AGENTS_PER_PERSON = 8

export interface Load {
  app: agents.Sender
  /** Sends without trying again. */
  once: agents.Sender
  ledger: Ledger
  witness: Witness
  /** True when nothing new should begin. */
  over: () => boolean
}

const chance = (share: number) => Math.random() < share

/** Runs one agent after the other until it is over; an agent that failed is not followed up. */
export async function work(load: Load, worker: number): Promise<void> {
  let person: Person | undefined
  for (let round = 0; !load.over(); round += 1) {
    try {
      if (!person || round % AGENTS_PER_PERSON === 0)
        person = await Person.signedIn(load.app, `person-${worker}-${round}@example.com`)
      const scenarios = [anonymousAgent, hintedAgent, upgradedAgent]
      await scenarios[Math.floor(Math.random() * scenarios.length)]!(load, person)
    } catch (error) {
      count(load.ledger.surprises, (error as Error).message.slice(0, 60))
      person = undefined
    }
    await sleep(Math.random() * PAUSE_MS)
  }
}

async function anonymousAgent(load: Load): Promise<void> {
  const { app, ledger, witness } = load
  const { identity_assertion, registration_id } = await agents.registerAnonymous(app)
  ledger.registrations.add(registration_id)
  ledger.tokens.set(identity_assertion, { kind: 'assertion', scope: PRE_CLAIM })
  const token = await exchange(load, identity_assertion)
  if (token === undefined) return
  if (chance(0.3)) await witness.refusesForged(token)
  if (chance(0.4)) await revoke(load, [token], () => revokeToken(load, token))
  else if (chance(0.5)) {
    const both = [token, identity_assertion]
    await revoke(load, both, () => revokeToken(load, identity_assertion))
  }
}

async function hintedAgent(load: Load, person: Person): Promise<void> {
  const { registration_id, claim_token, claim } = await agents.registerFor(load.app, person.email)
  load.ledger.registrations.add(registration_id)
  const early = await agents.poll(load.app, claim_token)
  expected(load, 'a poll before the confirmation', early.statusCode === 400)
  await claimed(load, person, { registration_id, claim_token }, claim)
}

/** An anonymous agent that a person claims: what it held before must die. */
async function upgradedAgent(load: Load, person: Person): Promise<void> {
  const { app, ledger } = load
  const registered = await agents.registerAnonymous(app)
  const { registration_id, claim_token, identity_assertion } = registered
  ledger.registrations.add(registration_id)
  ledger.tokens.set(identity_assertion, { kind: 'assertion', scope: PRE_CLAIM })
  const started = await agents.postJson(app, '/agent/identity/claim', {
    claim_token,
    login_hint: person.email,
  })
  if (!expected(load, 'a ceremony', started.statusCode === 200)) return
  ledger.tokens.delete(identity_assertion)
  const { claim_attempt } = started.json()
  if (!(await claimed(load, person, { registration_id, claim_token }, claim_attempt))) return
  await nowDead(load, [identity_assertion])
}

/** A person confirms by the form, sometimes with a double click, sometimes after a wrong code. */
async function claimed(
  load: Load,
  person: Person,
  { registration_id, claim_token }: { registration_id: string; claim_token: string },
  block: { user_code: string; verification_uri: string },
): Promise<boolean> {
  const { ledger } = load
  const link = agents.linkToken(block)
  const form = { claim_attempt_token: link, user_code: block.user_code }
  const page = await person.openClaim(link)
  if (page.statusCode === 303) ledger.lost.set(person.cookieHeader(), 'a session was lost')
  // An earlier try at starting the ceremony, whose answer was lost, may have arrived after the one that was answered.
  if (!expected(load, `a claim page: ${page.statusCode} ${heading(page)}`, page.statusCode === 200))
    return false
  if (chance(0.2)) {
    const user_code = String((Number(block.user_code) + 1) % 1_000_000).padStart(6, '0')
    // A retry would count as another wrong code, and five end the claim.
    const browser = person.at(load.once)
    const wrong = await browser.submit(COMPLETE, { ...form, user_code }).catch(() => undefined)
    if (wrong?.statusCode === 303) ledger.wronglyAccepted.set(link, 'a wrong code was accepted')
  }
  const clicks = Array.from({ length: chance(0.3) ? 2 : 1 }, () => person.submit(COMPLETE, form))
  const told = await Promise.all(clicks)
  const refused = told.find(({ statusCode }) => statusCode >= 400)
  if (!expected(load, `a confirmation: ${refused?.statusCode} ${heading(refused)}`, !refused))
    return false
  ledger.claims.set(registration_id, person.email)

  const polled = await agents.poll(load.app, claim_token)
  if (polled.statusCode !== 200) {
    ledger.lost.set(claim_token, `a claim: the poll after it got ${polled.body}`)
    return false
  }
  const { identity_assertion, access_token, scope } = polled.json()
  if (scope !== FULL) ledger.lost.set(claim_token, `a claim: the poll after it got ${scope}`)
  ledger.tokens.set(identity_assertion, { kind: 'assertion', scope: FULL })
  ledger.tokens.set(access_token, { kind: 'access token', scope: FULL })
  if (chance(0.4))
    await revoke(load, [identity_assertion, access_token], async () => {
      await person.get('/agents')
      return await person.submit('/agents/revoke', { registration_id })
    })
  return true
}

async function exchange({ app, ledger }: Load, assertion: string): Promise<string | undefined> {
  const answer = await agents.exchange(app, assertion)
  if (answer.statusCode !== 200) {
    ledger.lost.set(assertion, `a registration: its exchange got ${answer.body}`)
    return undefined
  }
  const { access_token, scope } = answer.json()
  ledger.tokens.set(access_token, { kind: 'access token', scope })
  return access_token
}

const revokeToken = ({ app }: Load, token: string) =>
  agents.postForm(app, '/oauth2/revoke', { token })

/** Between the request and its acknowledgement a token may hold or not, so it is not followed then. */
async function revoke(load: Load, tokens: string[], ask: () => Promise<agents.Answer>) {
  const { ledger } = load
  const kinds = tokens.map((token) => ledger.tokens.get(token)!.kind)
  for (const token of tokens) ledger.tokens.delete(token)
  const { statusCode } = await ask()
  if (!expected(load, `a revocation: ${statusCode}`, statusCode < 400)) return
  ledger.revocations += 1
  await nowDead(load, tokens, kinds)
}

async function nowDead({ ledger, witness }: Load, tokens: string[], kinds = ['assertion']) {
  for (const [i, token] of tokens.entries()) {
    const kind = kinds[i] as 'assertion'
    ledger.tokens.set(token, { kind, scope: 'dead' })
    await witness.refuses(token, kind)
  }
}

/** The heading of a page: several pages share a status. */
function heading(page: agents.Answer | undefined): string | undefined {
  return /<h1>([^<]*)/.exec(page?.body ?? '')?.[1]
}

function expected({ ledger }: Load, what: string, as: boolean): boolean {
  if (!as) count(ledger.surprises, what)
  return as
}
