/** The templates: pages for people, and /auth.md for agents. */
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import view from '@fastify/view'
import { Eta } from 'eta'
import fp from 'fastify-plugin'
import type { CachedDocument } from './documents.js'

declare module 'fastify' {
  interface FastifyInstance {
    stylesheet: CachedDocument
    /** Renders a template without escaping: nothing from a request may go in. */
    renderMarkdown(template: string, data: object): string
  }
}

const VIEWS = fileURLToPath(new URL('../../../views', import.meta.url))

export default fp(
  async (app) => {
    const { config } = app
    const markdown = new Eta({ views: VIEWS, autoEscape: false, autoTrim: false })
    app.decorate('renderMarkdown', (template, data) => markdown.render(template, data))
    app.decorate(
      'stylesheet',
      app.cachedDocument(
        'text/css; charset=utf-8',
        readFileSync(`${VIEWS}/style.css`, 'utf8') + app.brand.style,
      ),
    )
    await app.register(view, {
      engine: { eta: new Eta({ views: VIEWS, cache: true }) },
      root: VIEWS,
      viewExt: 'eta',
      defaultContext: {
        issuer: config.ISSUER,
        resourceName: config.RESOURCE_NAME,
        brand: app.brand,
        // So that after an upgrade no page is shown with an old stylesheet from the browser's cache.
        styleVersion: app.stylesheet.headers.etag.slice(1, 9),
        signIn: config.SIGN_IN !== 'none',
      },
    })
  },
  { name: 'views', dependencies: ['documents', 'brand'] },
)
