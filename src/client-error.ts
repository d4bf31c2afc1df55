/** Answers requests that Node's parser gives up on before there is a route (RFC 9110 §15.5, RFC 6585 §5). */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { ConnectionError } from 'fastify'

const STATUS: Record<string, [status: number, reason: string]> = {
  ERR_HTTP_REQUEST_TIMEOUT: [408, 'Request Timeout'],
  HPE_HEADER_OVERFLOW: [431, 'Request Header Fields Too Large'],
}

/** What Node's own handler looks at: the answer under way, and the request that is being read or was read last. */
interface HttpSocket extends Socket {
  _httpMessage?: ServerResponse | null
  parser?: { incoming: IncomingMessage | null } | null
}

export function clientError(error: ConnectionError, socket: HttpSocket): void {
  // The other side has gone.
  if (!socket.writable) return
  if (mayAnswer(socket)) socket.write(answerTo(error))
  socket.destroySoon()
}

function answerTo(error: ConnectionError): string {
  let [status, reason] = STATUS[error.code] ?? [400, 'Bad Request']
  // A URL this long is answered with 414 when the parser has room for it, so it is here too.
  if (status === 431 && /^[A-Z]+ [^\r\n]{8192}/.test(String(error.rawPacket)))
    [status, reason] = [414, 'URI Too Long']
  const body = JSON.stringify({ error: 'invalid_request', error_description: `${reason}.` })
  return (
    `HTTP/1.1 ${status} ${reason}\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n` +
    `Cache-Control: no-store\r\nConnection: close\r\nDate: ${new Date().toUTCString()}\r\n\r\n${body}`
  )
}

/**
 * One answer each, in order (RFC 9112 §9.3.2): none while an earlier request waits for its own, or this one's has
 * begun.
 */
function mayAnswer({ _httpMessage: waiting, parser }: HttpSocket): boolean {
  const reading = parser?.incoming
  if (!reading || reading.complete) return !waiting
  return waiting?.req === reading && !waiting.headersSent
}
