/** Whom a token is for. */
import t from 'tap'
import * as secrets from '../../src/domain/secrets.js'
import { personMembers, tokenSubject } from '../../src/domain/token-person.js'

t.test('9700-08: a subject that could be an id of ours stays out of tokens', async (t) => {
  const known = { id: 'reg_1', user_id: 'user_a', claimed_at: new Date(0) }
  const subjectOf = (subject: string) =>
    tokenSubject({ ...known, sign_in: { issuer: 'https://idp.test', subject } })
  const [user, registration] = [secrets.newId('user_'), secrets.newSortedId('reg_', new Date())]
  for (const subject of [
    user,
    registration,
    user.toUpperCase(),
    `Reg_${'-'.repeat(22)}`,
    `user_${'_'.repeat(22)}`,
    `${user}\n`,
    ` ${registration} `,
  ])
    t.equal(subjectOf(subject), 'user_a', subject)
  for (const subject of [
    'user_01E4ZCR3C56J083X43JQXF3JK5',
    'user_2bWFlgRyLsWjPkMDQ0cYVAvVbDn',
    'user_',
    'reg_1',
    `client_${user}`,
    user.slice(5),
    `${user} x`,
    'auth0|é "\\',
    'a'.repeat(255),
  ])
    t.equal(subjectOf(subject), subject, subject)
  const sign_in = { issuer: 'https://idp.test', subject: 's' }
  t.equal(tokenSubject({ ...known, claimed_at: null, sign_in }), 'reg_1')
  t.same(personMembers({ claimed_at: null, email: 'alice@example.com', sign_in }), {})
})
