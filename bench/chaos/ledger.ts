/** What was acknowledged, and so must hold whatever fails; and what was found not to hold. */
export interface Ledger {
  /** How many there were of each outcome. */
  answers: Map<string, number>
  faults: Map<string, number>
  /** Registration ids that an agent was given. */
  registrations: Set<string>
  /** Registration id → the person who was told that it is theirs. */
  claims: Map<string, string>
  /** Assertions and access tokens, with the scope that each must give; `dead` once its end was acknowledged. */
  tokens: Map<string, Standing>
  revocations: number
  /** What was acknowledged and lost, each in a sentence. */
  lost: Map<string, string>
  doubleClaims: Set<string>
  wronglyAccepted: Map<string, string>
  /** Answers that broke no promise but were not expected. */
  surprises: Map<string, number>
}

export interface Standing {
  kind: 'assertion' | 'access token'
  scope: string | 'dead'
}

export function newLedger(): Ledger {
  return {
    answers: new Map(),
    faults: new Map(),
    registrations: new Set(),
    claims: new Map(),
    tokens: new Map(),
    revocations: 0,
    lost: new Map(),
    doubleClaims: new Set(),
    wronglyAccepted: new Map(),
    surprises: new Map(),
  }
}

export function count(figures: Map<string, number>, what: string, n = 1): void {
  figures.set(what, (figures.get(what) ?? 0) + n)
}

/** Returns true when every promise was kept. */
export function print(ledger: Ledger, seconds: number, secretsLogged: number): boolean {
  const sum = (figures: Map<string, number>) => [...figures.values()].reduce((a, b) => a + b, 0)
  const line = (what: string, n: number) =>
    console.log(`${what.padEnd(44)}${String(n).padStart(9)}`)
  const list = (figures: Map<string, number>) => {
    for (const [what, n] of [...figures].toSorted()) line(`  ${what}`, n)
  }
  console.log(`\nAfter ${seconds} seconds of chaos`)
  line('requests', sum(ledger.answers))
  list(ledger.answers)
  line('faults made', sum(ledger.faults))
  list(ledger.faults)
  line('acknowledged registrations', ledger.registrations.size)
  line('acknowledged claims', ledger.claims.size)
  line('acknowledged revocations', ledger.revocations)
  line('tokens and assertions followed to the end', ledger.tokens.size)
  line('unexpected answers', sum(ledger.surprises))
  list(ledger.surprises)
  const broken = {
    'acknowledged writes lost': ledger.lost.size,
    'double claims': ledger.doubleClaims.size,
    'wrongly accepted tokens': ledger.wronglyAccepted.size,
    'secrets in the proxy’s log': secretsLogged,
  }
  for (const [what, n] of Object.entries(broken)) line(what, n)
  for (const sentence of [...ledger.lost.values(), ...ledger.wronglyAccepted.values()].slice(0, 20))
    console.log(`  ${sentence}`)
  return Object.values(broken).every((n) => n === 0)
}
