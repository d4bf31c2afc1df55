/** What the library throws, and what that means for the person. */
import { ResponseBodyError } from 'openid-client'
import { test } from 'tap'
import { answerOf, reasonOf } from '../../src/plugins/oidc-errors.js'

test('why a sign-in failed is told by class and code', (t) => {
  const response = (status: number) => ({ cause: {}, response: new Response('{}', { status }) })
  const answers: [status: number, error: string, reason: string][] = [
    [400, 'invalid_grant', 'not_ours'],
    [401, 'invalid_client', 'misconfigured'],
    [503, 'temporarily_unavailable', 'away'],
  ]
  for (const [status, error, reason] of answers) {
    const thrown = new ResponseBodyError(error, { ...response(status), cause: { error } })
    t.equal(reasonOf(thrown), reason, error)
  }
  t.end()
})

test('the log says which answer of the provider it was', async (t) => {
  const url = 'data:application/json,{}'
  const answer = await fetch(url)
  const refused = new ResponseBodyError('x', { cause: { error: 'x' }, response: answer })
  t.same(answerOf(refused), { url, status: 200 })
  t.same(answerOf(new Error('x', { cause: answer })), { url, status: 200 })
  for (const other of [new Error('x'), new Error('x', { cause: new Error('y') }), undefined])
    t.equal(answerOf(other), undefined)
})
