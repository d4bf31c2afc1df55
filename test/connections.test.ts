/** B94, HTTP-12: callers who say nothing, or very little at a time, end; nobody else notices. */
import { connect, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { test } from 'tap'
import { exchange, registerAnonymous } from './fixtures/app.js'
import { testDatabase } from './fixtures/database.js'
import { startServer } from './fixtures/process.js'
import { over } from './fixtures/wire.js'

const IDLE = 1_000
const SLOW = 50
const HEAD = 'GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: '
const BODY =
  'POST /oauth2/token HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999\r\nContent-Type: application/x-www-form-urlencoded\r\n\r\n'

interface Caller {
  socket: Socket
  said: string
  over: boolean
}

test('B94: 1,000 idle connections and 100 slow callers beside agents at work', async (t) => {
  const { url: DATABASE_URL } = await testDatabase(t)
  const { url } = await startServer(t, { DATABASE_URL })
  const port = Number(new URL(url).port)
  const call = async (first = ''): Promise<Caller> => {
    const socket = connect(port, '127.0.0.1')
    const caller: Caller = { socket, said: '', over: false }
    socket.on('data', (chunk) => void (caller.said += chunk))
    socket.on('error', () => {})
    socket.on('close', () => void (caller.over = true))
    await new Promise((resolve) => socket.once('connect', resolve))
    if (first !== '') socket.write(first)
    return caller
  }
  const idle = await Promise.all(Array.from({ length: IDLE }, () => call()))
  const slow = await Promise.all(
    [HEAD, BODY].flatMap((first) => Array.from({ length: SLOW }, () => call(first))),
  )
  t.teardown(() => [...idle, ...slow].forEach(({ socket }) => socket.destroy()))
  t.notOk([...idle, ...slow].some((caller) => caller.over))

  const agent = over(url)
  const until = Date.now() + 60_000
  while (slow.some((caller) => !caller.over) && Date.now() < until) {
    for (const { socket, over: gone } of slow) if (!gone) socket.write('x')
    const { identity_assertion } = await registerAnonymous(agent)
    t.equal((await exchange(agent, identity_assertion)).statusCode, 200)
    await sleep(500)
  }
  t.ok(
    slow.every((caller) => caller.over),
    'the slow ones were ended',
  )
  const answers = new Set(slow.map(({ said }) => said.split('\r\n', 1)[0]))
  t.same([...answers], ['HTTP/1.1 408 Request Timeout'])
  t.equal((await fetch(`${url}/readyz`)).status, 200)
})
