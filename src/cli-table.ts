/** Lays out what a command found for people at a terminal. */

/** A list of objects becomes a table if that fits the width; otherwise, and for one object, each member gets a line. */
export function table(value: unknown, width: number): string {
  if (!Array.isArray(value)) return lines(value)
  if (value.length === 0) return 'none'
  if (typeof value[0] !== 'object') return value.map(cell).join('\n')
  const names = Object.keys(value[0])
  const rows = [names, ...value.map((row) => names.map((name) => cell(row[name])))]
  const widths = names.map((_, i) => Math.max(...rows.map((row) => row[i]!.length)))
  const padded = rows.map((row) => row.map((text, i) => text.padEnd(widths[i]!)).join('  '))
  if (padded[0]!.length > width) return value.map(lines).join('\n\n')
  return padded.map((line) => line.trimEnd()).join('\n')
}

function lines(value: unknown): string {
  const entries = Object.entries(value as object)
  const longest = Math.max(...entries.map(([name]) => name.length))
  return entries.map(([name, held]) => `${name.padEnd(longest)}  ${cell(held)}`).join('\n')
}

function cell(value: unknown): string {
  if (value === null || value === undefined) return '-'
  if (value instanceof Date) return value.toISOString()
  if (Array.isArray(value) && value.every((item) => typeof item === 'string'))
    return visible(value.join(', ')) || '-'
  return visible(typeof value === 'string' ? value : JSON.stringify(value))
}

/** Outsiders chose some of the text: nothing in it may move the cursor, change its direction or be invisible. */
export function visible(text: string): string {
  return text.replace(
    /[\p{C}\p{Zl}\p{Zp}]/gu,
    (character) => `\\u{${character.codePointAt(0)!.toString(16)}}`,
  )
}
