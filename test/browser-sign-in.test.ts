/** Signing in at real identity providers in a real browser, and the ceremony by way of them (WEB-18). */
import { t, type Test } from 'tap'
import { freePort } from '../src/embedded.js'
import { callApi, poll } from './fixtures/app.js'
import { browserTest, testSite, type Open } from './fixtures/browser.js'
import { testIdentityProvider, verified } from './fixtures/identity-provider.js'
import { inspect } from './fixtures/inspect.js'
import {
  ask,
  authorize,
  button,
  codeField,
  heading,
  open,
  press,
  signInThere,
  tabTo,
} from './fixtures/screen.js'

const ALICE = 'alice@example.com'
const port = await freePort()
const registrar = `http://localhost:${port}`
const idp = await testIdentityProvider(t, { registrar })
const site = await testSite(t, idp.env, port)
const NAMES = [
  'Example Accounts',
  `"'></title><script>document.title="taken"</script>`,
  'W'.repeat(60),
]
const chooserPort = await freePort()
const chooserUrl = `http://localhost:${chooserPort}`
const providers = [
  await testIdentityProvider(t, { registrar: chooserUrl }),
  await testIdentityProvider(t, { registrar: chooserUrl }),
  await testIdentityProvider(t, { registrar: chooserUrl, logout: false }),
]
// Not every one knows of select_account, which is the best to ask of one that offers no sign-out.
providers[2]!.document = (path, body) =>
  path.startsWith('/.well-known') ? { ...body, prompt_values_supported: ['none', 'login'] } : body
const chooser = await testSite(
  t,
  {
    OIDC_PROVIDERS: JSON.stringify(
      providers.map(({ env }, index) => ({
        name: NAMES[index],
        issuer: env.OIDC_ISSUER,
        client_id: env.OIDC_CLIENT_ID,
        client_secret: env.OIDC_CLIENT_SECRET,
      })),
    ),
  },
  chooserPort,
)
const origins = [chooserUrl, ...providers.map(({ issuer }) => issuer)]

const visit = (name: string, fn: (t: Test, browse: Open) => Promise<void>) =>
  browserTest(name, [site.url, idp.issuer], fn)

visit(
  'WEB-17, WEB-18: the whole ceremony with the keyboard alone, from an account elsewhere',
  async (t, browse) => {
    const page = await browse()
    const asked = await ask(site, ALICE)
    await open(page, asked)
    t.equal(await heading(page), 'Sign in at the provider', 'there is nothing to choose')
    await tabTo(t, page, page.getByLabel('Account'))
    await page.keyboard.type('alice')
    await page.keyboard.press('Enter')

    await page.waitForURL(`${site.url}/claim?*`)
    await page.getByText(ALICE).first().waitFor()
    await tabTo(t, page, codeField(page))
    await page.keyboard.type(asked.code)
    await page.keyboard.press('Enter')
    await page.getByRole('heading', { name: /^Done/ }).waitFor()
    const { access_token } = (await poll(site.agents, asked.claim_token)).json()
    t.equal((await callApi(site.agents, access_token)).statusCode, 200)

    await tabTo(t, page, page.getByRole('link', { name: /agents/i }).first())
    await page.keyboard.press('Enter')
    await page.waitForURL(`${site.url}/agents`)
    await tabTo(t, page, button(page, /^Revoke the/))
    await page.keyboard.press('Enter')
    await page.getByText('No agent acts for you').waitFor()
    t.equal((await callApi(site.agents, access_token)).statusCode, 401)
  },
)

visit(
  'with the wrong account one press leads out, to another account and back to the claim',
  async (t, browse) => {
    const page = await browse()
    const asked = await ask(site, ALICE)
    await open(page, asked)
    await signInThere(page, 'bob')
    t.equal(await heading(page), 'This request is for another account')
    await press(page, button(page, 'Use another account'))
    await press(page, button(page, 'Sign out'))
    t.equal(await heading(page), 'Sign in at the provider', 'it does not remember bob')
    await signInThere(page, 'alice')
    t.match(await page.locator('main').innerText(), ALICE)
    await authorize(page, asked.code)
    t.match(await heading(page), /^Done/)
  },
)

visit(
  'two sign-ins that are under way in two tabs lead each to its own claim',
  async (t, browse) => {
    const one = await browse()
    const two = await one.context().newPage()
    const [first, second] = [await ask(site, ALICE), await ask(site, ALICE)]
    await open(one, first)
    await open(two, second)
    await signInThere(two, 'alice')
    await signInThere(one, 'alice')
    await authorize(one, first.code)
    await authorize(two, second.code)
    for (const [page, { claim_token }] of [
      [one, first],
      [two, second],
    ] as const) {
      if (page === two) {
        t.equal(await heading(page), 'This form could not be trusted', 'the later sign-in ended it')
        await page.goBack()
        await authorize(page, second.code)
      }
      t.match(await heading(page), /^Done/)
      t.match((await poll(site.agents, claim_token)).json(), { access_token: /./ })
    }
  },
)

visit(
  'a session that is too old for a decision is renewed, with the code still to type',
  async (t, browse) => {
    const page = await browse()
    const asked = await ask(site, ALICE)
    await open(page, asked)
    await signInThere(page, 'alice')
    await site.pool.query(`update sessions set created_at = created_at - interval '2 hours'`)
    idp.ageSignIns(7200)
    // Stays on the page of ours in between.
    idp.answer = (_request, response) => response.writeHead(204).end()
    await authorize(page, asked.code)
    await inspect(t, page, 'sign-in again')
    idp.answer = idp.serve
    await press(page, page.locator('main').getByRole('link'))
    t.equal(await heading(page), 'Sign in at the provider', 'its own memory is not enough')
    await signInThere(page, 'alice')
    await authorize(page, asked.code)
    t.match(await heading(page), /^Done/)
  },
)

visit('a provider that is away, and a person who cancels, lose nothing', async (t, browse) => {
  const page = await browse()
  const asked = await ask(site, ALICE)
  await open(page, asked)
  await press(page, button(page, 'Cancel'))
  await inspect(t, page, 'cancelled')
  await press(page, page.getByRole('link', { name: 'Try again' }))
  await page.waitForURL(`${idp.issuer}/**`)

  idp.answer = (request, response) => {
    if (request.url === '/token') response.writeHead(503).end()
    else idp.serve(request, response)
  }
  await signInThere(page, 'alice')
  await inspect(t, page, 'provider away')
  idp.answer = idp.serve
  await page.reload()
  await authorize(page, asked.code)
  t.match(await heading(page), /^Done/)
})

visit('signing out ends both sessions, and the back button shows nothing', async (t, browse) => {
  const page = await browse()
  await page.goto(`${site.url}/login?return_to=/agents`)
  await signInThere(page, 'alice')
  t.equal(await heading(page), 'Your agents')
  idp.answer = (_request, response) => response.writeHead(204).end()
  await press(page, button(page, 'Sign out'))
  await inspect(t, page, 'signed out here')
  idp.answer = idp.serve
  await press(page, page.locator('main').getByRole('link'))
  await press(page, button(page, 'Sign out'))
  t.equal(page.url(), `${site.url}/`)
  t.equal(await page.getByText(ALICE).count(), 0)
  await page.goto(`${site.url}/agents`)
  t.equal(await heading(page), 'Sign in at the provider', 'and not by itself')
})

browserTest(
  'of several providers a person chooses one, by keyboard too',
  origins,
  async (t, browse) => {
    const page = await browse()
    const asked = await ask(chooser, ALICE)
    await open(page, asked)
    await inspect(t, page, 'the choice')
    t.not(await page.title(), 'taken')
    const choices = page.locator('main').getByRole('link')
    t.equal(await choices.count(), NAMES.length)
    for (const [index, name] of NAMES.entries()) t.match(await choices.nth(index).innerText(), name)
    await providers[0]!.shut()
    await press(page, choices.nth(0))
    t.match(await page.locator('main').innerText(), /try again/i)
    await inspect(t, page, 'the chosen one is away')
    await page.goBack()
    await tabTo(t, page, choices.nth(1))
    await page.keyboard.press('Enter')
    await page.waitForURL(`${providers[1]!.issuer}/**`)
    await signInThere(page, 'alice')
    await authorize(page, asked.code)
    t.match(await heading(page), /^Done/)
  },
)

browserTest('a provider without a sign-out is left by a link', origins, async (t, browse) => {
  const page = await browse()
  providers[2]!.accounts.carol = verified('carol')
  const asked = await ask(chooser, 'carol@example.com')
  await open(page, asked)
  await press(page, page.locator('main').getByRole('link').nth(2))
  await signInThere(page, 'bob')
  await press(page, button(page, 'Use another account'))
  await press(page, page.locator('main').getByRole('link').nth(2))
  await signInThere(page, 'carol')
  await authorize(page, asked.code)
  t.match(await heading(page), /^Done/)
})
