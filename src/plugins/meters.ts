/**
 * The metrics, in a separate registry for each app. Labels come from short lists, never from a caller. Loaded only when
 * metrics are on.
 */
import type { FastifyInstance } from 'fastify'
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client'
import { REGISTRATION_TYPES } from '../domain/registration.js'
import type { AuditEntry } from '../repositories/audit-events.js'
import type { Census } from '../repositories/census.js'
import { version } from '../version.js'
import type { Call } from './calls.js'
import type { Ending } from './requests.js'

const SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]

/** The audit trail's name of an event → the metric's. */
const REGISTRATION_EVENTS: Record<string, string> = {
  'registration.created': 'created',
  'claim.confirmed': 'confirmed',
  'claim.declined': 'declined',
  'registration.revoked': 'revoked',
  'registration.expired': 'expired',
}

/** `census` returns what was counted last; undefined while it cannot be counted. */
export function openMeters(pool: FastifyInstance['pool'], census: () => Census | undefined) {
  const registry = new Registry()
  const registers = [registry]
  collectDefaultMetrics({ register: registry })

  const requests = new Counter({
    name: 'registrar_http_requests_total',
    help: 'Requests by surface, outcome and class of status; status is none when the caller hung up.',
    labelNames: ['surface', 'outcome', 'status'],
    registers,
  })
  const durations = new Histogram({
    name: 'registrar_http_request_duration_seconds',
    help: 'From the arrival of a request to the end of its answer.',
    labelNames: ['surface', 'outcome'],
    buckets: SECONDS,
    registers,
  })
  const refusals = new Counter({
    name: 'registrar_refusals_total',
    help: 'Requests that were not answered as asked, by error code and our own reason.',
    labelNames: ['surface', 'error', 'reason'],
    registers,
  })
  const registrationEvents = new Counter({
    name: 'registrar_registration_events_total',
    help: 'Registrations that were created, confirmed, declined, revoked or expired, by this replica.',
    labelNames: ['kind', 'event'],
    registers,
  })
  const wrongCodes = new Counter({
    name: 'registrar_wrong_codes_total',
    help: 'Wrong codes typed on the claim page.',
    registers,
  })
  const calls = new Counter({
    name: 'registrar_provider_calls_total',
    help: 'Calls to providers, for their keys (jwks) or to sign people in (oidc), by result.',
    labelNames: ['purpose', 'result'],
    registers,
  })
  for (const kind of REGISTRATION_TYPES)
    for (const event of Object.values(REGISTRATION_EVENTS))
      registrationEvents.inc({ kind, event }, 0)
  for (const purpose of ['jwks', 'oidc'])
    for (const result of ['ok', 'failed']) calls.inc({ purpose, result }, 0)

  gauge(
    'registrar_registrations',
    'In the database, at most a minute ago; beyond about 30,000 an estimate from a sample.',
    ['kind', 'state'],
    () => (census()?.registrations ?? []).map(({ count, ...labels }) => [labels, count]),
  )
  gauge(
    'registrar_signing_key_age_seconds',
    'Since the newest signing key was made, at most a minute ago.',
    ['use'],
    () => [census()].flatMap((counted) => (counted ? [[{ use: 'sig' }, counted.key_age]] : [])),
  )
  gauge('registrar_database_connections', 'Of the pool.', ['state'], () => [
    [{ state: 'idle' }, pool.idleCount],
    [{ state: 'active' }, pool.totalCount - pool.idleCount],
  ])
  gauge('registrar_database_connections_max', 'How many the pool may open.', [], () => [
    [{}, pool.options.max],
  ])
  gauge('registrar_database_waiting', 'Statements that wait for a connection.', [], () => [
    [{}, pool.waitingCount],
  ])
  gauge('registrar_build_info', 'Always 1, for its label.', ['version'], () => [[{ version }, 1]])

  const known = new Map<string, (seconds: number | undefined) => void>()

  return {
    contentType: registry.contentType,
    text: () => registry.metrics(),
    requestEnded({ surface, outcome, refusal, answer }: Ending): void {
      const status = answer ? `${Math.floor(answer.status / 100)}xx` : 'none'
      const key = `${surface} ${outcome} ${status}`
      let count = known.get(key)
      if (!count) known.set(key, (count = counterOf(surface, outcome, status)))
      count(answer && answer.milliseconds / 1000)
      if (refusal) refusals.inc({ surface, error: refusal.error, reason: refusal.reason ?? '' })
    },
    audited(entries: AuditEntry[]): void {
      for (const { event, details } of entries) {
        const name = REGISTRATION_EVENTS[event]
        if (name) registrationEvents.inc({ kind: String(details?.registration_type), event: name })
        else if (event === 'user_code.refused') wrongCodes.inc()
      }
    },
    called({ purpose, ok }: Call): void {
      calls.inc({ purpose, result: ok ? 'ok' : 'failed' })
    },
  }

  /** A gauge that is read when it is scraped. Unknown values are left out. */
  function gauge(
    name: string,
    help: string,
    labelNames: string[],
    read: () => [labels: Record<string, string>, value: number][],
  ): void {
    const made = new Gauge({
      name,
      help,
      labelNames,
      registers,
      collect() {
        made.reset()
        for (const [labels, value] of read()) made.set(labels, value)
      },
    })
  }

  /** The labels are looked up once for each combination: this is on the path of every request. */
  function counterOf(surface: string, outcome: string, status: string) {
    const counter = requests.labels(surface, outcome, status)
    const histogram = durations.labels(surface, outcome)
    return (seconds: number | undefined) => {
      counter.inc()
      if (seconds !== undefined) histogram.observe(seconds)
    }
  }
}
