/** Requests that never become one: Node's parser gives up before there is a route (RFC 9110 §15.5, RFC 6585 §5). */
import type { Socket } from 'node:net'
import type { ConnectionError } from 'fastify'

const STATUS: Record<string, [status: number, reason: string]> = {
  ERR_HTTP_REQUEST_TIMEOUT: [408, 'Request Timeout'],
  HPE_HEADER_OVERFLOW: [431, 'Request Header Fields Too Large'],
}

export function clientError(error: ConnectionError, socket: Socket): void {
  // The other side has gone.
  if (!socket.writable) return
  let [status, reason] = STATUS[error.code] ?? [400, 'Bad Request']
  // So long that it is refused as a URL where there is room for it.
  if (status === 431 && /^[A-Z]+ [^\r\n]{8192}/.test(String(error.rawPacket)))
    [status, reason] = [414, 'URI Too Long']
  const body = JSON.stringify({ error: 'invalid_request', error_description: `${reason}.` })
  socket.write(
    `HTTP/1.1 ${status} ${reason}\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n` +
      `Cache-Control: no-store\r\nConnection: close\r\nDate: ${new Date().toUTCString()}\r\n\r\n${body}`,
  )
  socket.destroySoon()
}
