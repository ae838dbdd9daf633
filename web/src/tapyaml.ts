// A tap as YAML, and what the editor's form shows of it. The YAML is what counts: the form reads it, and changes in it only what somebody
// has changed in the form. Comments, order, and keys that the form does not show stay as they are.
import { isMap, isScalar, isSeq, Pair, parseAllDocuments, Scalar, YAMLMap, YAMLSeq, type Document, type Node, type ParsedNode } from 'yaml'
import { clause } from './filter'

export interface TapForm {
  name: string
  owner: string
  reason: string
  labels: string[] // each key=value
  select: string
  from: string // such as rspan:99, in place of select
  exclude: string
  method: string
  direction: string
  filter: string
  vlans: string[]
  slice: string
  sample: string
  groom: string[]
  destinations: string[]
  protocol: string // this and the four after it: of the method flows-only
  sampling: string
  active: string
  idle: string
  domain: string
  mirror: string
  cpu: string
  onExceed: string
  ttl: string
  lease: string
  tenant: string
  drift: string
  allow: string[]
  paused: boolean
  captureVM: string // this and the two after it: of the method promiscuous
  captureImage: string
  captureGroup: string
}

/** ListKey and TextKey are the fields that are lists, and those that are one text. */
export type ListKey = { [K in keyof TapForm]: TapForm[K] extends string[] ? K : never }[keyof TapForm]
export type TextKey = { [K in keyof TapForm]: TapForm[K] extends string ? K : never }[keyof TapForm]

/** Tool is a destination: an address, or the port of a machine. */
export interface Tool { name: string; url: string; vm: string }

export const methods = ['auto', 'mirror', 'remote-mirror', 'promiscuous', 'agent', 'flows-only']
export const directions = ['both', 'ingress', 'egress']
export const exceeds = ['refuse', 'warn', 'sample', 'slice']
export const drifts = ['enforce', 'report']
export const protocols = ['ipfix', 'netflow5', 'sflow']
export const allowances = ['promiscuous', 'uplinks', 'other-tenants', 'copied-twice', 'unsampled', 'cut-copies']

/** RSPAN begins the text of a VLAN that copies come in on. */
export const RSPAN = 'rspan:'

/** ofFlows, ofCapture and ofMachines are the fields that go with flow records, with capture machines, and with machines at all: what comes
 * in on a VLAN has none of them. */
export const ofFlows = ['protocol', 'sampling', 'active', 'idle', 'domain'] as const
export const ofCapture = ['captureVM', 'captureImage', 'captureGroup'] as const
export const ofMachines = ['select', 'exclude', 'direction', 'vlans', 'groom', 'mirror', 'cpu', 'onExceed', 'method', ...ofFlows, ...ofCapture] as const

/** paths say where a field stands; what has its usual value need not be written. */
const paths: Record<keyof TapForm, string[]> = {
  name: ['metadata', 'name'], owner: ['metadata', 'owner'], reason: ['metadata', 'reason'], labels: ['metadata', 'labels'],
  select: ['spec', 'select'], from: ['spec', 'from'], exclude: ['spec', 'exclude'], method: ['spec', 'method'], direction: ['spec', 'direction'], filter: ['spec', 'filter'], vlans: ['spec', 'vlans'], slice: ['spec', 'slice'], sample: ['spec', 'sample'],
  groom: ['spec', 'groom'], destinations: ['spec', 'destinations'],
  protocol: ['spec', 'flows', 'protocol'], sampling: ['spec', 'flows', 'sampling'], active: ['spec', 'flows', 'active'], idle: ['spec', 'flows', 'idle'], domain: ['spec', 'flows', 'domain'],
  mirror: ['spec', 'budget', 'mirror'], cpu: ['spec', 'budget', 'cpu'], onExceed: ['spec', 'budget', 'onExceed'], ttl: ['spec', 'ttl'], lease: ['spec', 'lease'], tenant: ['spec', 'tenant'],
  drift: ['spec', 'drift'], allow: ['spec', 'allow'], paused: ['spec', 'paused'], captureVM: ['spec', 'capture', 'vm'], captureImage: ['spec', 'capture', 'image'], captureGroup: ['spec', 'capture', 'group'],
}
const usual: Partial<Record<keyof TapForm, string>> = { method: 'auto', direction: 'both', onExceed: 'refuse', drift: 'enforce' }
const numbers = ['slice', 'sample', 'vlans', 'sampling', 'domain']
const order: Record<string, string[]> = {
  '': ['apiVersion', 'kind', 'metadata', 'spec'],
  metadata: ['name', 'labels', 'owner', 'reason'],
  spec: ['select', 'from', 'exclude', 'method', 'direction', 'filter', 'vlans', 'slice', 'sample', 'groom', 'destinations', 'flows', 'budget', 'ttl', 'lease', 'tenant', 'drift', 'allow', 'paused', 'capture'],
  flows: [...ofFlows],
  budget: ['mirror', 'cpu', 'onExceed'],
  capture: ['vm', 'image', 'group'],
}

/** Reading is what the form knows of a text. */
export interface Reading {
  form: TapForm
  made: Tool[] // destinations that stand beside the tap
  beyond: string[] // keys of the tap that the form has no field for
  fault: string // why the text cannot be read; the form must not change it then
}

/** blank is a tap of which nothing has been said. */
export const blank = (): TapForm => ({
  name: '', owner: '', reason: '', labels: [], select: '', from: '', exclude: '', method: 'auto', direction: 'both', filter: '', vlans: [], slice: '', sample: '', groom: [], destinations: [], protocol: '', sampling: '', active: '', idle: '', domain: '',
  mirror: '', cpu: '', onExceed: 'refuse', ttl: '', lease: '', tenant: '', drift: 'enforce', allow: [], paused: false, captureVM: '', captureImage: '', captureGroup: '',
})

/** read gives what a text says. */
export function read(text: string): Reading {
  const docs = parsed(text)
  const out: Reading = { form: blank(), made: docs.flatMap(tool), beyond: [], fault: '' }
  const wrong = docs.find((d) => d.errors.length > 0)?.errors[0]
  const tap = docs.find((d) => d.get('kind') === 'Tap')
  if (wrong) out.fault = wrong.message.split('\n')[0]!.replace(/:$/, '')
  else if (!tap) out.fault = 'kind: Tap'
  if (!tap) return out
  const form = out.form as unknown as Record<string, unknown>
  for (const [key, path] of Object.entries(paths)) {
    const node = tap.getIn(path, true)
    if (node === undefined) continue
    if (key === 'labels') form[key] = plain(node) ? pairs(node).map((p) => p.join('=')) : []
    else if (Array.isArray(form[key])) form[key] = listOf(node)
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

/** tools gives the destinations that a text makes. */
export const tools = (text: string): Tool[] => parsed(text).flatMap(tool)

function tool(d: Document<ParsedNode>): Tool[] {
  const at = (...path: string[]) => textOf(d.getIn(path, true))
  return d.get('kind') === 'Destination' ? [{ name: at('metadata', 'name'), url: at('spec', 'url'), vm: at('spec', 'port', 'vm') || at('spec', 'port', 'port') }] : []
}

const pairs = (node: unknown): [string, string][] => (isMap(node) ? node.items.map((p) => [textOf(p.key), textOf(p.value)]) : [])

/** plain labels are those that a list of key=value can say. */
const plain = (labels: unknown): boolean => isMap(labels) && labels.items.every((p) => isScalar(p.value)) && pairs(labels).every(([k, v]) => !/[=,"]/.test(k) && !/[,"]/.test(v) && v.trim() === v)

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
    if (!isMap(map)) return []
    return map.items.flatMap((p) => {
      const name = textOf(p.key)
      const inside = [...path, name]
      if (isMap(p.value) && order[name] && path.length === 1) return keys(inside)
      return known.has(inside.join('.')) && (name !== 'labels' || plain(p.value)) ? [] : [inside.join('.')]
    })
  }
  return [...keys(['metadata']), ...keys(['spec'])].map((k) => k.replace(/^spec\./, ''))
}

/** put changes one field, and nothing else. A text that cannot be read stays as it is. */
export const put = <K extends keyof TapForm>(text: string, key: K, value: TapForm[K]): string => fill(text, { [key]: value })

/** fill changes some fields, as put does. */
export function fill(text: string, form: Partial<TapForm>): string {
  const docs = parsed(text)
  const tap = docs.find((d) => d.get('kind') === 'Tap')
  if (!tap || docs.some((d) => d.errors.length > 0)) return text
  for (const [key, value] of Object.entries(form) as [keyof TapForm, TapForm[keyof TapForm]][]) change(tap, key, value)
  return print(docs, text)
}

function change(tap: Document<ParsedNode>, key: keyof TapForm, value: TapForm[keyof TapForm]): void {
  const empty = Array.isArray(value) ? value.length === 0 : value === '' || value === false || value === usual[key]
  const must = key === 'name' || (key === 'select' && tap.getIn(paths.from, true) === undefined)
  if (empty && !must) remove(tap, paths[key])
  else place(tap, paths[key], value)
}

/** fromVLAN turns a tap of machines into one that takes what comes in on a VLAN. What was said of machines is what is returned as was. */
export function fromVLAN(text: string): { text: string; was: Partial<TapForm> } {
  const { form } = read(text)
  const of = (from: TapForm) => Object.fromEntries(ofMachines.map((k) => [k, from[k]])) as Partial<TapForm>
  return { text: fill(text, { from: RSPAN, ...of(blank()) }), was: of(form) }
}

/** fromMachines is the way back. */
export const fromMachines = (text: string, was: Partial<TapForm>): string => fill(text, { from: '', select: '', ...was })

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
  path.slice(0, -1).forEach((name, i) => {
    const next = map.get(name, true)
    if (isMap(next)) map = next
    else {
      const made = new YAMLMap()
      insert(map, name, made, order[path[i - 1] ?? ''] ?? [])
      map = made
    }
  })
  const name = path.at(-1)!
  const old = map.get(name, true) as Node | undefined
  const names = order[path.at(-2)!] ?? []
  if (isScalar(old) && !Array.isArray(value)) rewrite(old, scalar(value, name))
  else if (name === 'labels') insert(map, name, labelled(old, value as string[]), names)
  else insert(map, name, Array.isArray(value) ? list(value, name, old) : scalar(value, name), names)
}

/** rewrite gives a scalar another value; what stands around it stays. */
function rewrite(old: Scalar, fresh: Scalar): void {
  old.value = fresh.value
  old.type = fresh.type
  delete (old as { source?: string }).source
  delete (old as { format?: string }).format
}

/** labelled writes key=value as a map: in the one that there is, where labels that stay keep their place. */
function labelled(old: unknown, labels: string[]): YAMLMap {
  const map = isMap(old) ? (old as unknown as YAMLMap) : new YAMLMap()
  if (!isMap(old)) map.flow = true
  const wanted = new Map(labels.map((l) => l.split('=')).map(([key, ...value]) => [key!.trim(), value.join('=').trim()]))
  map.items = map.items.filter((p) => wanted.has(textOf(p.key)))
  for (const [key, value] of wanted) {
    const has = map.items.find((p) => textOf(p.key) === key)
    if (has && textOf(has.value) === value) continue
    if (has && isScalar(has.value)) rewrite(has.value, scalar(value))
    else map.items.push(new Pair(scalar(key), scalar(value)))
  }
  return map
}

function insert(map: YAMLMap, name: string, node: Node, names: string[]): void {
  const at = map.items.findIndex((p) => textOf(p.key) === name)
  if (at >= 0) {
    const old = map.items[at]!.value as Node | null
    if (old && old !== node) Object.assign(node, { comment: old.comment, commentBefore: old.commentBefore, spaceBefore: old.spaceBefore })
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
  if (numbers.includes(name) && /^\d+$/.test(value)) return new Scalar(Number(value))
  const text = value.replace(/[\r\n]+/g, ' ')
  const out = new Scalar(text)
  const plain = (/^[A-Za-z][\w./:@-]*$/.test(text) && !/^(true|false|yes|no|on|off|null|y|n)$/i.test(text) && !text.endsWith(':')) || /^\d+(\.\d+)?[A-Za-z%][\w/%]*$/.test(text)
  out.type = plain ? 'PLAIN' : 'QUOTE_SINGLE'
  return out
}

/** list writes a list as the one before it was written; what was in that stays as it is. */
function list(items: string[], name: string, old: unknown): YAMLSeq {
  const seq = new YAMLSeq()
  const was: unknown[] = isSeq(old) ? [...old.items] : []
  seq.flow = !isSeq(old) || old.flow === true
  seq.items = items.map((x) => {
    const i = was.findIndex((n) => textOf(n) === x)
    return i < 0 ? scalar(x, name) : was.splice(i, 1)[0]
  })
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
export const write = (form: Partial<TapForm>): string => fill(skeleton, form)

/** addTool puts a destination beside the tap, or changes the one of that name. */
export function addTool(text: string, d: Tool): string {
  const docs = parsed(text)
  if (docs.some((x) => x.errors.length > 0)) return text
  const there = docs.find((x) => tool(x)[0]?.name === d.name)
  const one = there ?? parsed("apiVersion: crosstap/v1\nkind: Destination\nmetadata:\n  name: ''\nspec:\n")[0]!
  if (!there) place(one, ['metadata', 'name'], d.name)
  remove(one, ['spec', d.url ? 'port' : 'url'])
  place(one, d.url ? ['spec', 'url'] : ['spec', 'port', 'vm'], d.url || d.vm)
  return print(there ? docs : [...docs, one], text)
}

/** split cuts what somebody lists between commas; those in double quotes are parts of what is listed. */
export const split = (text: string): string[] => (text.match(/(?:[^,"]|"[^"]*"?)+/g) ?? []).map((x) => x.trim()).filter(Boolean)
