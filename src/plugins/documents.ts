/** Documents made once and served from memory, with an ETag: they need no database. */
import { createHash } from 'node:crypto'
import type { FastifyReply } from 'fastify'
import fp from 'fastify-plugin'
import { MAX_AGE_SECONDS } from '../domain/metadata.js'

declare module 'fastify' {
  interface FastifyInstance {
    cachedDocument(type: string, body: string | Buffer): CachedDocument
  }
  interface FastifyReply {
    /** Sends the document, or 304 to a client that has it (RFC 9110 §13.1.2). */
    document(document: CachedDocument): FastifyReply
  }
}

export interface CachedDocument {
  type: string
  body: string | Buffer
  headers: { 'cache-control': string; etag: string }
}

/**
 * A list of tags, weak or not (RFC 9110 §8.8.3). Each match begins where the one before it ended, so the list is read
 * only once.
 */
const TAGS = /[\s,]*(?:W\/)?("[^"]*")\s*(?![^,])/gy

const CACHE_CONTROL = `public, max-age=${MAX_AGE_SECONDS}`

export default fp(
  async (app) => {
    app.decorate('cachedDocument', (type: string, body: string | Buffer) => {
      const etag = `"${createHash('sha256').update(body).digest('base64url')}"`
      return { type, body, headers: { 'cache-control': CACHE_CONTROL, etag } }
    })
    app.decorateReply('document', function (this: FastifyReply, { type, body, headers }) {
      const { etag } = headers
      this.headers(headers)
      const known = this.request.headers['if-none-match'] ?? ''
      if (known === '*' || [...known.matchAll(TAGS)].some(([, tag]) => tag === etag))
        return this.code(304).send()
      return this.type(type).send(body)
    })
  },
  { name: 'documents' },
)
