/** What can be read on what: the arithmetic, the derived accents, and the stylesheet's own colours in both themes. */
import fc from 'fast-check'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { accentFault, accents, CARD, contrast, readableOn } from '../../src/domain/color.js'

t.test('contrast is that of WCAG', async (t) => {
  const table: [string, string, number][] = [
    ['#000000', '#ffffff', 21],
    ['#ffffff', '#000000', 21],
    ['#ffffff', '#FFFFFF', 1],
    ['#767676', '#ffffff', 4.54],
    ['#777777', '#ffffff', 4.47],
    ['#ff0000', '#ffffff', 3.99],
    ['#0000ff', '#ffffff', 8.59],
    ['#0a0a0a', '#000000', 1.06],
  ]
  for (const [one, other, expected] of table)
    t.equal(Math.floor(contrast(one, other) * 100) / 100, expected, `${one} on ${other}`)
})

t.test('an accent that cannot be read is a fault that names the nearest that can', async (t) => {
  t.equal(accentFault('#1f5bb8'), undefined)
  t.equal(accentFault('#767676'), undefined)
  t.match(accentFault('#777777'), { nearest: '#767676' })
  t.equal(accentFault('#777777')!.ratio, contrast('#777777', CARD.light))
  const yellow = accentFault('#ffd500')!
  t.ok(contrast(yellow.nearest, CARD.light) >= 4.5)
  t.ok(contrast(yellow.nearest, CARD.light) < 4.6, 'no darker than it must be')
  t.match(accentFault('#ffffff'), { ratio: 1, nearest: '#767676' })
})

t.test('whatever the colour, the nearest one and what is derived from it can be read', async () => {
  const channel = fc.integer({ min: 0, max: 255 })
  const color = fc
    .tuple(channel, channel, channel)
    .map((all) => `#${all.map((value) => value.toString(16).padStart(2, '0')).join('')}`)
  const readable = (one: string, other: string) => contrast(one, other) >= 4.5
  fc.assert(
    fc.property(color, (asked) => {
      const { nearest } = accentFault(asked) ?? { nearest: asked }
      if (accentFault(nearest)) return false
      const { light, dark } = accents(nearest)
      return (
        light.accent === nearest &&
        readable(light.accent, CARD.light) &&
        readable(light.on, light.accent) &&
        readable(dark.accent, CARD.dark) &&
        readable(dark.on, dark.accent)
      )
    }),
  )
})

t.test('where nothing on the way can be read, it is the end of the way', async (t) => {
  t.equal(readableOn('#808080', '#808080', '#858585'), '#858585')
})

const css = readFileSync(join(import.meta.dirname, '../../../views/style.css'), 'utf8')
const [light = '', dark = ''] = css.split('@media (prefers-color-scheme: dark)')

for (const [theme, text, card] of [
  ['light', light, CARD.light],
  ['dark', dark.split('}')[0]!, CARD.dark],
] as const)
  t.test(`WCAG 1.4.3, 1.4.11: in the ${theme} theme everything can be read`, async (t) => {
    const colors = new Map(
      [...text.matchAll(/--([a-z-]+): (#[0-9a-f]{6});/g)].map(([, name, value]) => [name!, value!]),
    )
    t.equal(colors.get('card'), card)
    const pairs: [string, string, number][] = [
      ['text', 'page', 4.5],
      ['text', 'card', 4.5],
      ['text', 'warn', 4.5],
      ['text', 'done', 4.5],
      ['quiet', 'page', 4.5],
      ['quiet', 'card', 4.5],
      ['accent', 'card', 4.5],
      ['on-accent', 'accent', 4.5],
      ['bad', 'card', 4.5],
      ['edge', 'card', 3],
      ['accent', 'page', 3],
    ]
    for (const [one, on, least] of pairs)
      t.ok(contrast(colors.get(one)!, colors.get(on)!) >= least, `${one} on ${on}`)
  })

t.test('the stylesheet asks nobody else for anything', async (t) => {
  t.notMatch(css, /url\(|@import|http/)
})
