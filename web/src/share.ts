// The same question elsewhere: as a link, on the command line, with curl, as a file.
import { root, url, type Params } from './api'
import { before, bounds, parseSpan, relativeSpan, spanText } from './time'
import { defaults, type Page, type View } from './url'

/** Report is what a page shows; no command means that only the API has it. */
interface Report { path: string; command: string[]; formats: readonly string[] }

const rowFiles = ['csv', 'json', 'jsonl', 'parquet'] as const

const reports: Record<Page, Report> = {
  overview: { path: 'pairs', command: ['pairs'], formats: rowFiles },
  'tenants/pairs': { path: 'pairs', command: ['pairs'], formats: rowFiles },
  'tenants/conversations': { path: 'conversations', command: ['conversations'], formats: rowFiles },
  'tenants/networks': { path: 'networks', command: ['networks'], formats: rowFiles },
  'tenants/underlay': { path: 'underlay', command: ['conversations', '--underlay'], formats: rowFiles },
  'tenants/overlay': { path: 'overlay', command: ['conversations', '--overlay'], formats: rowFiles },
  map: { path: 'map', command: ['map'], formats: [...rowFiles, 'svg', 'dot', 'mermaid'] },
  explore: { path: 'top', command: ['top'], formats: rowFiles },
  vms: { path: 'vms', command: ['get', 'vms'], formats: rowFiles },
  vm: { path: 'vm', command: ['describe', 'vm'], formats: rowFiles },
  flows: { path: 'flows', command: ['flows'], formats: rowFiles },
  coverage: { path: 'coverage', command: ['coverage'], formats: rowFiles },
  irregular: { path: 'irregular', command: ['irregular'], formats: rowFiles },
  exporters: { path: 'exporters', command: ['exporters'], formats: rowFiles },
  topology: { path: 'topology', command: [], formats: rowFiles },
  inventory: { path: 'adapters', command: [], formats: rowFiles },
  taps: { path: 'control/taps', command: ['get', 'taps'], formats: ['json'] },
  filters: { path: 'filter/explain', command: ['filter', 'explain'], formats: ['json'] },
  sql: { path: 'sql', command: ['query'], formats: ['json'] },
}

/** reportOf names the report that a page's rows come from. */
export const reportOf = (page: Page): string => reports[page].path

/** formatsOf lists the files that a page's rows can be had as. */
export const formatsOf = (page: Page): readonly string[] => reports[page].formats

/** exploredBy is what Explore groups by when nobody chose. */
export const exploredBy = ['src.vm', 'dst.vm', 'dst.port']

/** rowsQuery gives the parameters of a page's rows, as the page itself asks for them. */
export function rowsQuery(v: View): Params {
  const range = { from: v.from, to: v.to }
  const asked = { ...range, f: v.f }
  switch (v.page) {
    case 'exporters': case 'taps': return {}
    case 'inventory': return { ...range, name: v.name }
    case 'topology': return asked
    case 'filters': return { f: v.q, link: v.link }
    case 'sql': return { q: v.q, ...range, limit: SQL_ROWS }
    case 'overview': return { ...asked, sort: '' }
    case 'coverage': return { ...range, by: v.by[0] }
    case 'irregular': return { ...asked, kind: v.by[0], ...baseOf(v) }
    case 'vm': return { ...asked, name: v.name, ...baseOf(v) }
    case 'explore': return { ...asked, by: v.by.length ? v.by : exploredBy, per: v.per, metric: v.metric, having: v.having, limit: v.n || undefined }
    case 'map': return { ...asked, by: v.by, expand: v.expand, focus: v.focus, hops: v.focus ? v.hops : undefined, ...baseOf(v) }
    default: return { ...asked, sort: v.sort }
  }
}

/** SQL_ROWS is how many rows of an answer in SQL are shown. */
export const SQL_ROWS = 1000

/** baseOf gives the period that a view compares with. */
export function baseOf(v: View): Params {
  const now = Date.now()
  const r = bounds(v, now)
  const span = v.base === 'range' ? r.to - r.from : parseSpan(v.base)
  if (!(span > 0)) return {}
  const b = before(v, span, now)
  return { base_from: b.from, base_to: b.to }
}

/** exportURL gives the address of all of a page's rows as a file. */
export function exportURL(v: View, format: string): string {
  const own: Partial<Record<Page, number | undefined>> = { vm: 1000, map: 5000, irregular: 10_000, exporters: undefined, explore: v.n || undefined, topology: undefined, filters: undefined, taps: undefined }
  const whole = ['filters', 'sql', 'taps'].includes(v.page) // documents of one form
  return url(reportOf(v.page), { ...rowsQuery(v), limit: v.page in own ? own[v.page] : 100_000, format: whole ? undefined : format })
}

/** allowListURL gives what a firewall would have to allow for all that the view shows. */
export function allowListURL(v: View, format: string): string {
  return url('allow-list', { from: v.from, to: v.to, f: v.f, limit: 100_000, format })
}

/** shell quotes a word for sh where it needs to be. */
export function shell(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : "'" + word.replaceAll("'", `'\\''`) + "'"
}

export function curl(v: View): string {
  return 'curl -fsS ' + shell(url(reportOf(v.page), rowsQuery(v)))
}

/** hasCommand says whether the command line shows a page's rows, too. */
export const hasCommand = (page: Page): boolean => reports[page].command.length > 0

/** cli writes the command that shows the same rows. */
export function cli(v: View): string {
  if (v.page === 'filters') return ['crosstap', 'filter', 'explain', ...(v.link ? ['--link', v.link] : []), '--', v.q].map(shell).join(' ')
  const server = root.origin === 'http://127.0.0.1:8474' && root.pathname === '/' ? [] : ['--server', root.href.replace(/\/$/, '')]
  if (v.page === 'exporters' || v.page === 'taps') return ['crosstap', ...reports[v.page].command, ...server].map(shell).join(' ')
  const span = relativeSpan(v)
  const usual = v.page === 'vm' ? 'now-24h' : v.page === 'sql' ? '' : defaults.from
  const range = v.from === usual && v.to === defaults.to ? [] : span > 0 ? ['--since', spanText(span)] : ['--since', v.from, '--until', v.to]
  const command = [...reports[v.page].command, ...(v.page === 'vm' ? [v.name] : []), ...server, ...range, ...flags(v)]
  const filter = v.page === 'sql' ? ['--', v.q] : !v.f || v.page === 'coverage' ? [] : v.page === 'vm' || v.page === 'vms' ? ['--filter', v.f] : ['--', v.f]
  return ['crosstap', ...command, ...filter].map(shell).join(' ')
}

/** flags are the options of the command that belong to the page. */
function flags(v: View): string[] {
  const base = v.base ? ['--base', v.base === 'range' ? spanText(bounds(v, Date.now()).to - bounds(v, Date.now()).from) : v.base] : []
  const by = v.by.length ? ['--by', v.by.join(',')] : []
  switch (v.page) {
    case 'overview': return []
    case 'coverage': return by
    case 'irregular': return [...(v.by[0] ? ['--kind', v.by[0]] : []), ...base]
    case 'vm': return base
    case 'explore': return [...by, ...(v.per ? ['--per', v.per] : []), ...(v.metric !== 'octets' ? ['--metric', v.metric] : []), ...(v.having ? ['--having', v.having] : []), ...(v.n ? ['--limit', String(v.n)] : [])]
    case 'map': return [...by, ...v.expand.flatMap((e) => ['--expand', e]), ...(v.focus ? ['--focus', v.focus, '--hops', String(v.hops)] : []), ...base]
    default: return v.sort ? ['--sort=' + v.sort] : []
  }
}

/** copy puts text on the clipboard and says whether that worked. Pages from plain http beyond loopback have no
 * clipboard object; there the old command helps. */
export async function copy(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text)
    return true
  } catch {
    const area = Object.assign(document.createElement('textarea'), { value: text })
    document.body.append(area)
    area.select()
    const done = document.execCommand('copy')
    area.remove()
    return done
  }
}
