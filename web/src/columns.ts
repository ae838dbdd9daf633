// The columns of every table: what stands in a cell, what it filters by, and what the server sorts by.
import type { Conversation, Ends, Flow, Line, ObserverRow, Pair, SegmentTotal, Sight } from './api'
import { both, bytes, clock, count, day, percent, rate, stamp, type Zone } from './format'
import { m } from './messages'
import type { View } from './url'

/** Part is one value in a cell. With a field it is a handle: clicking it filters. */
export interface Part {
  text: string
  field?: string
  value?: string | number
  vm?: string // id or name of the machine whose page it leads to
  to?: Partial<View> // where else it leads to
  act?: () => void // what a click does
  look?: string // name whose colour and shape stand before the text
  mono?: boolean
  faint?: boolean
  keep?: boolean // faint, but not the first to give way where room is short
  title?: string
  badge?: string // key of m.mark
  bad?: boolean
  spark?: number[]
  bar?: number
}

export interface Column<Row> {
  id: string
  label: string
  title?: string
  sort?: string // JSON name that the server sorts by
  width: number // pixels, at least
  grow?: number // share of the spare room
  num?: boolean
  wrap?: boolean // text may take several lines, where rows need not be of one height
  cell: (row: Row) => Part[]
}

const segmentNumber = (r: { segment: string; vni: number }) => (r.vni ? String(r.vni) : r.segment || m.none)

/** Side says which end of what a value belongs to. A pair holds both directions, so its ends are asked for with the
 * fields that match either end; a stored row has one direction, and src. and dst. mean that one. */
type Side = '' | 'src.' | 'dst.'

export function segment(r: { segment: string; vni: number; tenant: string }): Part[] {
  return [{ text: segmentNumber(r), look: r.tenant || r.segment, title: r.segment, field: 'segment', value: r.segment }]
}

export function tenant(r: { tenant: string }): Part[] {
  return [r.tenant ? { text: r.tenant, field: 'tenant', value: r.tenant } : { text: m.unknownTenant, faint: true }]
}

function workload(vm: string, id: string, addr: string, side: Side, port?: number): Part[] {
  const address: Part = { text: addr, field: side + 'ip', value: addr, mono: vm === '', faint: vm !== '' }
  const parts = vm ? [machine(vm, id, side), address] : [address]
  return port ? [...parts, { text: ':' + port, field: side + 'port', value: port, faint: true, keep: true }] : parts
}

/** machine is the name of a machine: it leads to its page. */
export function machine(name: string, id: string, side: Side = ''): Part {
  return { text: name, vm: id || name, field: side + 'vm', value: name }
}

/** vtep names a tunnel endpoint by its host and address. Traffic that stays on a host has none: there the source says
 * which host, and the destination that it is the same. */
function vtep(addr: string, host: string, side: Side, sameHost: false | 'here' | 'there'): Part[] {
  if (sameHost === 'there') return [{ text: m.sameHost, title: host }]
  const name: Part[] = host ? [{ text: host, field: side + 'host', value: host }] : []
  if (addr) return [...name, { text: addr, field: side + 'vtep', value: addr, mono: !host, faint: host !== '' }]
  return name.length ? name : [{ text: sameHost ? m.sameHost : m.notKnown, faint: true }]
}

/** shortVTEP is vtep where room is short: the address alone, with its host as the title. */
function shortVTEP(addr: string, host: string, side: Side, sameHost: false | 'here' | 'there'): Part[] {
  if (sameHost === 'there' || !addr) return vtep(addr, host, side, sameHost)
  return [{ text: addr, field: side + 'vtep', value: addr, title: host ? `${addr} (${host})` : addr }]
}

export function marks(list: string[] | null): Part[] {
  return (list ?? []).map((k) => ({ text: m.mark[k]?.[0] ?? k, badge: k }))
}

/** several shows the first of some names and how many more there are. */
export function several(list: string[] | null, field: string): Part[] {
  const names = list ?? []
  if (names.length === 0) return [{ text: m.none, faint: true }]
  const first: Part = { text: names[0]!, field, value: names[0]!, title: names.join(', ') }
  return names.length === 1 ? [first] : [first, { text: m.row.more(names.length - 1), faint: true, keep: true, title: names.slice(1).join(', ') }]
}

export const num = (text: string, title?: string): Part[] => [title === undefined ? { text } : { text, title }]
export const exactBytes = (n: number) => num(bytes(n), count(n) + ' B')

/** total is the sum of both ways, with its error where it is an estimate, over a bar of its share. */
function total(r: { octets: number; octets_error: number; share: number }): Part[] {
  const title = `${count(r.octets)} B, ${percent(r.share)}` + (r.octets_error > 0 ? `, ±${bytes(r.octets_error)}: ${m.mark.estimate![1]}` : '')
  return [{ text: (r.octets_error > 0 ? '≈' : '') + bytes(r.octets), bar: r.share, title }]
}

export const pairColumns: Column<Pair>[] = [
  { id: 'vni', label: m.col.vni, sort: 'vni', width: 64, cell: segment },
  { id: 'tenant', label: m.col.tenant, sort: 'tenant', width: 58, grow: 1, cell: tenant },
  { id: 'src_vtep', label: m.col.srcVTEP, sort: 'src_vtep', width: 112, grow: 2, cell: (r) => vtep(r.src_vtep, r.src_host, '', r.same_host && 'here') },
  { id: 'src', label: m.col.src, sort: 'src_vm', width: 160, grow: 3, cell: (r) => workload(r.src_vm, r.src_vm_id, r.src_addr, '') },
  { id: 'dst', label: m.col.dst, sort: 'dst_vm', width: 164, grow: 4, cell: (r) => [...workload(r.dst_vm, r.dst_vm_id, r.dst_addr, ''), ...marks(r.marks)] },
  { id: 'dst_vtep', label: m.col.dstVTEP, sort: 'dst_vtep', width: 112, grow: 2, cell: (r) => vtep(r.dst_vtep, r.dst_host, '', r.same_host && 'there') },
  { id: 'apps', label: m.col.app, width: 82, grow: 1, cell: (r) => several(r.apps, 'app') },
  { id: 'fwd', label: m.col.fwd, sort: 'octets_fwd', width: 68, num: true, cell: (r) => exactBytes(r.octets_fwd) },
  { id: 'rev', label: m.col.rev, sort: 'octets_rev', width: 68, num: true, cell: (r) => exactBytes(r.octets_rev) },
  { id: 'octets', label: m.col.octets, sort: 'octets', width: 70, grow: 0.5, num: true, title: m.col.octetsTitle, cell: total },
  { id: 'packets', label: m.col.packets, sort: 'packets', width: 80, num: true, cell: (r) => num(count(r.packets)) },
  { id: 'spark', label: m.col.spark, width: 68, cell: (r) => [{ text: m.row.trend(r.spark ?? []), spark: r.spark ?? [] }] },
  { id: 'seen', label: m.col.seen, width: 98, grow: 1, cell: (r) => several(r.seen_by, 'seen_by') },
]

export function conversationColumns(zone: Zone): Column<Conversation>[] {
  return [
    { id: 'vni', label: m.col.vni, sort: 'vni', width: 60, cell: segment },
    { id: 'tenant', label: m.col.tenant, sort: 'tenant', width: 58, grow: 1, cell: tenant },
    { id: 'src_vtep', label: m.col.srcVTEP, sort: 'src_vtep', width: 104, grow: 1, cell: (r) => shortVTEP(r.src_vtep, r.src_host, '', r.same_host && 'here') },
    { id: 'src', label: m.col.src, sort: 'src_vm', width: 168, grow: 3, cell: (r) => workload(r.src_vm, r.src_vm_id, r.src_addr, '', r.src_port) },
    { id: 'dst', label: m.col.dst, sort: 'dst_vm', width: 162, grow: 3, cell: (r) => [...workload(r.dst_vm, r.dst_vm_id, r.dst_addr, '', r.dst_port), ...marks(r.marks)] },
    { id: 'dst_vtep', label: m.col.dstVTEP, sort: 'dst_vtep', width: 86, grow: 1, cell: (r) => shortVTEP(r.dst_vtep, r.dst_host, '', r.same_host && 'there') },
    { id: 'proto', label: m.col.proto, sort: 'proto', width: 48, cell: (r) => [{ text: r.proto, field: 'proto', value: r.proto }] },
    { id: 'app', label: m.col.app, sort: 'app', width: 64, grow: 1, cell: (r) => (r.app ? [{ text: r.app, field: 'app', value: r.app }] : []) },
    { id: 'fwd', label: m.col.fwd, sort: 'octets_fwd', width: 64, num: true, cell: (r) => exactBytes(r.octets_fwd) },
    { id: 'rev', label: m.col.rev, sort: 'octets_rev', width: 64, num: true, cell: (r) => exactBytes(r.octets_rev) },
    { id: 'octets', label: m.col.octets, sort: 'octets', width: 66, num: true, cell: total },
    { id: 'packets', label: m.col.packets, sort: 'packets', width: 70, num: true, cell: (r) => num(count(r.packets)) },
    { id: 'flags', label: m.col.flags, width: 48, cell: (r) => [{ text: r.tcp_flags || m.none, mono: true, faint: !r.tcp_flags }] },
    { id: 'last', label: m.col.last, sort: 'last_seen', width: 82, cell: (r) => moment(r.last_seen, zone) },
    { id: 'seen', label: m.col.seen, width: 92, grow: 1, cell: (r) => several(r.seen_by, 'seen_by') },
  ]
}

export function moment(iso: string, zone: Zone): Part[] {
  const ms = Date.parse(iso)
  if (!(ms > 0)) return [{ text: m.none, faint: true }] // Go's zero time: never
  const today = day(ms, zone) === day(Date.now(), zone)
  return [{ text: today ? clock(ms, zone) : stamp(ms, zone), title: both(ms, zone) }]
}

export function flowColumns(zone: Zone): Column<Flow>[] {
  return [
    { id: 'end', label: m.col.end, sort: 'end', width: 72, cell: (r) => moment(r.end, zone) },
    { id: 'observer', label: m.col.observer, sort: 'observer', width: 100, grow: 1, cell: (r) => [{ text: r.observer || r.exporter, field: 'observer', value: r.observer, title: r.role }] },
    { id: 'dir', label: m.col.dir, sort: 'direction', width: 56, cell: (r) => [{ text: r.direction || m.none, faint: !r.direction }] },
    { id: 'counted', label: m.col.counted, sort: 'canonical', title: m.panel.observersNote, width: 78, cell: (r) => [r.canonical ? { text: '✓ ' + m.col.counted.toLowerCase() } : { text: m.details.notCounted, faint: true }] },
    { id: 'vni', label: m.col.vni, sort: 'vni', width: 60, cell: segment },
    { id: 'src_vtep', label: m.col.srcVTEP, sort: 'src_vtep', width: 98, cell: (r) => shortVTEP(r.src_vtep, r.src_host, 'src.', false) },
    { id: 'src', label: m.col.src, sort: 'src_vm', width: 168, grow: 2, cell: (r) => workload(r.src_vm, r.src_vm_id, r.src_addr, 'src.', r.src_port) },
    { id: 'dst', label: m.col.dst, sort: 'dst_vm', width: 168, grow: 2, cell: (r) => [...workload(r.dst_vm, r.dst_vm_id, r.dst_addr, 'dst.', r.dst_port), ...marks(r.marks)] },
    { id: 'dst_vtep', label: m.col.dstVTEP, sort: 'dst_vtep', width: 86, cell: (r) => shortVTEP(r.dst_vtep, r.dst_host, 'dst.', false) },
    { id: 'proto', label: m.col.proto, sort: 'proto', width: 96, cell: (r) => [{ text: r.icmp ? `${r.proto} ${r.icmp}` : r.proto, field: 'proto', value: r.proto }] },
    { id: 'packets', label: m.col.packets, sort: 'packets', width: 68, num: true, cell: (r) => num(count(r.packets)) },
    { id: 'octets', label: m.col.octets, sort: 'octets', width: 62, num: true, cell: (r) => exactBytes(r.octets) },
    { id: 'flags', label: m.col.flags, width: 50, cell: (r) => [{ text: r.tcp_flags || m.none, mono: true, faint: !r.tcp_flags }] },
    { id: 'reason', label: m.col.reason, sort: 'end_reason', width: 70, cell: (r) => [{ text: r.end_reason || m.none, faint: !r.end_reason }] },
  ]
}

export function observerColumns(zone: Zone, compare?: number): Column<ObserverRow>[] {
  const lost = (r: ObserverRow): Part[] => [{ text: count(r.lost_records), bad: r.lost_records > 0 }]
  const difference = (r: ObserverRow): Part[] => {
    const d = r.octets - compare!
    return d === 0 ? [{ text: m.details.equal }] : [{ text: (d > 0 ? '+' : '') + bytes(d), bad: true, title: (d > 0 ? '+' : '') + count(d) + ' B' }]
  }
  return [
    { id: 'observer', label: m.col.observer, width: 110, grow: 2, cell: (r) => [{ text: r.observer || r.exporter, field: 'observer', value: r.observer }] },
    { id: 'role', label: m.col.role, width: 70, grow: 1, cell: (r) => [{ text: r.role || m.none, faint: true }] },
    { id: 'host', label: m.col.host, width: 60, grow: 1, cell: (r) => (r.host ? [{ text: r.host, field: 'host', value: r.host }] : []) },
    ...(compare === undefined ? [{ id: 'exporter', label: m.col.exporter, width: 128, grow: 1, cell: (r: ObserverRow) => [{ text: r.exporter, field: 'exporter', value: r.exporter, mono: true }, { text: `#${r.domain}`, faint: true, title: m.col.domain }] }] : []),
    { id: 'rows', label: m.col.rows, width: 68, num: true, cell: (r) => num(count(r.rows)) },
    { id: 'octets', label: m.col.octets, width: 78, num: true, cell: (r) => exactBytes(r.octets) },
    ...(compare === undefined
      ? [{ id: 'canonical', label: m.col.counted, title: m.panel.observersNote, width: 74, num: true, cell: (r: ObserverRow) => exactBytes(r.canonical) }]
      : [{ id: 'diff', label: m.col.diff, title: m.details.observersNote, width: 90, num: true, cell: difference }]),
    { id: 'lost', label: m.col.lostShort, title: m.col.lost, width: 60, num: true, cell: lost },
    { id: 'last', label: m.col.last, width: 78, cell: (r) => moment(r.last_seen, zone) },
  ]
}

/** sightColumns show one conversation at each observer, in the order in which packets pass them. */
export function sightColumns(): Column<Sight>[] {
  const lost = (r: Sight): Part[] => [{ text: r.lost === 0 ? '0' : (r.lost < 0 ? '+' : '') + count(Math.abs(r.lost)), bad: r.lost_ratio !== null && r.lost > 0, faint: r.lost_ratio === null, ...(r.lost_ratio !== null && { title: percent(Math.abs(r.lost_ratio)) }) }]
  return [
    { id: 'way', label: m.details.way, width: 40, cell: (r) => [{ text: r.way === 'rev' ? m.details.reverseWay : m.details.forwardWay, title: r.way }] },
    { id: 'observer', label: m.col.observer, width: 140, grow: 2, cell: (r) => [{ text: r.observer, title: `${r.observer}, ${r.role}` }, ...marks(r.marks)] },
    { id: 'host', label: m.col.host, width: 54, grow: 1, cell: (r) => (r.host ? [{ text: r.host, field: 'host', value: r.host }] : []) },
    { id: 'side', label: m.details.place, width: 82, cell: (r) => [{ text: r.side, faint: true }] },
    { id: 'packets', label: m.col.packets, width: 68, num: true, cell: (r) => num(count(r.packets)) },
    { id: 'lost', label: m.details.missing, title: m.details.missingTitle, width: 50, num: true, cell: lost },
    { id: 'octets', label: m.col.octets, width: 72, num: true, cell: (r) => exactBytes(r.octets) },
    { id: 'rtt', label: m.details.rtt, title: m.details.rttTitle, width: 66, num: true, cell: (r) => num(r.rtt_us ? (r.rtt_us / 1000).toFixed(2) + ' ms' : m.none) },
    { id: 'retransmits', label: m.details.retransmits, title: m.details.retransmitsTitle, width: 46, num: true, cell: (r) => num(count(r.retransmits)) },
  ]
}

export const segmentColumns: Column<SegmentTotal>[] = [
  { id: 'vni', label: m.col.vni, width: 80, cell: segment },
  { id: 'tenant', label: m.col.tenant, width: 80, grow: 1, cell: tenant },
  { id: 'octets', label: m.col.octets, width: 80, num: true, cell: (r) => exactBytes(r.octets) },
  { id: 'packets', label: m.col.packets, width: 110, num: true, cell: (r) => num(count(r.packets)) },
]

export function lineColumns(unit: string, metric: string, part: (l: Line) => Part, previous = false): Column<Line>[] {
  const sum = (n: number) => (metric === 'octets' || metric === 'l2_octets' ? exactBytes(n) : num(count(n)))
  const figure = (id: 'min' | 'max' | 'avg' | 'p95' | 'last', label: string): Column<Line> => ({ id, label, width: 78, num: true, cell: (l) => num(rate(l[id], unit)) })
  return [
    { id: 'series', label: m.col.series, width: 110, grow: 1, cell: (l) => [part(l)] },
    figure('min', m.col.min), figure('max', m.col.max), figure('avg', m.col.avg), figure('p95', m.col.p95), figure('last', m.col.lastValue),
    { id: 'total', label: m.col.total, width: 84, num: true, cell: (l) => sum(l.total) },
    ...(previous ? [{ id: 'previous', label: m.col.previous, title: m.col.previousTitle, width: 84, num: true, cell: (l: Line) => (l.previous_total === undefined ? num(m.none) : sum(l.previous_total)) }] : []),
  ]
}

/** pairKey and conversationKey name a row in a URL: readable, and the same after every reload. An address may have
 * belonged to two VMs, so the VM is part of it. */
export function pairKey(r: Ends): string {
  const end = (vm: string, addr: string) => (vm ? keyText(vm) + '@' : '') + addr
  return [(r.fabric && r.fabric !== 'default' ? keyText(r.fabric) + '@' : '') + r.segment, end(r.src_vm, r.src_addr), end(r.dst_vm, r.dst_addr)].join(',')
}

const keyText = (s: string) => s.replace(/[%,@>]/g, encodeURIComponent)

export function conversationKey(r: Conversation): string {
  return [pairKey(r), r.proto, r.src_port, r.dst_port].join(',')
}

export function flowKey(r: Flow): string {
  return [r.flow_id, r.observer, r.direction, Date.parse(r.end)].join(',')
}
