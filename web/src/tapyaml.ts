// A tap as the form of the editor has it, and as the YAML that is applied. The YAML is what counts: a text that the form would not
// write in the same way is left as somebody wrote it.

export interface TapForm {
  name: string
  owner: string
  reason: string
  select: string
  exclude: string
  method: string
  direction: string
  filter: string
  slice: string
  sample: string
  groom: string[]
  destinations: string[]
  mirror: string
  cpu: string
  onExceed: string
  ttl: string
  lease: string
  tenant: string
  drift: string
  allow: string[]
  paused: boolean
}

export interface NewDestination { name: string; url: string }

export const emptyForm: TapForm = {
  name: '', owner: '', reason: '', select: '', exclude: '', method: 'auto', direction: 'both', filter: '', slice: '', sample: '', groom: [], destinations: [], mirror: '', cpu: '', onExceed: 'refuse', ttl: '4h', lease: '', tenant: '', drift: 'enforce', allow: [], paused: false,
}

export const methods = ['auto', 'mirror', 'remote-mirror', 'promiscuous', 'agent', 'flows-only']
export const directions = ['both', 'ingress', 'egress']
export const exceeds = ['refuse', 'warn', 'sample', 'slice']
export const drifts = ['enforce', 'report']
export const allowances = ['promiscuous', 'uplinks', 'other-tenants', 'copied-twice', 'unsampled', 'cut-copies']

/** scalar writes a text so that YAML reads the same text again. */
export function scalar(text: string): string {
  const plain = /^[A-Za-z][\w./:@-]*$/.test(text) && !/^(true|false|yes|no|on|off|null|y|n)$/i.test(text) && !text.endsWith(':')
  return plain || /^\d+(\.\d+)?[A-Za-z%][\w/%]*$/.test(text) ? text : "'" + text.replace(/[\r\n]+/g, ' ').replaceAll("'", "''") + "'"
}

const list = (items: string[]) => '[' + items.map(scalar).join(', ') + ']'

/** write gives the YAML of a form, and of destinations that are made with it. */
export function write(f: TapForm, made: NewDestination[] = []): string {
  const lines = ['apiVersion: crosstap/v1', 'kind: Tap', 'metadata:', `  name: ${scalar(f.name)}`]
  if (f.owner) lines.push(`  owner: ${scalar(f.owner)}`)
  if (f.reason) lines.push(`  reason: ${scalar(f.reason)}`)
  lines.push('spec:', `  select: ${scalar(f.select)}`)
  const put = (key: string, value: string, usual = '') => value !== usual && lines.push(`  ${key}: ${/^\d+$/.test(value) && (key === 'slice' || key === 'sample') ? value : scalar(value)}`)
  put('exclude', f.exclude)
  put('method', f.method, 'auto')
  put('direction', f.direction, 'both')
  put('filter', f.filter)
  put('slice', f.slice)
  put('sample', f.sample)
  if (f.groom.length) lines.push(`  groom: ${list(f.groom)}`)
  if (f.destinations.length) lines.push(`  destinations: ${list(f.destinations)}`)
  if (f.mirror || f.cpu || f.onExceed !== 'refuse') {
    lines.push('  budget:')
    if (f.mirror) lines.push(`    mirror: ${scalar(f.mirror)}`)
    if (f.cpu) lines.push(`    cpu: ${scalar(f.cpu)}`)
    if (f.onExceed !== 'refuse') lines.push(`    onExceed: ${f.onExceed}`)
  }
  put('ttl', f.ttl)
  put('lease', f.lease)
  put('tenant', f.tenant)
  put('drift', f.drift, 'enforce')
  if (f.allow.length) lines.push(`  allow: ${list(f.allow)}`)
  if (f.paused) lines.push('  paused: true')
  const docs = made.filter((d) => d.name && d.url).map((d) => ['apiVersion: crosstap/v1', 'kind: Destination', 'metadata:', `  name: ${scalar(d.name)}`, 'spec:', `  url: ${scalar(d.url)}`].join('\n'))
  return [lines.join('\n'), ...docs].join('\n---\n') + '\n'
}

function value(text: string): string {
  const t = text.trim()
  if (/^'.*'$/.test(t)) return t.slice(1, -1).replaceAll("''", "'")
  if (!/^".*"$/.test(t)) return t
  try {
    return String(JSON.parse(t))
  } catch {
    return t
  }
}

function values(text: string): string[] {
  const inner = /^\[(.*)\]$/.exec(text.trim())?.[1]
  return inner === undefined ? [] : (inner.match(/'(?:[^']|'')*'|"(?:[^"\\]|\\.)*"|[^,]+/g) ?? []).map(value).filter(Boolean)
}

/** read gives the form of a tap's YAML, null when the form could not hold all of it. */
export function read(text: string): TapForm | null {
  const f: TapForm = { ...emptyForm, ttl: '', groom: [], destinations: [], allow: [] }
  const flat = f as unknown as Record<string, unknown>
  for (const line of text.split('\n')) {
    const m = /^ +(\w+):\s*(\S.*)$/.exec(line)
    if (!m || !(m[1]! in f)) continue
    const [, key, rest] = m as unknown as [string, string, string]
    flat[key] = Array.isArray(flat[key]) ? values(rest) : typeof flat[key] === 'boolean' ? rest.trim() === 'true' : value(rest)
  }
  return same(write(f), text) ? f : null
}

/** same compares two texts without what their writers chose: quotes, blank lines, the order of lines, the space at their ends. */
function same(a: string, b: string): boolean {
  const tidy = (t: string) => t.split('\n').map((l) => l.trimEnd().replace(/^( *\w+: )(.*)$/, (_, key: string, v: string) => key + (v.startsWith('[') ? JSON.stringify(values(v)) : value(v)))).filter((l) => l.trim() !== '').sort().join('\n')
  return tidy(a) === tidy(b)
}
