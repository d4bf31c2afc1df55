/** The version of this release, from package.json. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'

const PACKAGE = join(import.meta.dirname, '../../package.json')

export const { version } = JSON.parse(readFileSync(PACKAGE, 'utf8')) as { version: string }
