/** What the library throws, and what that means for the person. */
import { ResponseBodyError } from 'openid-client'
import { test } from 'tap'
import { reasonOf } from '../../src/plugins/oidc-errors.js'

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
