// The columns of the topology's tables, and what leads on from a machine.
import type { TopologyArc, TopologyHost, TopologyPort } from '../api'
import { exactBytes, machine, num, several, type Column, type Part } from '../columns'
import { clause } from '../filter'
import { count } from '../format'
import { byHost, hostId } from '../lib/topolayout'
import { m } from '../messages'
import type { View } from '../url'
import { v } from '../words'

const t = v.topology

/** tapOf is the editor of taps with a machine chosen. */
export const tapOf = (selector: string): Partial<View> => ({ page: 'taps', step: 'select', q: selector })

/** fixOf is the plan of a tap for what a selector finds, as far as it can be made without being told more. */
export const fixOf = (selector: string): Partial<View> => ({ page: 'taps', step: 'plan', q: selector })

const host = (name: string): Part => (name ? { text: name, field: 'host', value: name } : { text: t.unknownHost, faint: true })

export function portColumns(): Column<TopologyPort>[] {
  return [
    { id: 'host', label: t.host, width: 90, grow: 1, cell: (r) => [host(r.host)] },
    { id: 'switch', label: t.sw, width: 120, grow: 1, cell: (r) => [{ text: r.switch || t.noSwitch, faint: !r.switch, title: t.switchKinds[r.switch_kind] ?? r.switch_kind }] },
    { id: 'group', label: t.group, width: 90, grow: 1, cell: (r) => [{ text: r.group || m.none, faint: !r.group }] },
    { id: 'port', label: t.port, width: 100, grow: 1, cell: (r) => [{ text: r.port || m.none }] },
    { id: 'kind', label: t.behind, width: 80, cell: (r) => [{ text: t.kinds[r.kind] ?? r.kind, faint: r.kind !== 'vm' }] },
    { id: 'vm', label: t.vm, width: 130, grow: 2, cell: (r) => (r.vm ? [{ ...machine(r.vm, r.vm_id), look: r.tenant || r.segment }] : []) },
    { id: 'tenant', label: m.col.tenant, width: 74, grow: 1, cell: (r) => (r.tenant ? [{ text: r.tenant, field: 'tenant', value: r.tenant }] : []) },
    { id: 'segment', label: m.col.segment, width: 94, grow: 1, cell: (r) => (r.segment ? [{ text: r.segment, field: 'segment', value: r.segment }] : []) },
    { id: 'addrs', label: v.inventory.addrs, width: 112, grow: 1, cell: (r) => several(r.addrs, 'ip') },
    { id: 'mac', label: t.mac, width: 130, cell: (r) => [{ text: r.mac || m.none, mono: true, ...(r.mac && { field: 'mac', value: r.mac }) }] },
    { id: 'state', label: t.state, width: 56, cell: (r) => [r.up === null ? { text: m.none, faint: true } : { text: r.up ? '● ' + t.up : '○ ' + t.isDown, bad: !r.up }] },
    { id: 'taps', label: t.taps, width: 90, grow: 1, cell: (r) => (r.taps?.length ? [{ text: r.taps.join(', '), title: r.taps.join(', ') }] : r.kind === 'vm' && r.vm ? [{ text: v.tapThis, to: tapOf(clause('vm', r.vm)), title: v.fixTitle }] : []) },
  ]
}

export const arcColumns: Column<TopologyArc>[] = [
  { id: 'a', label: t.a, width: 150, grow: 1, cell: (r) => end(r.a_vtep, r.a_host) },
  { id: 'b', label: t.b, width: 150, grow: 1, cell: (r) => end(r.b_vtep, r.b_host) },
  { id: 'segments', label: t.segments, width: 120, grow: 1, cell: (r) => several(r.segments, 'segment') },
  { id: 'octets', label: m.col.octets, width: 84, num: true, cell: (r) => exactBytes(r.octets) },
  { id: 'packets', label: m.col.packets, width: 90, num: true, cell: (r) => num(count(r.packets)) },
]

const end = (vtep: string, name: string): Part[] => [...(name ? [host(name)] : []), { text: vtep, field: 'vtep', value: vtep, mono: name === '', faint: name !== '' }]

export function hostColumns(ports: TopologyPort[]): Column<TopologyHost>[] {
  const all = byHost(ports)
  const own = (h: TopologyHost) => all.get(hostId(h)) ?? []
  return [
    { id: 'name', label: t.host, width: 96, grow: 1, cell: (h) => [host(h.name), ...(h.down ? [{ text: t.legend.down, title: t.down, bad: true, keep: true }] : [])] },
    { id: 'platform', label: t.platform, width: 72, grow: 1, cell: (h) => [{ text: h.platform || m.none, faint: !h.platform }] },
    { id: 'vteps', label: t.vteps, width: 96, grow: 1, cell: (h) => several(h.vteps, 'vtep') },
    { id: 'observers', label: t.observers, width: 92, grow: 2, cell: (h) => several(h.observers?.map((o) => o.name) ?? null, 'observer') },
    { id: 'machines', label: t.vms, title: t.machines, width: 48, num: true, cell: (h) => num(count(new Set(own(h).filter((p) => p.vm).map((p) => p.vm_id || p.vm)).size)) },
    { id: 'ports', label: t.ports, width: 48, num: true, cell: (h) => num(count(own(h).length)) },
    { id: 'taps', label: t.taps, width: 46, num: true, cell: (h) => num(count(own(h).filter((p) => p.taps?.length).length)) },
  ]
}
