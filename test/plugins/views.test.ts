/** Every template with every text in it hostile (WEB-11), and the pages that only some sign-ins lead to. */
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { t, test } from 'tap'
import { testApp } from '../fixtures/app.js'
import { escaped, HOSTILE, isWellFormed, skeleton } from '../fixtures/html.js'

const VIEWS = join(import.meta.dirname, '../../../views')
/** No pages: parts of some, and the document for agents. */
const PARTS = ['layout', 'who', 'facts', 'agent-name', 'auth.md']

const { app, config } = await testApp(t)
const render = async (template: string, data: object) =>
  (await app.view(template, data)) as unknown as string

const when = { at: '22 November 2026, 14:05 UTC', ago: '2 minutes ago' }
const provider = { name: 'Acme', host: 'acme.example' }
const scopes = [{ name: 'api.read', words: 'Read your data' }]
const linked = {
  id: 'reg_1',
  kind: 'An agent',
  provider,
  scopes: ['Read your data'],
  from: '192.0.2.7',
  linked: when,
}
const agent = { kind: 'An agent', provider, scopes, lifetime: '2 hours' }
/** What any page may have. */
const common = {
  resourceName: 'Weather',
  brand: { name: 'Northwind', logo: {} },
  signIn: true,
  person: { email: 'alice@example.com' },
  account: 'alice@example.com',
  csrf: 'token',
}
const claim = {
  token: 'cat_1',
  return_to: '/claim?claim_attempt_token=cat_1',
  agent,
  asked: { ...when, from: '192.0.2.7' },
  first_time_account: true,
  first_time_provider: true,
  other_network: true,
}
const over = (reason: string) => ({ reason, hinted: 'a•••@e•••.com', agent, return_to: '/claim' })
const chooser = [{ name: 'Acme', host: 'id.acme.example', href: 'http://localhost:8000/login/1' }]

/** Each with all that it can show. */
const PAGES: [template: string, data: object][] = [
  ['claim', claim],
  ['claim', { ...claim, error: 'That is not the code.' }],
  ['claim', { ...claim, first_time_provider: false, agent: { ...agent, provider: undefined } }],
  ['claim-over', over('not_found')],
  ['claim-over', over('wrong_account')],
  ['claim-over', over('already_done')],
  ['claim-over', over('declined')],
  ['claim-over', { ...over('already_done'), over: true }],
  ['claim-over', { ...over('wrong_account'), person: { email: null } }],
  [
    'agents',
    {
      notice: 'Done.',
      more: true,
      live: [
        { ...linked, used: when, set_aside: true },
        { ...linked, refused_provider: true },
        { ...linked, provider: undefined },
      ],
      ended: [{ ...linked, ended: when }],
    },
  ],
  ['agents', { live: [], ended: [] }],
  [
    'agent',
    {
      agent: { ...linked, ended: when },
      events: [{ what: 'x', at: 'y', address: 'z' }],
      more: true,
    },
  ],
  [
    'delegations',
    {
      waiting: [
        { issuer: 'https://a.example', host: 'a.example', subject: 'x', name: 'A', since: 'x' },
      ],
      return_to: '/',
    },
  ],
  ['home', { config, documents: { a: 'b' }, lifetimes: { a: 'b' } }],
  ['login', { return_to: '/claim?a' }],
  ['login', { return_to: '/agents', error: 'Enter an email address.' }],
  ['login', { return_to: '/claim?a', providers: [...chooser, ...chooser] }],
  ['problem', { title: 'That did not work', text: 'Try again.' }],
  ['sign-in-failed', { title: 'No', text: 'Try again.', retry: 'http://localhost:8000/login' }],
  ['leaving', { provider: { name: 'Acme' }, continue_to: 'https://id.acme.example/auth?a=b&c' }],
  ['signed-out', { provider: { name: 'Acme' }, continue_to: 'https://id.acme.example/end?a=b&c' }],
]

/** Not text: which of its own texts a page shows. */
const KEPT = ['reason', 'SIGN_IN']

/** Every text replaced; what says where a page leads keeps its beginning. */
function poisoned(value: unknown, text: string): unknown {
  if (typeof value === 'string') return /^\/[a-z]+/.exec(value)?.[0].concat(text) ?? text
  if (Array.isArray(value)) return value.map((item) => poisoned(item, text))
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value).map(([key, item]) => [
      key,
      KEPT.includes(key) ? item : poisoned(item, text),
    ]),
  )
}

test('every template is a page here, or a part of one', async (t) => {
  const found = readdirSync(VIEWS).flatMap((file) => /^(.*)\.eta$/.exec(file)?.[1] ?? [])
  const known = [...PARTS, ...PAGES.map(([template]) => template)]
  t.same(found.toSorted(), [...new Set(known)].toSorted())
})

test('WEB-11: a template with hostile text in every field has the elements that it has with any', async (t) => {
  for (const [index, [template, data]] of PAGES.entries()) {
    const name = `${template} ${index}`
    const plain = await render(template, { ...common, ...data })
    isWellFormed(t, plain, name)
    t.notMatch(plain, /undefined|null|NaN|\[object/, name)
    for (const text of HOSTILE) {
      const evil = poisoned({ ...common, ...data }, text) as object
      const body = await render(template, evil)
      isWellFormed(t, body, name)
      t.same(skeleton(body), skeleton(plain), name)
      t.match(body, escaped(text), name)
    }
  }
})

test('a choice of providers names each with its host, and says why one is there', async (t) => {
  const body = await render('login', { return_to: '/claim?x', providers: chooser })
  t.match(body, /An agent asks to act for you\. Sign in to see what it wants; nothing is allowed/)
  t.match(body, /href="http:\/\/localhost:8000\/login\/1">Continue with <bdi>Acme<\/bdi><\/a>/)
  t.match(body, '<bdi>id.acme.example</bdi>')
  t.notMatch(body, /<form|<input|development/)
  t.notMatch(await render('login', { return_to: '/agents', providers: chooser }), /asks to act/)
})

test('signing out at the provider too is a page that forwards, with the same as a link', async (t) => {
  const to = 'https://id.acme.example/end?id_token_hint=a&post_logout_redirect_uri=b'
  const body = await render('signed-out', { provider: { name: 'Acme' }, continue_to: to })
  t.match(body, `<meta http-equiv="refresh" content="0; url=${escaped(to)}">`)
  t.match(body, `href="${escaped(to)}"`)
})

test('a page with an error has it in its title, at its field, and the focus on the field', async (t) => {
  const error = 'That is not the code.'
  for (const body of [
    await render('claim', { ...common, ...claim, error }),
    await render('login', { ...common, return_to: '/', error }),
  ]) {
    t.match(body, `<title>${error} · Northwind</title>`)
    const id = /<p class="error" role="alert" id="([^"]*)">That is not the code\.<\/p>/.exec(
      body,
    )![1]
    const input = /<input id[^>]*>/.exec(body)![0]
    t.match(input, new RegExp(`aria-describedby="([^"]* )?${id}"`))
    t.match(input, / autofocus/)
    t.match(input, 'aria-invalid="true"')
  }
  // At first there is something to read before there is something to type.
  t.notMatch(await render('claim', { ...common, ...claim }), /autofocus|role="alert"/)
})
