/** A persistent HTTP/1.1 connection that does as little as it can: the load must cost less than what it measures. */
import { connect, type Socket } from 'node:net'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'

export interface Reply {
  status: number
  body: string
}

export interface Connection {
  /** Sends a whole request, and passes on its answer; undefined when the connection was lost. One request at a time. */
  send(request: string, done: (reply: Reply | undefined) => void): void
  end(): void
}

const PAUSE_MS = 50
const BLANK = '\r\n\r\n'

/** Reconnects by itself after a loss. */
export async function openConnection(host: string, port: number): Promise<Connection> {
  let socket = await open()
  let received = ''
  let waiting: ((reply: Reply | undefined) => void) | undefined
  let over = false

  async function open(): Promise<Socket> {
    const opened = connect({ host, port, noDelay: true })
    opened.setEncoding('latin1')
    await once(opened, 'connect')
    opened.on('data', (text: string) => take(text)).on('error', () => {})
    opened.on('close', () => lose())
    return opened
  }

  function take(text: string): void {
    received = received === '' ? text : received + text
    const reply = parse(received)
    if (!reply) return
    received = ''
    const done = waiting
    waiting = undefined
    done?.(reply)
  }

  function lose(): void {
    received = ''
    const done = waiting
    waiting = undefined
    if (!over) void comeBack(done)
  }

  async function comeBack(done: typeof waiting): Promise<void> {
    try {
      socket = await open()
    } catch {
      await sleep(PAUSE_MS)
    }
    if (over) socket.destroy()
    done?.(undefined)
  }

  return {
    send(request, done) {
      waiting = done
      if (socket.destroyed) return lose()
      socket.write(request, 'latin1')
    },
    end() {
      over = true
      socket.destroy()
    },
  }
}

/** Parses an answer with a length or in chunks, as API servers send them (RFC 9112 §6.3). Undefined until complete. */
function parse(text: string): Reply | undefined {
  const end = text.indexOf(BLANK)
  if (end < 0) return undefined
  const status = Number(text.slice(9, 12))
  const head = text.slice(0, end)
  const start = end + BLANK.length
  const length = /\r\ncontent-length: *(\d+)/i.exec(head)?.[1]
  if (length !== undefined)
    return text.length - start < Number(length) ? undefined : { status, body: text.slice(start) }
  if (!/\r\ntransfer-encoding: *chunked/i.test(head)) return { status, body: '' }
  return text.endsWith(`0${BLANK}`) ? { status, body: text.slice(start) } : undefined
}
