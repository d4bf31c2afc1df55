/** Whole HTTP/1.1 requests, as agents send them. */
import type { Reply } from './connection.js'

const HOST = 'Host: localhost:8000\r\nAccept: application/json\r\n'

export function get(path: string, headers = ''): string {
  return `GET ${path} HTTP/1.1\r\n${HOST}${headers}\r\n`
}

export function postForm(path: string, parameters: Record<string, string>, headers = ''): string {
  return post(
    path,
    'application/x-www-form-urlencoded',
    new URLSearchParams(parameters).toString(),
    headers,
  )
}

export function postJson(path: string, value: unknown): string {
  return post(path, 'application/json', JSON.stringify(value), '')
}

function post(path: string, type: string, body: string, headers: string): string {
  return `POST ${path} HTTP/1.1\r\n${HOST}${headers}Content-Type: ${type}\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`
}

/** Whether an answer has this status, and one of the texts, if any are given, in its body. */
export const answers =
  (status: number, ...texts: string[]) =>
  (reply: Reply): boolean =>
    reply.status === status &&
    (texts.length === 0 || texts.some((text) => reply.body.includes(text)))
