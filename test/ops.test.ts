/** What operators are given: a dashboard and alerts that name what a running registrar really exports, and a proxy. */
import { readFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import * as consumers from 'node:stream/consumers'
import { t, test } from 'tap'
import { parse } from 'yaml'
import { hasNginx, startNginx } from '../bench/nginx.js'
import { registerAnonymous, testApp } from './fixtures/app.js'
import { scrapeUntil } from './fixtures/metrics.js'
import { listening } from './fixtures/wire.js'

interface Panel {
  id: number
  title: string
  type: string
  gridPos: { x: number; y: number; w: number; h: number }
  targets?: { expr: string }[]
}

interface Rule {
  alert: string
  expr: string
  for?: string
  labels: { severity: string }
  annotations: { summary: string; runbook: string }
}

const read = (name: string) => readFileSync(join(import.meta.dirname, '../../ops', name), 'utf8')
const dashboard: { uid: string; panels: Panel[]; templating: { list: { query: unknown }[] } } =
  JSON.parse(read('grafana-dashboard.json'))
const rules: Rule[] = parse(read('alerts.yml')).groups.flatMap(
  ({ rules: its }: { rules: Rule[] }) => its,
)

const { app } = await testApp(t, { METRICS_PORT: '0' })
await app.ready()
await registerAnonymous(app)
const seen = await scrapeUntil(app, ({ value }) => value('registrar_registrations') > 0)

/** Of PromQL, what is neither a label, a string, a duration nor a word of the language. */
function metricsIn(expr: string): string[] {
  const bare = expr
    .replace(/\{[^}]*\}|\[[^\]]*\]|"[^"]*"/g, ' ')
    .replace(/\b(by|without|on|ignoring)\s*\([^)]*\)/g, ' ')
  return [...bare.matchAll(/\b[a-zA-Z_:][\w:]*\b(?!\s*\()/g)]
    .map(([name]) => name)
    .filter((name) => !['and', 'or', 'unless', 'by', 'without', 'offset', 'bool'].includes(name))
}

/** Labels that are asked for, of each metric in an expression. */
function labelsIn(expr: string): [metric: string, labels: string[]][] {
  return [...expr.matchAll(/([\w:]+)\{([^}]*)\}/g)].map(([, metric, text]) => [
    metric!,
    [...text!.matchAll(/(\w+)\s*[=!]/g)].map(([, label]) => label!),
  ])
}

/** Made by Prometheus itself. */
const OF_PROMETHEUS = ['up']
const exported = new Set(
  [...seen.text.matchAll(/^# TYPE (\S+) (\S+)$/gm)].flatMap(([, name, type]) =>
    type === 'histogram' ? [`${name}_bucket`, `${name}_sum`, `${name}_count`] : [name!],
  ),
)

function check(where: string, expr: string): void {
  const metrics = metricsIn(expr)
  t.not(metrics.length, 0, `${where} names a metric`)
  for (const name of metrics)
    t.ok(exported.has(name) || OF_PROMETHEUS.includes(name), `${where}: ${name}`)
  for (const [metric, labels] of labelsIn(expr))
    for (const label of labels) {
      // Prometheus adds these when it scrapes.
      if (['job', 'instance'].includes(label)) continue
      t.match(
        seen.text,
        new RegExp(`^${metric}(_total)?\\{.*\\b${label}="`, 'm'),
        `${where}: ${metric}{${label}}`,
      )
    }
}

test('a metric that is not exported would be found', async (t2) => {
  t2.same(metricsIn('sum by (le) (rate(no_such_total{a="b"}[5m])) / other_metric > 90 * 86400'), [
    'no_such_total',
    'other_metric',
  ])
  t2.notOk(exported.has('no_such_total'))
})

test('the dashboard’s panels show metrics that exist, side by side', async (t2) => {
  const { panels } = dashboard
  t2.ok(panels.length > 15)
  t2.equal(new Set(panels.map(({ id }) => id)).size, panels.length)
  for (const { title, targets = [], type } of panels) {
    t2.equal(targets.length === 0, type === 'row', title)
    for (const { expr } of targets) check(title, expr)
  }
  const taken = new Set<string>()
  for (const { title, gridPos } of panels)
    for (let x = gridPos.x; x < gridPos.x + gridPos.w; x += 1)
      for (let y = gridPos.y; y < gridPos.y + gridPos.h; y += 1) {
        if (x >= 24 || taken.has(`${x} ${y}`)) t2.fail(`${title} lies over another`)
        taken.add(`${x} ${y}`)
      }
})

test('each alert watches metrics that exist, and says what to do', async (t2) => {
  t2.ok(rules.length > 10)
  t2.equal(new Set(rules.map(({ alert }) => alert)).size, rules.length)
  for (const { alert, expr, labels, annotations, ...rule } of rules) {
    check(alert, expr)
    t2.match(alert, /^Registrar[A-Z]\w+$/)
    t2.match(labels.severity, /^(warning|critical)$/)
    t2.match(annotations, { summary: /\S/, runbook: /\S/ })
    if (rule.for !== undefined) t2.match(rule.for, /^\d+[smh]$/)
  }
})

test('every metric of our own is on the dashboard or watched', async (t2) => {
  const used = [...dashboard.panels.flatMap(({ targets = [] }) => targets), ...rules]
    .map(({ expr }) => expr)
    .join()
  for (const [, name] of seen.text.matchAll(/^# TYPE (registrar_\S+) /gm))
    t2.match(used, name!, name!)
})

const proxied = hasNginx() ? {} : { skip: 'nginx is not installed' }

/** Writes bytes, and returns what comes until the other side closes. */
async function say(url: string, bytes: string): Promise<string> {
  const socket = connect(Number(new URL(url).port), '127.0.0.1')
  socket.write(bytes)
  return await consumers.text(socket)
}

test('HTTP-06, HTTP-09: what the proxy says itself is said in JSON', proxied, async (t2) => {
  const registrar = new URL((await listening(app)).url).host
  const { url } = await startNginx(t2, t2.testdir(), [registrar])
  const away = await startNginx(t2, t2.testdir(), ['127.0.0.1:1'])
  const long = 'x'.repeat(70_000)
  const rest = 'HTTP/1.1\r\nHost: x\r\nConnection: close\r\n'
  const post = `POST /agent/identity ${rest}Content-Type: application/json\r\nContent-Length:`
  const sent = `${post} 200000\r\n\r\n`.padEnd(200_000 + post.length + 11, 'x')
  const table: [name: string, at: string, bytes: string, status: number, error: string][] = [
    ['no request', url, 'x\r\n\r\n', 400, 'invalid_request'],
    ['another version', url, 'GET /healthz HTTP/3.0\r\n\r\n', 505, 'invalid_request'],
    ['TRACE', url, `TRACE /healthz ${rest}\r\n`, 405, 'method_not_allowed'],
    ['a path that cannot be decoded', url, `GET /%zz ${rest}\r\n`, 400, 'invalid_request'],
    ['no host', url, 'GET /healthz HTTP/1.1\r\n\r\n', 400, 'invalid_request'],
    ['a coding', url, `POST / ${rest}Transfer-Encoding: gzip\r\n\r\n`, 501, 'invalid_request'],
    ['its own page', url, `GET /own-answer ${rest}\r\n`, 404, 'not_found'],
    ['a long body', url, `${post} 300000\r\n\r\n`, 413, 'invalid_request'],
    ['a long URL', url, `GET /${long} ${rest}\r\n`, 414, 'invalid_request'],
    ['a long header', url, `GET /healthz ${rest}X: ${long}\r\n\r\n`, 431, 'invalid_request'],
    ['nobody', away.url, `GET /healthz ${rest}\r\n`, 503, 'temporarily_unavailable'],
  ]
  for (const [name, at, bytes, status, error] of table) {
    const [head, body] = (await say(at, bytes)).split('\r\n\r\n') as [string, string]
    t2.match(head, `HTTP/1.1 ${status} `, name)
    for (const line of [
      'application/json',
      'no-store',
      'nosniff',
      'Access-Control-Allow-Origin: *',
    ])
      t2.match(head, line, name)
    t2.equal(/^Retry-After: 5\r$/m.test(head), status === 503, name)
    t2.match(JSON.parse(body), { error, error_description: /^[ -~]+\.$/ }, name)
  }
  // Haproxy's checks and other old clients: they need no Host, which a replica needs of the proxy.
  t2.match(await say(url, 'GET /healthz HTTP/1.0\r\n\r\n'), /^HTTP\/1.1 200 /, 'HTTP/1.0')
  const refused = await say(url, sent)
  t2.match(refused, /^HTTP\/1.1 413 .*X-Request-Id: .*"message":/is, 'a replica says more')
})
