// The columns of the map's table, and what a click on a node filters by.
import type { MapEdge, MapNode } from '../api'
import { exactBytes, marks, moment, num, type Column } from '../columns'
import { add, clause } from '../filter'
import { bytes, count, type Zone } from '../format'
import { m } from '../messages'
import { w } from '../words'

const t = w.map

export function edgeColumns(zone: Zone, label: (id: string) => string, base: boolean): Column<MapEdge>[] {
  const state = (e: MapEdge) => (e.state === 'new' || e.state === 'gone' ? marks([e.state]) : [{ text: (e.state === 'active' ? '● ' : '○ ') + (t.legend[e.state as 'active'] ?? e.state), faint: e.state === 'idle' }])
  return [
    { id: 'src', label: t.client, width: 150, grow: 2, cell: (e) => [{ text: label(e.src), title: e.src }] },
    { id: 'dst', label: t.server, width: 150, grow: 2, cell: (e) => [{ text: label(e.dst), title: e.dst }, ...(e.cross_tenant ? [{ text: t.cross, bad: true, keep: true }] : [])] },
    { id: 'services', label: t.services, width: 150, grow: 3, cell: (e) => services(e) },
    { id: 'state', label: t.state, width: 74, cell: state },
    { id: 'links', label: t.links, width: 56, num: true, cell: (e) => num(count(e.links)) },
    { id: 'fwd', label: t.fwd, width: 76, num: true, cell: (e) => exactBytes(e.octets_fwd) },
    { id: 'rev', label: t.rev, width: 76, num: true, cell: (e) => exactBytes(e.octets_rev) },
    { id: 'octets', label: m.col.octets, width: 76, num: true, cell: (e) => exactBytes(e.octets) },
    ...(base ? [{ id: 'before', label: t.before, width: 76, num: true, cell: (e: MapEdge) => exactBytes(e.octets_before) }] : []),
    { id: 'last', label: m.col.last, width: 84, cell: (e) => moment(e.last_seen, zone) },
  ]
}

/** serviceName is such as "tcp/5432 postgresql". */
const serviceName = (s: { proto: string; port: number; app: string }) => (s.port ? `${s.proto}/${s.port}` : s.proto) + (s.app && s.app !== s.proto ? ' ' + s.app : '')

function services(e: MapEdge) {
  const all = e.services ?? []
  const text = all.slice(0, 2).map(serviceName).join(', ')
  const title = all.map((s) => `${serviceName(s)} ${bytes(s.octets)}${s.state === 'active' ? '' : ' ' + s.state}`).join('\n')
  return e.services_total > 2 ? [{ text, title }, { text: t.more(e.services_total - 2), faint: true, keep: true, title }] : [{ text, title }]
}

export function edgeTitle(e: MapEdge, a: string, b: string): string {
  return `${t.edge(a, b, e.octets)} (${e.state}${e.cross_tenant ? ', ' + t.cross : ''})\n` + (e.services ?? []).map((s) => `${serviceName(s)} ${bytes(s.octets)}`).join('\n')
}

/** nodeFilter selects the traffic of a group, as far as the flow filter has words for what it is grouped by. */
export function nodeFilter(n: MapNode, by: string[]): string {
  const fields: Record<string, string> = { tenant: 'tenant', host: 'host', segment: 'segment', fabric: 'fabric', app: 'app', vm: 'vm' }
  let out = ''
  by.forEach((b, i) => {
    const value = n.group?.[i] ?? ''
    if (value === '' || value === '~') return
    if (fields[b]) out = add(out, clause(fields[b], value))
    else if (b === 'tier') out = add(out, `vm like "${value}%"`)
  })
  return out
}

/** memberOf is the name of the machine that a member stands for, "" for an address. */
export function memberOf(n: MapNode): string {
  const id = n.kind === 'member' ? n.id.slice((n.group ?? []).join('/').length + 1) : ''
  return id.startsWith('@') ? n.label : id
}
