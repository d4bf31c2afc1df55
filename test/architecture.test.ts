/** The house rules that a reader of the sources can check: who imports whom, sizes, what documents and tests promise. */
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'
import { test } from 'tap'

const ROOT = join(import.meta.dirname, '../..')

/** The files directly in src/; every other file belongs to the part that its folder is named after. */
const PARTS: Record<string, string> = {
  'app.ts': 'app',
  'background.ts': 'setup',
  'batched.ts': 'setup',
  'cli.ts': 'cli',
  'cli-audit.ts': 'cli',
  'cli-doctor.ts': 'cli',
  'cli-doctor-check.ts': 'cli',
  'cli-doctor-database.ts': 'cli',
  'cli-doctor-keys.ts': 'cli',
  'cli-doctor-providers.ts': 'cli',
  'cli-doctor-public.ts': 'cli',
  'cli-io.ts': 'cli',
  'cli-issuers.ts': 'cli',
  'cli-prune.ts': 'cli',
  'cli-registrations.ts': 'cli',
  'cli-keys.ts': 'cli',
  'cli-resource-servers.ts': 'cli',
  'cli-revocations.ts': 'cli',
  'cli-revoke-all.ts': 'cli',
  'cli-table.ts': 'cli',
  'cli-users.ts': 'cli',
  'client-error.ts': 'errors',
  'config.ts': 'setup',
  'config-faults.ts': 'setup',
  'database.ts': 'setup',
  'database-away.ts': 'errors',
  'embedded.ts': 'setup',
  'errors.ts': 'errors',
  'key-store.ts': 'key-store',
  'log.ts': 'setup',
  'migrations.ts': 'setup',
  'open-database.ts': 'setup',
  'plugins/jwks-fetch.ts': 'fetch',
  'plugins/meters.ts': 'meters',
  'plugins/tracer.ts': 'meters',
  'plugins/oidc-discovery.ts': 'fetch',
  'plugins/oidc-errors.ts': 'fetch',
  'repositories/tables.ts': 'tables',
  'secret.ts': 'setup',
  'server.ts': 'server',
  'trust-proxy.ts': 'setup',
  'version.ts': 'setup',
  'write-behind.ts': 'setup',
}

/** DESIGN §2. `types` may be imported with `import type` beside the others; `packages`: any when left out. */
const MAY_IMPORT: Record<string, { parts: string[]; types?: string[]; packages?: RegExp }> = {
  server: { parts: ['app', 'setup'] },
  cli: {
    parts: ['cli', 'server', 'app', 'setup', 'key-store', 'fetch', 'repositories', 'domain'],
    types: ['tables'],
  },
  app: { parts: ['plugins', 'routes', 'setup', 'errors'] },
  plugins: {
    parts: ['repositories', 'schemas', 'domain', 'errors', 'fetch', 'key-store', 'meters', 'setup'],
    types: ['plugins', 'tables'],
  },
  routes: {
    parts: ['schemas', 'domain', 'repositories', 'errors'],
    types: ['plugins', 'tables', 'setup'],
    packages: /^(?!kysely|pg$)/,
  },
  repositories: { parts: ['repositories', 'tables'], types: ['domain'], packages: /^kysely$/ },
  tables: { parts: [], packages: /^kysely$/ },
  schemas: { parts: ['schemas'], packages: /^@sinclair\/typebox$/ },
  domain: { parts: ['domain'], packages: /^node:(crypto|url)$/ },
  errors: { parts: ['errors'] },
  fetch: { parts: ['domain'], types: ['setup'] },
  'key-store': {
    parts: ['setup', 'repositories', 'domain'],
    types: ['tables'],
    packages: /^node:crypto$/,
  },
  meters: { parts: ['domain', 'setup'], types: ['plugins', 'repositories'] },
  setup: { parts: ['setup', 'domain'], types: ['tables'] },
}

/** With `from`, or for its effect, or `import()`; the first group is `type`, the second what it names. */
const IMPORT =
  /^(?:import|export)\s+(?:(type\s)?[^'";=]*?\sfrom\s+)?'([^']+)'|\bimport\(\s*'([^']+)'/gm

test('a source imports only what DESIGN §2 lets it', async (t) => {
  t.same(sources('src').flatMap(violations), [])
})

test('C35: every transaction is one that runs again after a deadlock', async (t) => {
  const direct = sources('src').filter((file) => /\.transaction\(\)/.test(read('src', file)))
  t.same(direct, ['database.ts'])
})

test('a source has fewer than 300 lines and a test at most 400', async (t) => {
  t.same([...longer('src', 299), ...longer('test', 400)], [])
})

test('10027-01, 9700-03: each risk of the ceremony is assessed, and its proofs exist', async (t) => {
  const [summary, ...sections] = read('docs', 'ceremony-risks.md').split(/^### /m)
  const listed = [...summary!.matchAll(/^\| (R\d+) /gm)]
  t.same(
    sections.map((section) => /^R\d+/.exec(section)![0]),
    listed.map(([, id]) => id),
  )
  for (const section of sections) {
    const proofs = [...section.matchAll(/^- `(test\/\S+)`: (.+)$/gm)]
    t.ok(proofs.length > 0, section.slice(0, 60))
    for (const [, file, title] of proofs) t.match(read('', file!), `'${title}'`, file!)
    for (const part of ['**What stops it.**', '**What is left.**']) t.match(section, part)
  }
})

function violations(file: string): string[] {
  const part = partOf(file)
  const rule = MAY_IMPORT[part]
  if (rule === undefined) return [`src/${file} is in no part that DESIGN §2 names`]
  return [...read('src', file).matchAll(IMPORT)]
    .map(([, type, named, dynamic]) => ({ type, target: (named ?? dynamic) as string }))
    .filter(({ type, target }) => {
      if (!target.startsWith('.')) return type === undefined && !(rule.packages ?? /^/).test(target)
      return ![...rule.parts, ...(type ? (rule.types ?? []) : [])].includes(
        partOf(normalize(join(dirname(file), target)).replace(/\.js$/, '.ts')),
      )
    })
    .map(({ type, target }) => `src/${file} (${part}) imports ${type ?? ''}${target}`)
}

function longer(folder: string, limit: number): string[] {
  return sources(folder)
    .map((file) => ({ file, lines: read(folder, file).split('\n').length - 1 }))
    .filter(({ lines }) => lines > limit)
    .map(({ file, lines }) => `${folder}/${file} has ${lines} lines`)
}

function sources(folder: string): string[] {
  const files = readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
  return files.filter((file) => file.endsWith('.ts'))
}

function read(folder: string, file: string): string {
  return readFileSync(join(ROOT, folder, file), 'utf8')
}

function partOf(file: string): string {
  return PARTS[file] ?? dirname(file)
}
