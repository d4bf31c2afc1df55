/** The rows in the order in which their names were asked for; undefined for a name without a row. */
export function inOrder<Row, Name extends keyof Row>(
  rows: Row[],
  name: Name,
  asked: Row[Name][],
): (Row | undefined)[] {
  const found = new Map(rows.map((row) => [row[name], row]))
  return asked.map((value) => found.get(value))
}
