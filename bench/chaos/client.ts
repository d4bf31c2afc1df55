/** Agents and browsers that do as they are told: on a 503, or no answer at all, they try again. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Answer, Sender } from '../../test/fixtures/app.js'
import { over } from '../../test/fixtures/wire.js'
import { count, type Ledger } from './ledger.js'

const INSIST_MS = 90_000
const PAUSE_MS = 300

/** Sends requests to each of `urls` in turn. */
export function inTurn(urls: string[]): Sender {
  const senders = urls.map((url) => over(url))
  let turn = 0
  return { inject: (options) => senders[turn++ % senders.length]!.inject(options) }
}

/** Tries again until there is an answer below 500. @throws when there was none for a minute and a half. */
export function insistent(sender: Sender, ledger: Ledger): Sender {
  return {
    async inject(options) {
      const until = Date.now() + INSIST_MS
      for (;;) {
        const answer = await sender.inject(options).catch(() => undefined)
        count(ledger.answers, outcome(answer))
        if (answer && answer.statusCode < 500) return answer
        if (answer?.statusCode === 500)
          count(ledger.surprises, `500 from ${String(options.url).split('?')[0]}`)
        if (Date.now() > until) throw new Error(`${options.url}: no answer but 503`)
        await sleep(PAUSE_MS + Math.random() * PAUSE_MS)
      }
    },
  }
}

function outcome(answer: Answer | undefined): string {
  if (!answer) return 'no answer (connection lost)'
  const { statusCode } = answer
  if (statusCode >= 500) return `${statusCode}, tried again`
  return statusCode < 400 ? 'done (2xx, 3xx)' : 'refused (4xx)'
}
