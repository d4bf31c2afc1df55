/** What all pages for people have: security headers, forms that only our own pages can send, errors in words. */
import helmet from '@fastify/helmet'
import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import type { Person } from '../domain/claim.js'
import { shownEmail } from '../domain/login-hint.js'
import { duration } from '../domain/words.js'
import { methodNotAllowed, OAuthError, refused, toOAuthError } from '../errors.js'

declare module 'fastify' {
  interface FastifyReply {
    /**
     * Renders a page. The template also gets `csrf`, the CSRF token for its forms, and `account`, a name for the
     * signed-in person.
     */
    page(
      template: string,
      data: { person?: Person | undefined; [word: string]: unknown },
    ): Promise<string>
    /** 303 to a path of our own: the method becomes GET, whatever it was (RFC 9700 §4.12). */
    seeOther(path: string): FastifyReply
  }
}

export default fp(
  async (app) => {
    const { config } = app
    await app.register(helmet, {
      contentSecurityPolicy: {
        useDefaults: false,
        directives: {
          defaultSrc: ["'none'"],
          styleSrc: ["'self'"],
          imgSrc: ["'self'"],
          formAction: ["'self'"],
          frameAncestors: ["'none'"],
          baseUri: ["'none'"],
          objectSrc: ["'none'"],
        },
      },
      frameguard: { action: 'deny' },
      hsts: config.ISSUER.startsWith('https:') && {
        maxAge: 31_536_000,
        // We have no say over the deployer's other hosts.
        includeSubDomains: false,
      },
    })
    app.addHook('onRequest', async (request) => {
      if (request.method === 'POST') refuseForeignForms(request)
    })

    // Whoever presses Enter in the address bar of a form's answer asks for the form's address with GET.
    app.addHook('onRoute', ({ method, url, routePath }) => {
      if (method !== 'POST' || app.hasRoute({ method: 'GET', url })) return
      app.get(routePath, { config: { refusesMethod: true } }, async () => {
        throw methodNotAllowed('OPTIONS, POST')
      })
    })

    app.decorateReply('page', async function (this: FastifyReply, template, data) {
      const { email } = data.person ?? { email: null }
      const account = email === null ? 'an account without an address' : shownEmail(email)
      return await this.viewAsync(template, { ...data, account, csrf: this.csrfToken() })
    })
    app.decorateReply('seeOther', function (this: FastifyReply, path) {
      return this.redirect(config.ISSUER + path, 303)
    })

    app.setErrorHandler(async (error: FastifyError | OAuthError, request, reply) => {
      const inWords = (told: OAuthError) => problemWords(told, request.method)
      return await reply.viewAsync('problem', refused(inWords, reply, toOAuthError(error), error))
    })

    /**
     * Browsers say where a form comes from. Sec-Fetch-Site decides: pages that send no referrer have `Origin: null`
     * even in their own forms (Fetch §3.2). An old browser without it must send our origin.
     */
    function refuseForeignForms({ headers }: FastifyRequest): void {
      const { origin, 'sec-fetch-site': site } = headers
      const trusted = new URL(config.ISSUER).origin
      const ours =
        site === 'same-origin'
          ? [undefined, 'null', trusted].includes(origin)
          : site === undefined && origin === trusted
      if (!ours) throw new OAuthError(403, 'forbidden', `Forms are only accepted from ${trusted}.`)
    }
  },
  { name: 'pages', dependencies: ['views', 'csrf', 'forms'] },
)

function problemWords(
  { statusCode, headers }: OAuthError,
  method: string,
): { title: string; text: string } {
  switch (statusCode) {
    case 403:
      return {
        title: 'This form could not be trusted',
        text: 'It did not come from our own page, the page was too old, or your browser keeps no cookies for it, or is too old to say where forms come from. Go back, reload the page and try again.',
      }
    case 404:
      return {
        title: 'There is nothing here',
        text: 'The address may be mistyped, or what was there is gone.',
      }
    case 405:
      return {
        title: 'This page only answers a form',
        text: 'Go back to the page with the form: to your agents, or to the link that your agent gave you.',
      }
    case 429: {
      const minutes = Math.ceil(Number(headers['retry-after']) / 60)
      return {
        title: 'Too many tries',
        text: `They came from your network, which you may share with others. Nothing was changed. Try again in ${duration(minutes * 60)}.`,
      }
    }
    case 500:
      return {
        title: 'Something went wrong on our side',
        text: 'We have made a note of it. Please try again later.',
      }
    case 503:
      return {
        title: 'We cannot answer right now',
        text:
          method === 'POST'
            ? // The commit may have succeeded, and only its result been lost.
              'What you asked for may have been done, or not. Wait a moment, then look again: at your agents, or at the link that your agent gave you.'
            : 'Nothing was changed. Wait a moment, then reload the page.',
      }
    default:
      return {
        title: 'That did not work',
        text: 'The request could not be understood. Go back and try again.',
      }
  }
}
