/** Medians with minimum and maximum. */
export interface Summary {
  median: number
  min: number
  max: number
}

export function summarize(values: number[]): Summary {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = (sorted.length - 1) / 2
  const median = (sorted[Math.floor(middle)]! + sorted[Math.ceil(middle)]!) / 2
  return { median, min: sorted[0]!, max: sorted.at(-1)! }
}

/** Summarizes each member of the samples; members that no sample has are left out. */
export function summarizeAll<Sample extends object>(
  samples: Sample[],
): { [Member in keyof Sample]?: Summary } {
  const members = Object.keys(samples[0]!) as (keyof Sample)[]
  const summaries: { [Member in keyof Sample]?: Summary } = {}
  for (const member of members) {
    const values = samples.map((sample) => sample[member]).filter((value) => value !== undefined)
    if (values.length > 0) summaries[member] = summarize(values as number[])
  }
  return summaries
}

/** Least squares: how much `y` rises with each unit of `x`. */
export function slope(points: { x: number; y: number }[]): number {
  const mean = (of: (point: { x: number; y: number }) => number) =>
    points.reduce((sum, point) => sum + of(point), 0) / points.length
  const [x, y] = [mean((point) => point.x), mean((point) => point.y)]
  const spreadOfX = mean((point) => (point.x - x) ** 2)
  return spreadOfX === 0 ? 0 : mean((point) => (point.x - x) * (point.y - y)) / spreadOfX
}
