/** Readable colours (WCAG 2.2 §1.4.3): the accent colour of the pages, and those derived from it. All are `#rrggbb`. */

/** The backgrounds that the accent is seen on; views/style.css has the same values. */
export const CARD = { light: '#ffffff', dark: '#1c2126' }

/** The minimum contrast of text that is not large. */
const READABLE = 4.5

const BLACK = '#000000'
const WHITE = '#ffffff'
const STEPS = 255

/** The contrast ratio, from 1 (the same colour) to 21 (black on white). */
export function contrast(one: string, other: string): number {
  const [darker, lighter] = [luminance(one), luminance(other)].toSorted((a, b) => a - b)
  return (lighter! + 0.05) / (darker! + 0.05)
}

/** The colour itself, or the first one on the way to `target` that is readable on `ground`. */
export function readableOn(ground: string, color: string, target: string): string {
  for (let step = 0; step < STEPS; step += 1) {
    const mixed = mix(color, target, step / STEPS)
    if (contrast(mixed, ground) >= READABLE) return mixed
  }
  return target
}

/**
 * Undefined when the colour is readable on the light card; otherwise its contrast ratio there, and the nearest darker
 * colour that is readable.
 */
export function accentFault(color: string): { ratio: number; nearest: string } | undefined {
  const ratio = contrast(color, CARD.light)
  if (ratio >= READABLE) return undefined
  return { ratio, nearest: readableOn(CARD.light, color, BLACK) }
}

export interface Accent {
  accent: string
  /** Of text on it. */
  on: string
}

/**
 * The accent for each theme: the given colour in the light one, where it is readable, and a lighter one, if needed, in
 * the dark one.
 */
export function accents(color: string): { light: Accent; dark: Accent } {
  const lighter = readableOn(CARD.dark, color, WHITE)
  return {
    light: { accent: color, on: textOn(color) },
    dark: { accent: lighter, on: textOn(lighter) },
  }
}

/** Black or white, whichever is readable: one of them always reaches a contrast of 4.58. */
function textOn(color: string): string {
  return contrast(WHITE, color) >= READABLE ? WHITE : BLACK
}

function mix(color: string, target: string, share: number): string {
  const [from, to] = [channels(color), channels(target)]
  const mixed = from.map((value, index) => Math.round(value + (to[index]! - value) * share))
  return `#${mixed.map((value) => value.toString(16).padStart(2, '0')).join('')}`
}

function luminance(color: string): number {
  const [red, green, blue] = channels(color).map((value) => {
    const share = value / 255
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4
  }) as [number, number, number]
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue
}

function channels(color: string): number[] {
  return [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16))
}
