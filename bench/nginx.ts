/**
 * nginx with the settings of ops/nginx.conf, except where it listens, where it passes requests on to, and its files.
 */
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { freePort } from '../src/embedded.js'
import type { Scope } from './scope.js'

const SHIPPED = join(import.meta.dirname, '../../ops/nginx.conf')

const PATH = `${process.env.PATH}:/usr/sbin`

export function hasNginx(): boolean {
  return spawnSync('nginx', ['-v'], { env: { PATH } }).status === 0
}

/** Returns its URL, its master process and its access log. */
export async function startNginx(
  life: Pick<Scope, 'teardown'>,
  folder: string,
  upstreams: string[],
): Promise<{ url: string; pid: number; log: () => string }> {
  const port = await freePort()
  const place = join(folder, 'nginx')
  mkdirSync(place)
  writeFileSync(join(place, 'nginx.conf'), settings(place, port, upstreams))
  const child = spawn(
    'nginx',
    ['-p', place, '-c', join(place, 'nginx.conf'), '-e', join(place, 'error.log')],
    { env: { PATH }, stdio: ['ignore', 'inherit', 'inherit'] },
  )
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()))
  await Promise.race([once(child, 'spawn'), once(child, 'error').then(([error]) => missing(error))])
  life.teardown(async () => {
    child.kill('SIGTERM')
    await ended
  })
  const url = `http://127.0.0.1:${port}`
  for (let tries = 0; ; tries += 1) {
    if (child.exitCode !== null) throw new Error('nginx does not take ops/nginx.conf')
    const up = await fetch(`${url}/healthz`).catch(() => undefined)
    if (up)
      return { url, pid: child.pid!, log: () => readFileSync(join(place, 'access.log'), 'utf8') }
    if (tries > 200) throw new Error('nginx does not answer')
    await sleep(50)
  }
}

function missing(cause: Error): never {
  const message = 'nginx was not found: install it (apt-get install nginx-light), or go without it.'
  throw new Error(message, { cause })
}

function settings(place: string, port: number, upstreams: string[]): string {
  const servers = upstreams
    .map((host) => `    server ${host} max_fails=1 fail_timeout=2s;\n`)
    .join('')
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
    (name) => `  ${name}_temp_path ${place}/${name};`,
  )
  return readFileSync(SHIPPED, 'utf8')
    .replace('worker_processes auto;', 'worker_processes 1;\ndaemon off;')
    .replace('/tmp/nginx.pid', `${place}/nginx.pid`)
    .replace('/dev/stderr', `${place}/error.log`)
    .replace('/dev/stdout', `${place}/access.log`)
    .replace('listen 80;', `listen 127.0.0.1:${port};`)
    .replace(/( +server registrar-\d:8000 .*\n)+/, servers)
    .replace('http {', `http {\n${temporary.join('\n')}`)
}
