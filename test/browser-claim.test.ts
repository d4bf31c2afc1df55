/** The ceremony in a real browser: a person lets an agent in, or does not (PROTOCOL §7, CONFORMANCE §10). */
import { t, type Test } from 'tap'
import { callApi, poll } from './fixtures/app.js'
import { browserTest, testSite, type Open } from './fixtures/browser.js'
import { inspect } from './fixtures/inspect.js'
import {
  ask,
  authorize,
  button,
  codeField,
  heading,
  open,
  press,
  signIn,
  tabTo,
  type Asked,
} from './fixtures/screen.js'

const ALICE = 'alice@example.com'
const site = await testSite(t)
const visit = (name: string, fn: (t: Test, open: Open) => Promise<void>) =>
  browserTest(name, [site.url], fn)

const attempt = async ({ id }: Asked) =>
  (await site.pool.query('select * from claim_attempts where registration_id = $1', [id])).rows[0]
const audited = async ({ id }: Asked, event: string): Promise<number> =>
  (
    await site.pool.query('select from audit_events where registration_id = $1 and event = $2', [
      id,
      event,
    ])
  ).rowCount!

/** What the agent is told when it asks next. */
const answered = async ({ claim_token }: Asked) => (await poll(site.agents, claim_token)).json()

visit('WEB-17: the whole ceremony works with the keyboard alone', async (t, browse) => {
  const page = await browse()
  const asked = await ask(site, ALICE)
  await open(page, asked)
  t.match(page.url(), `${site.url}/login?return_to=`)
  await tabTo(t, page, page.getByLabel('Email address'))
  await page.keyboard.type(ALICE)
  await page.keyboard.press('Enter')

  await page.waitForURL(`${site.url}/claim?*`)
  t.notMatch(await page.content(), asked.code, '8628-13: the code is never there already')
  await tabTo(t, page, codeField(page))
  await page.keyboard.type(asked.code)
  await tabTo(t, page, button(page, 'Authorize'))
  await page.keyboard.press('Enter')

  await page.getByRole('heading', { name: /^Done/ }).waitFor()
  t.notMatch(page.url(), asked.code, 'WEB-16: no code in the history')
  const { access_token } = await answered(asked)
  t.equal((await callApi(site.agents, access_token, 'POST')).statusCode, 200)

  await tabTo(t, page, page.getByRole('link', { name: /agents/i }).first())
  await page.keyboard.press('Enter')
  await page.waitForURL(`${site.url}/agents`)
  await tabTo(t, page, button(page, /^Revoke/))
  await page.keyboard.press('Space')
  await page.getByText('No agent acts for you').waitFor()
  t.equal((await callApi(site.agents, access_token)).statusCode, 401)
})

visit(
  'a person with the wrong account gets to the same claim with the right one',
  async (t, browse) => {
    const page = await browse()
    const asked = await ask(site, ALICE)
    await open(page, asked)
    await signIn(page, 'bob@example.com')
    t.equal(await heading(page), 'This request is for another account')
    t.equal(await codeField(page).count(), 0, 'there is no form to fill in')
    t.match(await page.locator('main').innerText(), /a•••@e•••\.com/)
    t.notMatch(await page.content(), ALICE)
    await inspect(t, page, 'another account')

    await press(page, button(page, 'Use another account'))
    t.equal(await heading(page), 'Sign in')
    await signIn(page, ALICE)
    t.match(await page.locator('main').innerText(), ALICE)
    await authorize(page, asked.code)
    t.match(await heading(page), /^Done/)
    t.match(await answered(asked), { access_token: /./ })
  },
)

visit('wrong codes: two that are none, then until the claim is closed', async (t, browse) => {
  const page = await browse()
  const asked = await ask(site, ALICE)
  await open(page, asked)
  await signIn(page, ALICE)
  const alert = page.getByRole('alert')
  const focused = codeField(page).and(page.locator(':focus'))

  for (const code of ['12345', 'abcdef']) {
    await authorize(page, code)
    t.match(await alert.innerText(), 'six digits')
    await focused.waitFor()
    t.equal(await codeField(page).getAttribute('aria-invalid'), 'true')
    t.equal(await codeField(page).inputValue(), '')
    t.equal((await attempt(asked)).wrong_codes, 0, 'it is not held against anybody')
  }
  for (const left of [
    '4 tries are left',
    '3 tries are left',
    '2 tries are left',
    'One try is left',
  ]) {
    await authorize(page, asked.wrong)
    t.match(await alert.innerText(), left)
    await focused.waitFor()
    t.match(await page.title(), /code/i, 'the title, which is read first, says so too')
  }
  await inspect(t, page, 'a wrong code')
  await authorize(page, asked.wrong)
  t.equal(await heading(page), 'Too many wrong codes')
  await open(page, asked)
  t.equal(await heading(page), 'Too many wrong codes', 'WEB-14')
  t.same((await answered(asked)).error, 'expired_token')
})

visit('8628-12: a code is pasted whole, as wide as an agent wrote it', async (t, browse) => {
  const page = await browse()
  await page.goto(`${site.url}/login`)
  await signIn(page, ALICE)
  for (const write of [
    (digits: string[]) => digits.join(' - '),
    (digits: string[]) => digits.map((digit) => `${digit}\ufe0f\u20e3`).join(' '),
  ]) {
    const asked = await ask(site, ALICE)
    await open(page, asked)
    await authorize(page, write([...asked.code]))
    t.match(await heading(page), /^Done/)
  }
})

visit('10027-03: Decline needs no code and ends it', async (t, browse) => {
  const page = await browse()
  const asked = await ask(site, ALICE)
  await open(page, asked)
  await signIn(page, ALICE)
  const [yes, no] = [
    await button(page, 'Authorize').boundingBox(),
    await button(page, 'Decline').boundingBox(),
  ]
  t.equal(no!.height, yes!.height)
  t.ok(Math.abs(no!.width - yes!.width) < 2, 'it is as large as the other')
  t.equal(no!.y, yes!.y, 'and beside it')
  await press(page, button(page, 'Decline'))
  t.equal(await heading(page), 'You declined')
  t.same((await answered(asked)).error, 'access_denied')
  await page.reload()
  t.equal(await heading(page), 'You declined')
  await page.goBack()
  await open(page, asked)
  t.equal(await heading(page), 'You declined', 'nobody can change their mind with the old link')
})

visit(
  'B63: a double click authorizes once; the back button and an old tab find it done',
  async (t, browse) => {
    const page = await browse()
    const asked = await ask(site, 'dora@example.com')
    await open(page, asked)
    await signIn(page, 'dora@example.com')
    const old = await page.context().newPage()
    await open(old, asked)
    await codeField(old).fill(asked.code)

    await codeField(page).fill(asked.code)
    await button(page, 'Authorize').dblclick()
    await page.getByRole('heading', { name: /^Done/ }).waitFor()
    await page.goBack()
    await page.getByRole('heading', { name: /^Done/ }).waitFor()
    await press(old, button(old, 'Authorize'))
    t.match(await heading(old), /^Done/)
    await press(old, old.getByRole('link', { name: /agents/i }).first())
    t.equal(await button(old, /^Revoke the/).count(), 1)
    t.equal(await audited(asked, 'claim.confirmed'), 1)
  },
)

visit('two tabs: each has its own claim, and its own sign-in', async (t, browse) => {
  const one = await browse()
  const two = await one.context().newPage()
  const [first, second] = [
    await ask(site, 'carol@example.com'),
    await ask(site, 'carol@example.com'),
  ]
  await open(one, first)
  await open(two, second)
  await signIn(two, 'carol@example.com')
  // What is on the first tab is from before: it is not trusted, but leads nowhere else.
  await signIn(one, 'carol@example.com')
  if ((await heading(one)) !== 'An agent asks to act for you') {
    await one.goBack()
    await one.reload()
  }
  t.equal(await heading(one), 'An agent asks to act for you')
  await authorize(one, second.code === first.code ? first.wrong : second.code)
  t.match(await one.getByRole('alert').innerText(), /4 tries/, 'a code is for one claim')
  await authorize(two, second.code)
  t.match(await heading(two), /^Done/)
  await authorize(one, first.code)
  t.match(await heading(one), /^Done/)
  for (const asked of [first, second]) t.match(await answered(asked), { access_token: /./ })
})

visit('a tab of an account that has signed out since does nothing', async (t, browse) => {
  const page = await browse()
  const asked = await ask(site, ALICE)
  await open(page, asked)
  await signIn(page, ALICE)
  const other = await page.context().newPage()
  await other.goto(site.url)
  await press(other, button(other, 'Sign out'))
  await authorize(page, asked.code)
  t.equal(await heading(page), 'Sign in')
  await signIn(page, ALICE)
  t.equal(await heading(page), 'An agent asks to act for you', 'and comes back to the claim')
  t.equal(await audited(asked, 'claim.confirmed'), 0)
})

visit(
  'B62: a link that has expired says what to do, also with the form open',
  async (t, browse) => {
    const page = await browse()
    const asked = await ask(site, ALICE)
    await open(page, asked)
    await signIn(page, ALICE)
    await site.pool.query(
      `update claim_attempts set expires_at = now() - interval '1s' where registration_id = $1`,
      [asked.id],
    )
    await authorize(page, asked.code)
    t.equal(await heading(page), 'This link has expired')
    await open(page, asked)
    t.equal(await heading(page), 'This link has expired')
    t.match(await page.locator('main').innerText(), /Ask your agent for a new/)
    t.same((await answered(asked)).error, 'expired_token')
  },
)

visit(
  'WEB-15: links that lead nowhere, and to somebody else, look as they should',
  async (t, browse) => {
    const page = await browse()
    await page.goto(`${site.url}/claim?claim_attempt_token=cat_unknown`)
    await signIn(page, ALICE)
    t.equal(await heading(page), 'This link does not lead anywhere')
    const asked = await ask(site, ALICE)
    const renewed = await site.agents.inject({
      method: 'POST',
      url: '/agent/identity/claim',
      payload: { claim_token: asked.claim_token },
    })
    t.equal(renewed.statusCode, 200)
    await open(page, asked)
    t.equal(await heading(page), 'This link does not lead anywhere', 'the older link of two')
  },
)
