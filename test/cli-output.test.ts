/** How the operator's command tells what it found, and helps those who do not know it. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { test } from 'tap'
import { table } from '../src/cli-table.js'
import { testDatabase } from './fixtures/database.js'
import { isSentence, operator, operatorInto, start } from './fixtures/process.js'

const TERMINAL = pathToFileURL(join(import.meta.dirname, 'fixtures/terminal.js')).href
const onTerminal = { NODE_OPTIONS: `--import=${TERMINAL}`, COLUMNS: '80' }

test('on a terminal lists are tables and single things are lines; elsewhere and with --json all is JSON', async (t) => {
  const { url: DATABASE_URL } = await testDatabase(t)
  const [piped, seen] = [{ DATABASE_URL }, { DATABASE_URL, ...onTerminal }].map((env) =>
    operator(t, env),
  ) as [ReturnType<typeof operator>, ReturnType<typeof operator>]
  t.equal((await seen('resource-servers', 'list')).stdout, 'none\n')
  const { id, secret } = JSON.parse((await seen('resource-servers', 'add', 'orders')).stdout)
  t.match(secret, /^rss_/, 'what is shown once is JSON always')
  const lines = (await seen('resource-servers', 'list')).stdout.split('\n')
  t.match(lines[0], /^id +name +created_at$/)
  t.match(lines[1], RegExp(`^${id} +orders +20\\S+Z$`))
  const all = [{ id, name: 'orders' }]
  for (const args of [
    ['resource-servers', 'list', '--json'],
    ['--json', 'resource-servers', 'list'],
    ['resource-servers', '--json', 'list'],
  ])
    t.match(JSON.parse((await seen(...args)).stdout), all)
  for (const args of [['list'], ['list', '--json']])
    t.match(JSON.parse((await piped('resource-servers', ...args)).stdout), all)
  t.match((await seen('prune')).stdout, /^expired {11}0\nspent_assertions {2}0\n/)
  const { stdout } = await seen('audit', 'tail')
  t.match(JSON.parse(stdout.trim()), { event: 'resource_server.added' }, 'JSON lines always')
})

test('what cannot be written is said, and a reader that has enough is no fault', async (t) => {
  const { url: DATABASE_URL } = await testDatabase(t)
  for (const args of [['list'], ['add', 'orders']]) {
    const { child, ended } = start(t, 'cli', ['resource-servers', ...args], { DATABASE_URL })
    child.stdout!.destroy()
    t.match(await ended, { code: 0, stderr: '' })
  }
  if (!existsSync('/dev/full')) return
  const full = operatorInto(t, '/dev/full', { DATABASE_URL })
  for (const args of [
    ['resource-servers', 'add', 'lost'],
    ['resource-servers', 'list'],
    ['audit', 'export'],
    ['migrate', 'status'],
  ])
    isSentence(t, await full(...args), /^Standard output .* ENOSPC.* stays done\.$/m)
  t.match(await full('doctor'), { code: 1, stderr: /ENOSPC/ })
})

test('migrate tells with --json what it ran and what there is', async (t) => {
  const { url: DATABASE_URL } = await testDatabase(t, { empty: true })
  const registrar = operator(t, { DATABASE_URL })
  const json = async (...args: string[]) =>
    JSON.parse((await registrar('migrate', ...args, '--json')).stdout)
  const missing = { name: '0001_registrations', known: true, applied_at: null }
  const [first] = await json('status')
  t.same(first, missing)
  const names = await json('up')
  t.equal(names[0], missing.name)
  t.same(await json('up'), [])
  t.match((await json('status'))[0], { name: missing.name, applied_at: /^20/ })
  t.same(await json('down', '--count', '2'), names.slice(-2).toReversed())
})

test('every command says what it takes; each group gives examples, of commands that it has', async (t) => {
  const registrar = operator(t, {})
  const help = (await registrar('--help')).stdout
  const groups = ['migrate', 'keys', 'issuers', 'resource-servers', 'registrations', 'users']
  const single = ['start', 'doctor', 'prune', 'revoke-all', 'audit']
  for (const name of [...groups, ...single]) {
    t.match(help, RegExp(`^  ${name} `, 'm'))
    const { code, stdout } = await registrar(name, '--help')
    t.equal(code, 0)
    t.match(stdout, /^ {2}--json +print JSON, also on a terminal$/m, name)
    if (name === 'start') continue
    t.match(stdout, /^Examples:\n {2}registrar /m, name)
    const commands = stdout.slice(stdout.indexOf('\nCommands:\n'))
    for (const [, group, command] of stdout.matchAll(
      /^ {2}registrar ([\w-]+)(?: ([a-z][\w-]*))?/gm,
    )) {
      t.equal(group, name)
      if (command) t.match(commands, RegExp(`^  ${command} `, 'm'))
    }
  }
  t.match(await registrar('--version'), { code: 0, stdout: /^\d+\.\d+\.\d+\n$/ })
  t.match(await registrar('keyz'), { code: 1, stderr: /Did you mean keys\?/ })
  t.match(await registrar('keys', 'lst'), { code: 1, stderr: /Did you mean list\?/ })
  t.match(await registrar('keys'), { code: 1, stderr: /^Usage: registrar keys / })
})

test('a table fits the terminal, and nothing in it moves the cursor', async (t) => {
  const at = new Date('2026-01-31T09:00:00Z')
  t.equal(
    table(
      [
        { id: 'a', tags: ['x', 'y'], at },
        { id: 'bcd', tags: [], at: null },
      ],
      80,
    ),
    'id   tags  at\na    x, y  2026-01-31T09:00:00.000Z\nbcd  -     -',
  )
  t.equal(
    table(
      [
        { id: 'a', more: { n: 1 } },
        { id: 'b', more: [1] },
      ],
      9,
    ),
    'id    a\nmore  {"n":1}\n\nid    b\nmore  [1]',
  )
  t.equal(table(['one', 'two'], 80), 'one\ntwo')
  t.equal(
    table({ name: 'a\u001b[2J\u202e\n\u2028é' }, 80),
    'name  a\\u{1b}[2J\\u{202e}\\u{a}\\u{2028}é',
  )
})
