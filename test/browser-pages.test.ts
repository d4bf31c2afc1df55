/** Every page as Chromium shows it: for everybody, on any screen, and with hostile words in every place. */
import { t } from 'tap'
import { browserTest, testSite, type Site } from './fixtures/browser.js'
import { fits, inspect } from './fixtures/inspect.js'
import { testProvider } from './fixtures/provider.js'
import { ask, open, signIn } from './fixtures/screen.js'
import { tour, type Words } from './fixtures/tour.js'

/** The elements in order: what hostile words must not change. */
const SKELETON = `[...document.querySelectorAll('*')].map(({ localName }) => localName).join(' ')`
const PLAIN: Words = { email: 'visitor@example.com', provider: 'Example Agents', typed: 'abc' }

const HOSTILE: Record<string, string> = {
  'ends what it stands in': `"'></title></main></bdi><script>document.title="taken"</script>`,
  'brings handlers of its own': `' onfocus=alert(1) autofocus="<svg onload=alert(1)><img src=x onerror=alert(1)>`,
  'turns the line around, and has no place to break it': `\u202e\u2066${'W'.repeat(60)}\u0301\u200f`,
}

const P = await testProvider(t)
const site = await testSite(t)
const sites: { what: string; words: string; site: Site }[] = []
for (const [what, words] of Object.entries(HOSTILE)) {
  const env = {
    RESOURCE_NAME: words.slice(0, 100),
    BRAND_NAME: words.slice(0, 60),
    SCOPES: JSON.stringify({ 'api.read': words, 'api.write': `${words}.` }),
  }
  sites.push({ what, words, site: await testSite(t, env) })
}
const LOGO = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 900 9" onload="alert(1)"><script>alert(1)</script></svg>`
const branded = await testSite(t, {
  BRAND_COLOR: '#867600',
  BRAND_LOGO_URI: `data:image/svg+xml,${encodeURIComponent(LOGO)}`,
})
const skeletons = new Map<string, string>()

browserTest('WEB-17: every page is for everybody, on any screen', [site.url], async (t, browse) => {
  const page = await browse()
  await tour(site, P, page, PLAIN, async (name) => {
    await inspect(t, page, name)
    skeletons.set(name, (await page.evaluate(SKELETON)) as string)
    t.equal(await page.locator('h1').count(), 1)
    t.notMatch(await page.title(), /undefined|null|\[object/)
  })
})

browserTest(
  "the deployer's logo and colour take nothing from a page",
  [branded.url],
  async (t, browse) => {
    const page = await browse()
    await page.goto(branded.url)
    t.equal(await page.evaluate('document.images[0].naturalWidth > 0'), true, 'the logo is there')
    const asked = await ask(branded, PLAIN.email)
    await open(page, asked)
    await inspect(t, page, 'sign-in')
    await signIn(page, PLAIN.email)
    await inspect(t, page, 'claim')
  },
)

for (const { what, words, site: hostile } of sites)
  browserTest(
    `WEB-11: in every place a text that ${what} is no more than a text`,
    [hostile.url],
    async (t, browse) => {
      const page = await browse()
      const said = { email: words, provider: words, typed: words.slice(0, 20) }
      await tour(hostile, P, page, said, async (name) => {
        t.equal(await page.evaluate(SKELETON), skeletons.get(name), name)
        t.not(await page.title(), 'taken')
        await fits(t, page, name)
      })
    },
  )
