// The URL is the whole state of a view: readable, versioned, and kept alive by migrations.

export const VERSION = 1

export const pages = [
  'overview', 'tenants/pairs', 'tenants/conversations', 'tenants/networks', 'tenants/underlay', 'tenants/overlay', 'map', 'explore', 'vms', 'vm', 'flows', 'coverage', 'irregular', 'exporters',
  'topology', 'inventory', 'taps', 'filters', 'sql',
] as const
export type Page = (typeof pages)[number]

/** metrics are what every chart can show; the Explore page has more. */
export const metrics = ['octets', 'packets', 'flows'] as const
export const moreMetrics = [...metrics, 'l2_octets', 'retransmits', 'zero_windows', 'fragments', 'rtt', 'rows'] as const
export type Metric = (typeof moreMetrics)[number]

export interface View {
  page: Page
  from: string
  to: string
  f: string
  sort: string // "" is the report's own order
  by: string[] // what is split or grouped by: [] is the page's own way
  metric: Metric
  sel: string // what the details panel shows, "" for none
  as: 'chart' | 'table'
  live: boolean
  name: string // of a machine
  n: number // rows of a list, 0 for the report's own number
  per: string // Explore: each of its values has an own list
  having: string // Explore: condition on the sums
  prev: boolean // Explore: the previous period too
  base: string // the period to compare with, such as "7d"; "" for none
  expand: string[] // groups of the map that show their members
  focus: string // node of the map
  hops: number // around it
  q: string // what the page itself asks: a packet filter, SQL, the selector of a new tap
  link: string // type of the frames that a packet filter is for
  vis: '' | 'heat' // which picture of a time series
  step: '' | Step // of the editor of a tap; "" is the list
}

/** steps of the editor of taps. */
export const steps = ['select', 'shape', 'deliver', 'plan'] as const
export type Step = (typeof steps)[number]

export const defaults: View = {
  page: 'overview', from: 'now-1h', to: 'now', f: '', sort: '', by: [], metric: 'octets', sel: '', as: 'chart', live: false,
  name: '', n: 0, per: '', having: '', prev: false, base: '', expand: [], focus: '', hops: 1, q: '', link: '', vis: '', step: '',
}

/** own are the parts of a view that belong to its page and stay behind with it. */
export const own: Partial<View> = { sort: '', sel: '', by: [], name: '', n: 0, per: '', having: '', prev: false, base: '', expand: [], focus: '', hops: 1, q: '', link: '', step: '' }

type Fields = Record<string, string[]>

// migrations[n] turns the parameters of version n into those of n+1. Version 0 is a link without v, written by
// hand: it may use the words of the command line and of the first drafts. Entries are never removed.
const migrations: ((path: string, q: Fields) => [string, Fields])[] = [
  (path, q) => {
    const renamed: Record<string, string> = { since: 'from', until: 'to', filter: 'f', q: 'f', split: 'by', unit: 'metric' }
    if (['filters', 'sql', 'taps'].includes(path)) delete renamed.q // there q is what the page itself asks
    const out: Fields = {}
    for (const [name, values] of Object.entries(q)) out[renamed[name] ?? name] = values
    out.sort = out.sort?.map((s) => s.replace(/\bbytes\b/, 'octets')) ?? []
    out.metric = out.metric?.map((m) => ({ bytes: 'octets', bits: 'octets', pps: 'packets' })[m] ?? m) ?? []
    const moved: Record<string, string> = { pairs: 'tenants/pairs', conversations: 'tenants/conversations', tenants: 'tenants/pairs' }
    return [moved[path] ?? path, out]
  },
]

/** decode reads the part of a URL below the console's root. Unknown things become defaults; newer says that a
 * later version wrote the link, so that parts of it may be missing here; missing is a path that no page has, else "". */
export function decode(path: string, search: string): { view: View; newer: boolean; missing: string } {
  let p = path.replace(/^\/+|\/+$/g, '')
  let q: Fields = {}
  for (const [name, value] of new URLSearchParams(search)) (q[name] ??= []).push(value)
  const written = Number(q.v?.[0] ?? 0)
  const version = Number.isInteger(written) && written >= 0 ? written : 0
  for (let v = version; v < VERSION; v++) [p, q] = migrations[v]!(p, q)
  const one = (name: string) => q[name]?.[0] ?? ''
  const page = pages.find((x) => x === (p === 'tenants' ? 'tenants/pairs' : p))
  const view: View = {
    page: page ?? 'overview',
    from: one('from') || (p === 'vm' ? 'now-24h' : defaults.from),
    to: one('to') || defaults.to,
    f: one('f'),
    sort: /^-?[a-z_0-9]+$/.test(one('sort')) ? one('sort') : '',
    by: (q.by ?? []).flatMap((b) => b.split(',')).filter((b) => /^[a-z_.0-9]+$/.test(b)).slice(0, 4),
    metric: (p === 'explore' ? moreMetrics : metrics).find((m) => m === one('metric')) ?? 'octets',
    sel: one('sel'),
    as: one('as') === 'table' ? 'table' : 'chart',
    live: one('live') === '1',
    name: one('name'),
    n: whole(one('n'), 0, 1000),
    per: /^[a-z_.0-9]+$/.test(one('per')) ? one('per') : '',
    having: one('having'),
    prev: one('prev') === '1',
    base: /^\d+[smhdw]$/.test(one('base')) || one('base') === 'range' ? one('base') : '',
    expand: (q.expand ?? []).slice(0, 50),
    focus: one('focus'),
    hops: whole(one('hops'), 1, 10),
    q: one('q'),
    link: /^[a-z0-9-]+$/.test(one('link')) ? one('link') : '',
    vis: one('vis') === 'heat' ? 'heat' : '',
    step: steps.find((s) => s === one('step')) ?? '',
  }
  return { view, newer: version > VERSION, missing: page || p === '' ? '' : p }
}

function whole(text: string, fallback: number, most: number): number {
  return /^\d{1,6}$/.test(text) ? Math.min(most, Number(text)) || fallback : fallback
}

const tidy: Record<string, string> = { '%3A': ':', '%2C': ',', '%2F': '/', '%40': '@', '%3E': '>' }

function quote(s: string): string {
  return encodeURIComponent(s).replace(/%3A|%2C|%2F|%40|%3E/g, (c) => tidy[c]!)
}

/** encode writes a view as path and query below the console's root. Defaults are left out, but the range and the
 * version always stand there. */
export function encode(view: View): string {
  const q: [string, string][] = [['v', String(VERSION)], ['from', view.from], ['to', view.to]]
  if (view.f) q.push(['f', view.f])
  if (view.name) q.push(['name', view.name])
  if (view.by.length) q.push(['by', view.by.join(',')])
  if (view.metric !== defaults.metric) q.push(['metric', view.metric])
  if (view.per) q.push(['per', view.per])
  if (view.having) q.push(['having', view.having])
  if (view.n) q.push(['n', String(view.n)])
  if (view.prev) q.push(['prev', '1'])
  if (view.base) q.push(['base', view.base])
  for (const id of view.expand) q.push(['expand', id])
  if (view.focus) q.push(['focus', view.focus])
  if (view.hops !== defaults.hops) q.push(['hops', String(view.hops)])
  if (view.step) q.push(['step', view.step])
  if (view.q) q.push(['q', view.q])
  if (view.link) q.push(['link', view.link])
  if (view.sort) q.push(['sort', view.sort])
  if (view.as !== defaults.as) q.push(['as', view.as])
  if (view.vis) q.push(['vis', view.vis])
  if (view.live) q.push(['live', '1'])
  if (view.sel) q.push(['sel', view.sel])
  return (view.page === 'overview' ? '' : view.page) + '?' + q.map(([k, v]) => `${k}=${quote(v)}`).join('&')
}
