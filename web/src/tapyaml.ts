// A tap as YAML, and what the editor's form shows of it. The YAML is what counts: the form reads it, and changes in it only what somebody
// has changed in the form. Comments, order, and keys that the form does not show stay as they are.
import { isMap, isScalar, isSeq, Pair, parseAllDocuments, Scalar, YAMLMap, YAMLSeq, type Document, type Node, type ParsedNode } from 'yaml'
import { clause } from './filter'

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

export const methods = ['auto', 'mirror', 'remote-mirror', 'promiscuous', 'agent', 'flows-only']
export const directions = ['both', 'ingress', 'egress']
export const exceeds = ['refuse', 'warn', 'sample', 'slice']
export const drifts = ['enforce', 'report']
export const allowances = ['promiscuous', 'uplinks', 'other-tenants', 'copied-twice', 'unsampled', 'cut-copies']

/** paths say where a field stands; what has its usual value need not be written. */
const paths: Record<keyof TapForm, string[]> = {
  name: ['metadata', 'name'], owner: ['metadata', 'owner'], reason: ['metadata', 'reason'],
  select: ['spec', 'select'], exclude: ['spec', 'exclude'], method: ['spec', 'method'], direction: ['spec', 'direction'], filter: ['spec', 'filter'], slice: ['spec', 'slice'], sample: ['spec', 'sample'], groom: ['spec', 'groom'],
  destinations: ['spec', 'destinations'], mirror: ['spec', 'budget', 'mirror'], cpu: ['spec', 'budget', 'cpu'], onExceed: ['spec', 'budget', 'onExceed'], ttl: ['spec', 'ttl'], lease: ['spec', 'lease'], tenant: ['spec', 'tenant'],
  drift: ['spec', 'drift'], allow: ['spec', 'allow'], paused: ['spec', 'paused'],
}
const usual: Partial<Record<keyof TapForm, string>> = { method: 'auto', direction: 'both', onExceed: 'refuse', drift: 'enforce' }
const must: (keyof TapForm)[] = ['name', 'select']
const order: Record<string, string[]> = {
  metadata: ['name', 'labels', 'owner', 'reason'],
  spec: ['select', 'from', 'exclude', 'method', 'direction', 'filter', 'vlans', 'slice', 'sample', 'groom', 'destinations', 'flows', 'budget', 'ttl', 'lease', 'tenant', 'drift', 'allow', 'paused', 'capture'],
  budget: ['mirror', 'cpu', 'onExceed'],
}

/** Reading is what the form knows of a text. */
export interface Reading {
  form: TapForm
  made: NewDestination[] // destinations that stand beside the tap
  beyond: string[] // keys of the tap that the form has no field for
  fault: string // why the text cannot be read; the form must not change it then
}

const blank = (): TapForm => ({ name: '', owner: '', reason: '', select: '', exclude: '', method: 'auto', direction: 'both', filter: '', slice: '', sample: '', groom: [], destinations: [], mirror: '', cpu: '', onExceed: 'refuse', ttl: '', lease: '', tenant: '', drift: 'enforce', allow: [], paused: false })

/** read gives what a text says. */
export function read(text: string): Reading {
  const docs = parsed(text)
  const out: Reading = { form: blank(), made: [], beyond: [], fault: '' }
  const wrong = docs.find((d) => d.errors.length > 0)?.errors[0]
  const tap = docs.find((d) => d.get('kind') === 'Tap')
  if (wrong) out.fault = wrong.message.split('\n')[0]!.replace(/:$/, '')
  else if (!tap) out.fault = 'kind: Tap'
  for (const d of docs) if (d.get('kind') === 'Destination') out.made.push({ name: textOf(d.getIn(['metadata', 'name'], true)), url: textOf(d.getIn(['spec', 'url'], true)) })
  if (!tap) return out
  const form = out.form as unknown as Record<string, unknown>
  for (const [key, path] of Object.entries(paths)) {
    const node = tap.getIn(path, true)
    if (node === undefined) continue
    if (Array.isArray(form[key])) form[key] = listOf(node)
    else if (typeof form[key] === 'boolean') form[key] = isScalar(node) && node.value === true
    else if (key === 'select' || key === 'exclude') form[key] = isMap(node) ? expression(node) : textOf(node)
    else form[key] = textOf(node) || usual[key as keyof TapForm] || ''
  }
  out.beyond = beyond(tap)
  return out
}

function parsed(text: string): Document<ParsedNode>[] {
  const docs = parseAllDocuments(text, { prettyErrors: true })
  return Array.isArray(docs) ? docs : []
}

function textOf(node: unknown): string {
  if (!isScalar(node) || node.value === null || node.value === undefined) return ''
  return typeof node.value === 'string' ? node.value : (node.source ?? String(node.value))
}

const listOf = (node: unknown): string[] => (isSeq(node) ? node.items.map(textOf).filter(Boolean) : textOf(node) ? [textOf(node)] : [])

const fields: Record<string, string> = { vms: 'vm', hosts: 'host', tenants: 'tenant', segments: 'segment', groups: 'group', switches: 'switch', ports: 'port', platforms: 'platform' }

/** expression writes a selector that is given as lists in the words of an expression. */
function expression(map: YAMLMap): string {
  const any = (field: string, list: string[]) => {
    const parts = list.map((x) => (/[*?]/.test(x) ? `${field} ~ "${x}"` : clause(field, x)))
    return parts.length > 1 ? `(${parts.join(' or ')})` : (parts[0] ?? '')
  }
  const all = map.items.flatMap(({ key, value }) => {
    const name = textOf(key)
    if (name === 'where') return [textOf(value)]
    if (name === 'tags' && isMap(value)) return value.items.map((t) => any('tag.' + textOf(t.key), [textOf(t.value)]))
    return fields[name] ? [any(fields[name], listOf(value))] : []
  }).filter(Boolean)
  return all.length > 1 ? all.map((x) => (/\bor\b/i.test(x) && !x.startsWith('(') ? `(${x})` : x)).join(' and ') : (all[0] ?? '')
}

function beyond(tap: Document<ParsedNode>): string[] {
  const known = new Set(Object.values(paths).map((p) => p.join('.')))
  const keys = (path: string[]): string[] => {
    const map = tap.getIn(path, true)
    return isMap(map) ? map.items.map((p) => [...path, textOf(p.key)].join('.')) : []
  }
  return [...keys(['metadata']), ...keys(['spec']), ...keys(['spec', 'budget'])].filter((k) => !known.has(k) && k !== 'spec.budget').map((k) => k.replace(/^spec\./, ''))
}

/** put changes one field, and nothing else. A text that cannot be read stays as it is. */
export function put<K extends keyof TapForm>(text: string, key: K, value: TapForm[K]): string {
  const docs = parsed(text)
  const tap = docs.find((d) => d.get('kind') === 'Tap')
  if (!tap || docs.some((d) => d.errors.length > 0)) return text
  const path = paths[key]
  const empty = Array.isArray(value) ? value.length === 0 : value === '' || value === false || value === usual[key]
  if (empty && !must.includes(key)) remove(tap, path)
  else place(tap, path, value)
  return print(docs, text)
}

/** remove takes a key away, and the one that held it alone. */
function remove(doc: Document<ParsedNode>, path: string[]): void {
  if (doc.getIn(path, true) === undefined) return
  doc.deleteIn(path)
  const parent = path.slice(0, -1)
  const map = doc.getIn(parent, true)
  if (parent.length > 1 && isMap(map) && map.items.length === 0) doc.deleteIn(parent)
}

/** place writes a key where it usually stands, or into the place that it has. */
function place(doc: Document<ParsedNode>, path: string[], value: string | string[] | boolean): void {
  let map = doc.contents as unknown as YAMLMap
  for (const name of path.slice(0, -1)) {
    const next = map.get(name, true)
    if (isMap(next)) map = next
    else {
      const made = new YAMLMap()
      insert(map, name, made, order[name === 'budget' ? 'spec' : ''] ?? [])
      map = made
    }
  }
  const name = path.at(-1)!
  const old = map.get(name, true) as Node | undefined
  if (isScalar(old) && !Array.isArray(value)) {
    const fresh = scalar(value, name)
    old.value = fresh.value
    old.type = fresh.type
    delete (old as { source?: string }).source
    delete (old as { format?: string }).format
  } else insert(map, name, Array.isArray(value) ? list(value, isSeq(old) ? old.flow !== true : false) : scalar(value, name), order[path.at(-2)!] ?? [])
}

function insert(map: YAMLMap, name: string, node: Node, names: string[]): void {
  const at = map.items.findIndex((p) => textOf(p.key) === name)
  if (at >= 0) {
    map.items[at]!.value = node
    return
  }
  const rank = (n: string) => (names.indexOf(n) + names.length + 1) % (names.length + 1) // those that are not known stand last
  const last = map.items.findLastIndex((p) => rank(textOf(p.key)) < rank(name))
  map.items.splice(last + 1, 0, new Pair(new Scalar(name), node))
}

/** scalar is written plain only where every reader of YAML takes it for the same text. */
function scalar(value: string | boolean, name = ''): Scalar {
  if (typeof value === 'boolean') return new Scalar(value)
  if ((name === 'slice' || name === 'sample') && /^\d+$/.test(value)) return new Scalar(Number(value))
  const text = value.replace(/[\r\n]+/g, ' ')
  const out = new Scalar(text)
  const plain = (/^[A-Za-z][\w./:@-]*$/.test(text) && !/^(true|false|yes|no|on|off|null|y|n)$/i.test(text) && !text.endsWith(':')) || /^\d+(\.\d+)?[A-Za-z%][\w/%]*$/.test(text)
  out.type = plain ? 'PLAIN' : 'QUOTE_SINGLE'
  return out
}

function list(items: string[], block: boolean): YAMLSeq {
  const seq = new YAMLSeq()
  seq.flow = !block
  seq.items = items.map((x) => scalar(x))
  return seq
}

function print(docs: Document<ParsedNode>[], before: string): string {
  const indent = /^( +)\S/m.exec(before.replace(/^\s*(#|- ).*$/gm, ''))?.[1]!.length ?? 2
  return docs.map((d, i) => {
    if (i > 0 && d.directives) d.directives.docStart = true
    return d.toString({ lineWidth: 0, flowCollectionPadding: false, indent: Math.min(8, indent) })
  }).join('')
}

const skeleton = "apiVersion: crosstap/v1\nkind: Tap\nmetadata:\n  name: ''\nspec:\n  select: ''\n  ttl: 4h\n"

/** write gives the YAML of a new tap. */
export function write(form: Partial<TapForm>): string {
  return (Object.entries(form) as [keyof TapForm, TapForm[keyof TapForm]][]).reduce((text, [key, value]) => put(text, key, value), skeleton)
}

/** addDestination puts a destination beside the tap, or changes the one of that name. */
export function addDestination(text: string, d: NewDestination): string {
  const docs = parsed(text)
  if (docs.some((x) => x.errors.length > 0)) return text
  const one = docs.find((x) => x.get('kind') === 'Destination' && textOf(x.getIn(['metadata', 'name'], true)) === d.name)
  if (one) {
    place(one, ['spec', 'url'], d.url)
    return print(docs, text)
  }
  const made = parsed("apiVersion: crosstap/v1\nkind: Destination\nmetadata:\n  name: ''\nspec:\n  url: ''\n")[0]!
  place(made, ['metadata', 'name'], d.name)
  place(made, ['spec', 'url'], d.url)
  return print([...docs, made], text)
}
