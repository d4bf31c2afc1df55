/** Whether Postgres's memory is in huge pages: without, every connection pays for each page that it meets for the first time. */
import { readFileSync } from 'node:fs'
import pg from 'pg'

/** Says how many this Postgres wants when the machine has fewer. */
export async function adviseHugePages(url: string): Promise<void> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  const { rows } = await client
    .query('show shared_memory_size_in_huge_pages')
    .finally(() => client.end())
  const wanted = Number(rows[0].shared_memory_size_in_huge_pages)
  const there = /^HugePages_Total: *(\d+)$/m.exec(readFileSync('/proc/meminfo', 'utf8'))
  if (Number(there?.[1] ?? 0) >= wanted) return
  console.error(
    `Postgres runs without huge pages, and what it costs with many rows is to a large part that. ` +
      `For the bench, as root: sysctl vm.nr_hugepages=${wanted} (and 0 afterwards).`,
  )
}
