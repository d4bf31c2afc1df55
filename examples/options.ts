/** The command line of the example agent. */
import { parseArgs } from 'node:util'

export const HELP = `Usage: npm run agent -- [options]

Registers with a service that speaks auth.md, and calls its API.

  --issuer URL   the authorization server (default: http://localhost:8000)
  --api URL      start from this protected API instead
  --email ADDR   register for this person, who confirms before anything is granted
  --provider URL with --email: this identity provider vouches for the person
  --hint ADDR    register anonymously, then ask this person to confirm
  --no-wait      stop once the link and the code are shown
  --revoke       revoke the access token at the end
  --help         show this text

Ends with 0 when all went well, 2 when the person declined, 1 otherwise.`

export type Options = ReturnType<typeof readOptions>

/** The command line makes no sense: the help text is to be shown. */
export class Misused extends Error {}

export function readOptions() {
  const text = { type: 'string' } as const
  const flag = { type: 'boolean' } as const
  const flags = { 'no-wait': flag, revoke: flag, help: flag }
  try {
    const { values } = parseArgs({
      options: { issuer: text, api: text, email: text, hint: text, provider: text, ...flags },
    })
    if (values.email && values.hint) throw new Misused('Give --email or --hint, not both.')
    if (values.provider && !values.email) throw new Misused('--provider goes with --email.')
    return { ...values, issuer: (values.issuer ?? 'http://localhost:8000').replace(/\/$/, '') }
  } catch (error) {
    throw new Misused((error as Error).message)
  }
}
