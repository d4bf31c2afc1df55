/**
 * The deployer's name, logo and accent colour. The logo is served from here: a page that loaded it from another host
 * would tell that host who reads the page.
 */
import { createReadStream } from 'node:fs'
import { Readable } from 'node:stream'
import type { ReadableStream } from 'node:stream/web'
import fp from 'fastify-plugin'
import { inBackground, pause } from '../background.js'
import { ConfigError } from '../config.js'
import { accents, type Accent } from '../domain/color.js'
import type { CachedDocument } from './documents.js'

declare module 'fastify' {
  interface FastifyInstance {
    brand: Brand
  }
}

interface Brand {
  name: string
  /** Undefined when there is none, or it has not been loaded yet. */
  logo: CachedDocument | undefined
  /** CSS that is appended to the stylesheet. */
  style: string
}

const MAX_BYTES = 262_144
const TIMEOUT_MS = 5_000
const FIRST_PAUSE_MS = 1_000
const LONGEST_PAUSE_MS = 600_000

/** By the extension of a file; for what is fetched the Content-Type says it. */
const TYPES: Record<string, string> = {
  png: 'image/png',
  jpg: 'image/jpeg',
  jpeg: 'image/jpeg',
  webp: 'image/webp',
  gif: 'image/gif',
  svg: 'image/svg+xml',
}

interface Image {
  type: string
  body: Buffer
}

export default fp(
  async (app) => {
    const { BRAND_NAME, RESOURCE_NAME, BRAND_LOGO_URI: uri, BRAND_COLOR: color } = app.config
    const brand: Brand = {
      name: BRAND_NAME ?? RESOURCE_NAME,
      logo: undefined,
      style: color === undefined ? '' : accentStyle(accents(color)),
    }
    app.decorate('brand', brand)
    if (uri === undefined) return
    const show = ({ type, body }: Image) => void (brand.logo = app.cachedDocument(type, body))

    // A local logo is there from the first page on, or the server does not start.
    if (!/^https?:/i.test(uri)) {
      show(
        await load(uri).catch((error: Error) => {
          const why = error.cause ? 'a data: URL that is malformed' : error.message
          throw new ConfigError([`BRAND_LOGO_URI: cannot be used: ${why}`])
        }),
      )
      return
    }

    // Pages do not wait for a remote logo: until it is loaded they show the name alone.
    inBackground(app, async (stop) => {
      let retry_in_ms = FIRST_PAUSE_MS
      while (!stop.aborted) {
        try {
          return show(await load(uri, stop))
        } catch (error) {
          if (stop.aborted) return
          app.log.warn({ err: error, retry_in_ms }, 'the logo cannot be loaded')
        }
        await pause(retry_in_ms, stop)
        retry_in_ms = Math.min(retry_in_ms * 2, LONGEST_PAUSE_MS)
      }
    })
  },
  { name: 'brand', dependencies: ['documents'] },
)

async function load(uri: string, signal?: AbortSignal): Promise<Image> {
  const { type, stream } = /^file:/i.test(uri) ? file(uri) : await fetched(uri, signal)
  if (!Object.values(TYPES).includes(type))
    throw new Error(`not an image of a type that is shown: ${type || 'unknown'}`)
  const chunks: Uint8Array[] = []
  let bytes = 0
  for await (const chunk of stream) {
    bytes += chunk.length
    if (bytes > MAX_BYTES) throw new Error(`larger than ${MAX_BYTES} bytes`)
    chunks.push(chunk)
  }
  if (bytes === 0) throw new Error('empty')
  return { type, body: Buffer.concat(chunks) }
}

interface Source {
  type: string
  stream: AsyncIterable<Uint8Array>
}

function file(uri: string): Source {
  const url = new URL(uri)
  const ending = /\.(\w+)$/.exec(url.pathname)?.[1]?.toLowerCase() ?? ''
  return { type: TYPES[ending] ?? ending, stream: createReadStream(url) }
}

/** Also for `data:` URLs. */
async function fetched(uri: string, stop?: AbortSignal): Promise<Source> {
  // On Node 20 garbage collection takes away AbortSignal.any, and from a body the signal of its request.
  const over = new AbortController()
  const { signal } = over
  setTimeout(() => over.abort(new Error(`not there in ${TIMEOUT_MS} ms`)), TIMEOUT_MS).unref()
  stop?.addEventListener('abort', () => over.abort(), { signal })
  const response = await fetch(uri, { redirect: 'error', signal })
  if (response.status !== 200) throw new Error(`HTTP status ${response.status}`)
  const type = (response.headers.get('content-type') ?? '').split(';', 1)[0]!.trim().toLowerCase()
  return { type, stream: Readable.fromWeb(response.body as ReadableStream, { signal }) }
}

function accentStyle({ light, dark }: { light: Accent; dark: Accent }): string {
  const root = ({ accent, on }: Accent) => `:root { --accent: ${accent}; --on-accent: ${on}; }`
  return `${root(light)}\n@media (prefers-color-scheme: dark) { ${root(dark)} }\n`
}
