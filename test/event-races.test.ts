/** Two replicas and what providers take back: an event, or a first sign-in, against everything else. */
import { test, type Test } from 'tap'
import * as agents from './fixtures/app.js'
import { notify, present, someone } from './fixtures/assertions.js'
import { Person } from './fixtures/person.js'
import { blocked, COMPLETE, count, replicas, rounds, ROUNDS, sorted } from './fixtures/replicas.js'

test('an event against an exchange: what comes out after the 202 is dead', async (t) => {
  const { P, A, B, introspect } = await replicas(t)
  await rounds(async (name) => {
    const { identity_assertion } = (await present(A, P.idJag(someone(name)))).json()
    const [event, ...exchanged] = await Promise.all([
      notify(B, P.securityEvent({ sub: name })),
      agents.exchange(A, identity_assertion),
      agents.exchange(B, identity_assertion),
    ])
    t.equal(event.statusCode, 202)
    for (const answer of exchanged)
      if (answer.statusCode === 200)
        t.same(await introspect(answer.json().access_token), { active: false })
      else t.equal(answer.json().error, 'invalid_grant')
    t.equal((await agents.exchange(A, identity_assertion)).json().error, 'invalid_grant')
  })
})

test('an event against a presentation: whichever is first, nothing is alive that was before it', async (t) => {
  const { P, A, B, delegation } = await replicas(t)
  await rounds(async (name) => {
    const before = (await present(A, P.idJag(someone(name)))).json()
    const [event, presented] = await Promise.all([
      notify(A, P.securityEvent({ sub: name })),
      present(B, P.idJag(someone(name))),
    ])
    t.equal(event.statusCode, 202)
    // Presented first: bound, then revoked. Event first: the account is there, so its person is asked.
    const after = presented.json().identity_assertion ?? before.identity_assertion
    t.ok([200, 401].includes(presented.statusCode), `${presented.statusCode}`)
    for (const assertion of [before.identity_assertion, after])
      t.equal((await agents.exchange(B, assertion)).json().error, 'invalid_grant')
    t.notOk(await delegation(name))
  })
})

test('C20: an event against a confirmation never leaves a claim alive', async (t) => {
  const { P, A, B, delegation } = await replicas(t)
  await rounds(async (name) => {
    const person = await Person.signedIn(A, `${name}@example.com`)
    const { claim, claim_token } = (await present(A, P.idJag(someone(name)))).json()
    const claim_attempt_token = agents.linkToken(claim)
    await person.openClaim(claim_attempt_token)
    const [event, completed] = await Promise.all([
      notify(B, P.securityEvent({ sub: name })),
      person.submit(COMPLETE, { claim_attempt_token, user_code: claim.user_code }),
    ])
    t.equal(event.statusCode, 202)
    t.ok([303, 410].includes(completed.statusCode), `${completed.statusCode}`)
    t.equal((await agents.poll(A, claim_token)).json().error, 'access_denied')
    t.notOk(await delegation(name))
  })
})

test('C22: one event at both replicas is accepted twice and takes effect once', async (t) => {
  const { pool, P, A, B } = await replicas(t)
  await rounds(async (name) => {
    await present(A, P.idJag(someone(name)))
    const set = P.securityEvent({ sub: name })
    t.same(sorted(await Promise.all([notify(A, set), notify(B, set)])), [202, 202])
  })
  for (const event of ['event.received', 'registration.revoked', 'delegation.removed'])
    t.equal(await count(pool, 'audit_events where event = $1', event), ROUNDS, event)
})

test('a first sign-in while its provider speaks: all is set aside, and nobody waits for ever', async (t) => {
  const { pool, P, A, B, delegation } = await replicas(t)
  await rounds(async (name) => {
    const person = new Person(A, `${name}@example.com`)
    await person.get('/login')
    const [signedIn, presented] = await Promise.all([
      person.submit('/login', { email: person.email }),
      present(B, P.idJag(someone(name))),
    ])
    t.equal(signedIn.statusCode, 303)
    t.ok([200, 401].includes(presented.statusCode), `${presented.statusCode}`)
    const made = await delegation(name)
    t.equal(Boolean(made?.set_aside_at), presented.statusCode === 200)
    if (presented.statusCode === 401) return
    const exchanged = await agents.exchange(A, presented.json().identity_assertion)
    t.equal(exchanged.json().error, 'invalid_grant')
  })
  t.equal(await count(pool, 'users'), ROUNDS)
})

test('what a person decides about a provider’s subject waits for whoever speaks for it', async (t) => {
  const { pool, P, A } = await replicas(t)
  await present(A, P.idJag(someone('alice')))
  const alice = await Person.signedIn(A, 'alice@example.com')
  const { claim, registration_id } = (await present(A, P.idJag(someone('alice')))).json()
  const claim_attempt_token = agents.linkToken(claim)
  await alice.openClaim(claim_attempt_token)
  const subject = { issuer: P.issuer, subject: 'alice' }
  const decisions: [string, Record<string, string>][] = [
    ['/delegations', { ...subject, decision: 'keep' }],
    [COMPLETE, { claim_attempt_token, user_code: claim.user_code }],
    ['/agents/revoke', { registration_id }],
  ]
  for (const [url, form] of decisions) {
    const holder = await pool.connect()
    await holder.query('begin')
    await holder.query(
      `select pg_advisory_xact_lock(hashtextextended('alice', hashtextextended($1, 0)))`,
      [P.issuer],
    )
    const sent = alice.submit(url, form)
    t.equal(await Promise.race([sent, blocked(pool).then(() => 'waits')]), 'waits', url)
    await holder.query('rollback')
    holder.release()
    t.equal((await sent).statusCode, 303)
  }
})

/** Holds what `work` needs until the sign-in waits too: locks taken in two orders would be a deadlock then. */
async function duringSignIn(t: Test, hold: string, work: 'event' | 'presentation') {
  const { pool, P, A, B } = await replicas(t)
  const { registration_id } = (await present(A, P.idJag(someone('alice')))).json()
  const person = new Person(A, 'alice@example.com')
  await person.get('/login')
  const holder = await pool.connect()
  await holder.query('begin')
  await holder.query(hold.replace('$1', `'${registration_id}'`).replace('$2', `'${P.issuer}'`))
  const aud = agents.RESOURCE
  const working =
    work === 'event'
      ? notify(B, P.securityEvent({ sub: 'alice' }))
      : present(B, P.idJag({ ...someone('alice'), aud }))
  await blocked(pool)
  const signingIn = person.submit('/login', { email: person.email })
  await blocked(pool, 2)
  await holder.query('rollback')
  holder.release()
  t.equal((await signingIn).statusCode, 303)
  return (await working).statusCode
}

test('an event during the first sign-in of its subject is no deadlock', async (t) => {
  const hold = 'select from registrations where id = $1 for update'
  t.equal(await duringSignIn(t, hold, 'event'), 202)
})

test('a presentation during the first sign-in of its subject is no deadlock', async (t) => {
  const hold = `insert into registrations (id, registration_type, issuer, subject, audience)
    values ('reg_held', 'identity_assertion', $2, 'alice', '${agents.RESOURCE}')`
  t.equal(await duringSignIn(t, hold, 'presentation'), 200)
})
