/** Whether Postgres's memory can be in huge pages: with small ones a large cache costs several times as much here. */
import { readFileSync } from 'node:fs'
import { ask } from './postgres.js'

/** Says how many huge pages this Postgres wants when the machine has fewer. */
export async function adviseHugePages(url: string): Promise<void> {
  const { rows } = await ask(url, 'show shared_memory_size_in_huge_pages')
  const wanted = Number(rows[0].shared_memory_size_in_huge_pages)
  const there = /^HugePages_Total: *(\d+)$/m.exec(readFileSync('/proc/meminfo', 'utf8'))
  if (Number(there?.[1] ?? 0) >= wanted) return
  console.error(
    `Postgres runs without huge pages, which can be a large part of what it costs with many rows. ` +
      `For the bench, as root: sysctl vm.nr_hugepages=${wanted} (and 0 afterwards).`,
  )
}
