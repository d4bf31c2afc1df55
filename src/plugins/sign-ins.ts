/**
 * How people sign in: the way to the identity provider and back, and what follows, however they proved who they are.
 */
import type { FastifyReply } from 'fastify'
import fp from 'fastify-plugin'
import type { OidcProvider } from '../config.js'
import { loginPath } from '../domain/return-to.js'
import { newId } from '../domain/secrets.js'
import * as signIns from '../domain/sign-in.js'
import { recordAudit } from '../repositories/audit-events.js'
import { listSetAside, setAsideDelegations } from '../repositories/set-aside.js'
import { signInUser } from '../repositories/users.js'
import type { SignInRequest } from './oidc.js'
import { answerOf } from './oidc-errors.js'

declare module 'fastify' {
  interface FastifyReply {
    /** Sends the browser to the provider, with a cookie of what the answer must match. */
    leaveToSignIn(provider: OidcProvider, request: SignInRequest): Promise<FastifyReply | string>
    /** The page that says why a sign-in failed, with a link to try again. */
    signInFailed(reason: signIns.SignInReason, return_to: string, cause?: unknown): Promise<string>
    /**
     * Finds or creates the user and starts the session; returns the path of the next page. `idToken`: the provider's,
     * needed to end its session too.
     */
    completeSignIn(signIn: signIns.SignIn, return_to: string, idToken?: string): Promise<string>
  }
}

const PENDING_SECONDS = 600
const MOST_PENDING = 8
/** The names that we give. Others with this prefix came from elsewhere, and some cannot be written into an answer. */
const PENDING_NAME = new RegExp(`^${signIns.PENDING_COOKIE}[\\w-]{43}$`)

export default fp(
  async (app) => {
    const { config, db } = app

    app.decorateReply('leaveToSignIn', async function (this: FastifyReply, provider, request) {
      const outcome = await app.oidc.begin(provider, request)
      if (!outcome.ok)
        return await this.signInFailed(outcome.reason, request.return_to, outcome.cause)
      const waiting = Object.keys(this.request.cookies)
        .filter((name) => PENDING_NAME.test(name))
        .slice(0, MOST_PENDING)
      // If they piled up, the browser's requests would become too large to read.
      if (waiting.length === MOST_PENDING) for (const name of waiting) this.clearCookie(name)
      this.sealCookie(signIns.PENDING_COOKIE + outcome.state, outcome.pending, PENDING_SECONDS)
      // After a form of ours, browsers stay on our own origin through every redirect (CSP3 §6.4.2): then via a page.
      if (this.request.headers['sec-fetch-site'] === 'same-origin')
        return await this.page('leaving', { provider, continue_to: outcome.url })
      return this.redirect(outcome.url, 303)
    })

    app.decorateReply(
      'signInFailed',
      async function (this: FastifyReply, reason, return_to, cause) {
        const { status, title, text } = signIns.SIGN_IN_FAILURES[reason]
        this.request.refusal = { error: 'sign_in_failed', reason, description: title }
        const level = status >= 500 ? 'error' : 'info'
        this.request.log[level]({ reason, answer: answerOf(cause), err: cause }, 'sign-in failed')
        if (status === 503) this.header('retry-after', '5')
        const retry = config.ISSUER + loginPath(return_to)
        return await this.code(status).page('sign-in-failed', { title, text, retry })
      },
    )

    app.decorateReply(
      'completeSignIn',
      async function (this: FastifyReply, signIn, return_to, idToken) {
        const { address } = this.request
        const user_id = await app.transaction(async (tx) => {
          const details = { reason: 'their address became another account’s' }
          const row = { ...signIn, newUserId: newId('user_') }
          const { created, first, user_id: id } = await signInUser(tx, row, { address, details })
          if (created) await recordAudit(tx, { event: 'user.created', user_id: id, address })
          else if (first) await setAsideDelegations(tx, id, address)
          return id
        })
        await this.startSession(user_id, signIn.issuer, idToken)
        const aside = await listSetAside(db, user_id)
        return aside.length === 0
          ? return_to
          : `/delegations?return_to=${encodeURIComponent(return_to)}`
      },
    )
  },
  { name: 'sign-ins', dependencies: ['sessions', 'sealed-cookies', 'oidc', 'pages'] },
)
