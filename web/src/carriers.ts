// The columns of underlay flows with what they carried, and the way from the one to the other.
import type { Carrier } from './api'
import { exactBytes, moment, num, several, type Column, type Part } from './columns'
import { add, clause } from './filter'
import { count, type Zone } from './format'
import { m } from './messages'
import { w } from './words'

const t = w.carrier

function vtep(addr: string, host: string): Part[] {
  return [...(host ? [{ text: host, field: 'host', value: host }] : []), { text: addr || m.notKnown, field: 'vtep', value: addr, mono: !host, faint: host !== '' }]
}

/** insideFilter selects what the tunnel of a row carried, by its endpoints and, where they are known, its outer ports. */
export function insideFilter(r: Carrier): string {
  const clauses = [clause('vtep', r.src_vtep), clause('vtep', r.dst_vtep), ...(r.outer_src_port ? [clause('outer.port', r.outer_src_port)] : [])]
  return clauses.reduce(add, '')
}

/** underlayFilter selects the underlay's flow of a row. */
export function underlayFilter(r: Carrier): string {
  const clauses = [clause('ip', r.src_vtep), clause('ip', r.dst_vtep), ...(r.outer_proto ? [clause('proto', r.outer_proto)] : []), ...(r.outer_src_port ? [clause('port', r.outer_src_port)] : [])]
  return clauses.reduce(add, '')
}

const ports = (r: Carrier) => (r.outer_src_port || r.outer_dst_port ? `${r.outer_proto} ${r.outer_src_port || '?'} → ${r.outer_dst_port || '?'}` : '')

export function carrierColumns(zone: Zone, narrow = false): Column<Carrier>[] {
  const seen = (r: Carrier) => r.match !== 'none'
  const unknown: Part[] = [{ text: m.none, faint: true, title: t.unknown }]
  const all: Column<Carrier>[] = [
    { id: 'src', label: t.src, sort: 'src_vtep', width: 122, grow: 1, cell: (r) => vtep(r.src_vtep, r.src_host) },
    { id: 'dst', label: t.dst, sort: 'dst_vtep', width: 122, grow: 1, cell: (r) => vtep(r.dst_vtep, r.dst_host) },
    { id: 'outer', label: t.outer, sort: 'outer_src_port', width: 128, cell: (r) => [ports(r) ? { text: ports(r), mono: true } : { text: t.unknown, faint: true }] },
    { id: 'match', label: t.match, width: 88, cell: (r) => [{ text: t.matches[r.match]?.[0] ?? r.match, title: t.matches[r.match]?.[1] ?? '', faint: !seen(r) }] },
    { id: 'segments', label: m.col.segment, width: 96, grow: 1, cell: (r) => several(r.segments, 'segment') },
    { id: 'tenants', label: m.col.tenant, width: 76, grow: 1, cell: (r) => several(r.tenants, 'tenant') },
    { id: 'inside', label: t.carried, title: t.carriedTitle, sort: 'pairs', width: 74, num: true, cell: (r) => [{ text: `${count(r.pairs)} ›`, title: `${t.carriedTitle}: ${insideFilter(r)}`, to: { page: 'tenants/pairs', f: insideFilter(r) } }] },
    { id: 'conversations', label: t.conversations, sort: 'conversations', width: 76, num: true, cell: (r) => num(count(r.conversations)) },
    { id: 'overlay', label: t.overlayBytes, sort: 'overlay_octets', width: 78, num: true, cell: (r) => exactBytes(r.overlay_octets) },
    { id: 'expected', label: t.expected, title: t.expectedTitle, width: 78, num: true, cell: (r) => exactBytes(r.expected_octets) },
    { id: 'underlay', label: t.underlayBytes, sort: 'underlay_octets', width: 78, num: true, cell: (r) => (seen(r) ? exactBytes(r.underlay_octets) : unknown) },
    { id: 'flows', label: t.flows, sort: 'underlay_flows', width: 60, num: true, cell: (r) => (seen(r) ? [{ text: `${count(r.underlay_flows)} ›`, title: underlayFilter(r), to: { page: 'flows', f: underlayFilter(r) } }] : unknown) },
    { id: 'lost', label: t.lost, title: t.lostTitle, width: 60, num: true, cell: (r) => (r.lost === null ? unknown : [{ text: count(r.lost), bad: r.lost > 0 }]) },
    { id: 'seen', label: m.col.seen, width: 90, grow: 1, cell: (r) => several(r.seen_by, 'seen_by') },
    { id: 'last', label: m.col.last, sort: 'last_seen', width: 80, cell: (r) => moment(r.last_seen, zone) },
  ]
  if (!narrow) return all
  const widths: Record<string, number> = { src: 98, dst: 98, outer: 124, match: 66, inside: 52, overlay: 66, underlay: 68, flows: 50, lost: 44 }
  return all.filter((c) => widths[c.id]).map((c) => ({ ...c, width: widths[c.id]! }))
}
