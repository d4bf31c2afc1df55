/** "Your agents" in a real browser, while the agents run (WEB-13). */
import { t, type Test } from 'tap'
import type { Page } from 'playwright-core'
import { callApi, exchange, poll } from './fixtures/app.js'
import { browserTest, testSite, type Open } from './fixtures/browser.js'
import { inspect } from './fixtures/inspect.js'
import { ask, authorize, button, heading, open, press, signIn } from './fixtures/screen.js'

const site = await testSite(t)
const visit = (name: string, fn: (t: Test, browse: Open) => Promise<void>) =>
  browserTest(name, [site.url], fn)

/** An agent that the page's person has let in; its `calls` go on until one is refused. */
async function linked(page: Page, email: string) {
  const asked = await ask(site, email)
  await open(page, asked)
  await authorize(page, asked.code)
  const answer = await poll(site.agents, asked.claim_token)
  const { access_token: token, identity_assertion } = answer.json()
  const run = async () => {
    let calls = 0
    for (;;) {
      const { statusCode, headers } = await callApi(site.agents, token)
      if (statusCode !== 200) return { calls, statusCode, told: headers['www-authenticate'] }
      calls += 1
    }
  }
  return { id: asked.id, token, identity_assertion, run }
}

async function signedIn(browse: Open, email: string): Promise<Page> {
  const page = await browse()
  await page.goto(`${site.url}/login?return_to=/agents`)
  await signIn(page, email)
  return page
}

const showAgents = async (page: Page) => void (await page.goto(`${site.url}/agents`))
const revokes = (page: Page) => button(page, /^Revoke the/)

visit('Revoke ends a running agent at once: its next call fails', async (t, browse) => {
  const page = await signedIn(browse, 'alice@example.com')
  const older = await linked(page, 'alice@example.com')
  const agent = await linked(page, 'alice@example.com')
  const ended = agent.run()
  await showAgents(page)
  t.equal(await revokes(page).count(), 2)
  await press(page, revokes(page).first())

  const next = await callApi(site.agents, agent.token)
  t.equal(next.statusCode, 401)
  t.match(await ended, { statusCode: 401, told: /error="invalid_token"/ })
  t.match((await exchange(site.agents, agent.identity_assertion)).json(), {
    error: 'invalid_grant',
  })
  t.equal((await callApi(site.agents, older.token)).statusCode, 200, 'the other goes on')
  t.match(await page.getByRole('status').innerText(), /can do nothing any more/)
  t.equal(await revokes(page).count(), 1)
  await page.reload()
  t.equal(await revokes(page).count(), 1)

  await press(page, page.getByRole('heading', { name: 'Ended' }).locator('xpath=following::a[1]'))
  t.match(await page.locator('main').innerText(), /All access was ended/)
})

visit('Revoke all ends all that run; a stale page ends nothing else', async (t, browse) => {
  const page = await signedIn(browse, 'bob@example.com')
  const agents = [await linked(page, 'bob@example.com'), await linked(page, 'bob@example.com')]
  const running = agents.map(({ run }) => run())
  await showAgents(page)
  const stale = await page.context().newPage()
  await showAgents(stale)
  await page.locator('summary').click()
  await inspect(t, page, 'revoke all')
  await press(page, button(page, /^Yes, revoke all/))

  for (const { token } of agents) t.equal((await callApi(site.agents, token)).statusCode, 401)
  for (const end of await Promise.all(running)) t.equal(end.statusCode, 401)
  t.equal(await revokes(page).count(), 0)
  const after = await linked(page, 'bob@example.com')
  await press(stale, revokes(stale).first())
  t.equal((await callApi(site.agents, after.token)).statusCode, 200, 'linked since then')
})

visit(
  'WEB-07: after signing out the back button shows nothing of the agents',
  async (t, browse) => {
    const page = await signedIn(browse, 'carol@example.com')
    await linked(page, 'carol@example.com')
    await showAgents(page)
    await page.goto(site.url)
    await press(page, button(page, 'Sign out'))
    await showAgents(page)
    t.equal(await heading(page), 'Sign in')
    await page.goBack()
    await page.goBack()
    t.equal(await revokes(page).count(), 0)
    t.notMatch(await page.content(), /carol@example/)
  },
)

visit("others' agents and unknown ones look the same", async (t, browse) => {
  const owner = await signedIn(browse, 'dave@example.com')
  const { id } = await linked(owner, 'dave@example.com')
  const other = await signedIn(browse, 'eve@example.com')
  const seen = []
  for (const which of [id, 'reg_unknown']) {
    await other.goto(`${site.url}/agents/history?registration_id=${which}`)
    seen.push(await other.content())
  }
  t.equal(seen[0], seen[1])
  await inspect(t, other, 'no such agent')
})
