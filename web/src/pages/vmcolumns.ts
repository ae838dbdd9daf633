// The columns of a machine's page.
import type { Change, Peer, Placement, Service, VMPage } from '../api'
import { exactBytes, machine, moment, num, type Column, type Part } from '../columns'
import { clock, count, day, type Zone } from '../format'
import { m } from '../messages'
import { w } from '../words'

const t = w.vm

const state = (s: string): Part[] => (s ? [{ text: t.states[s] ?? s, badge: s === 'new' ? 'new' : 'gone' }] : [])

export function peerColumns(zone: Zone): Column<Peer>[] {
  return [
    { id: 'peer', label: t.peer, width: 170, grow: 3, cell: (p) => [{ ...(p.name ? machine(p.name, p.id) : { text: p.addr, mono: true, vm: p.addr, field: 'ip', value: p.addr }), look: p.tenant || p.segment }, ...(p.name ? [{ text: p.addr, field: 'ip', value: p.addr, faint: true }] : [])] },
    { id: 'segment', label: m.col.segment, width: 92, grow: 1, cell: (p) => [{ text: p.segment || m.none, field: 'segment', value: p.segment }] },
    { id: 'tenant', label: m.col.tenant, width: 70, grow: 1, cell: (p) => (p.tenant ? [{ text: p.tenant, field: 'tenant', value: p.tenant }] : [{ text: m.unknownTenant, faint: true }]) },
    { id: 'host', label: m.col.host, width: 92, grow: 1, cell: (p) => (p.same_host ? [{ text: m.sameHost, title: p.host }] : p.host ? [{ text: p.host, field: 'host', value: p.host }] : [{ text: p.known ? m.notKnown : t.outside, faint: true }]) },
    { id: 'sent', label: t.sentShort, width: 78, num: true, cell: (p) => exactBytes(p.octets_sent) },
    { id: 'received', label: t.receivedShort, width: 78, num: true, cell: (p) => exactBytes(p.octets_received) },
    { id: 'before', label: w.map.before, title: t.seriesBefore, width: 78, num: true, cell: (p) => exactBytes(p.octets_before) },
    { id: 'state', label: t.state, width: 66, cell: (p) => state(p.state) },
    { id: 'last', label: m.col.last, width: 84, cell: (p) => moment(p.last_seen, zone) },
  ]
}

export function serviceColumns(peers: string): Column<Service>[] {
  return [
    { id: 'service', label: t.service, width: 120, grow: 2, cell: (s) => [{ text: s.port ? `${s.proto}/${s.port}` : s.proto, mono: true, ...(s.port ? { field: 'port', value: s.port } : { field: 'proto', value: s.proto }) }, ...(s.app ? [{ text: s.app, field: 'app', value: s.app, faint: true }] : [])] },
    { id: 'peers', label: peers, width: 66, num: true, cell: (s) => num(count(s.peers)) },
    { id: 'octets', label: m.col.octets, width: 78, num: true, cell: (s) => exactBytes(s.octets) },
    { id: 'packets', label: m.col.packets, width: 76, num: true, cell: (s) => num(count(s.packets)) },
    { id: 'before', label: w.map.before, width: 78, num: true, cell: (s) => exactBytes(s.octets_before) },
    { id: 'state', label: t.state, width: 66, cell: (s) => state(s.state) },
  ]
}

export function changeColumns(zone: Zone): Column<Change>[] {
  return [
    { id: 'at', label: t.when, width: 90, cell: (c) => moment(c.at, zone) },
    { id: 'kind', label: t.kindOf, width: 100, cell: (c) => [{ text: t.kinds[c.kind] ?? c.kind }] },
    { id: 'text', label: t.what, width: 180, grow: 3, cell: (c) => [{ text: c.text, title: c.text }] },
  ]
}

export function placeColumns(zone: Zone): Column<Placement>[] {
  return [
    { id: 'host', label: t.host, width: 84, grow: 1, cell: (p) => (p.host ? [{ text: p.host, field: 'host', value: p.host }] : [{ text: m.notKnown, faint: true }]) },
    { id: 'segment', label: m.col.segment, width: 96, grow: 1, cell: (p) => [{ text: p.segment || m.none, field: 'segment', value: p.segment }] },
    { id: 'addr', label: t.addrs, width: 120, grow: 1, cell: (p) => [{ text: p.addr, field: 'ip', value: p.addr, mono: true }] },
    { id: 'first', label: w.vms.first, width: 84, cell: (p) => moment(p.first_seen, zone) },
    { id: 'last', label: m.col.last, width: 84, cell: (p) => moment(p.last_seen, zone) },
  ]
}

export interface Step { at: string; octets_sent: number; octets_received: number; octets_before: number }

export function steps(v: VMPage): Step[] {
  return (v.times ?? []).map((at, i) => ({ at, octets_sent: v.sent_series?.[i] ?? 0, octets_received: v.received_series?.[i] ?? 0, octets_before: v.before_series?.[i] ?? 0 }))
}

export function stepColumns(zone: Zone): Column<Step>[] {
  return [
    { id: 'at', label: t.from, width: 150, grow: 1, cell: (s) => [{ text: `${day(Date.parse(s.at), zone)}, ${clock(Date.parse(s.at), zone)}` }] },
    { id: 'sent', label: t.sentShort, width: 90, num: true, cell: (s) => exactBytes(s.octets_sent) },
    { id: 'received', label: t.receivedShort, width: 90, num: true, cell: (s) => exactBytes(s.octets_received) },
    { id: 'before', label: t.beforeShort, width: 110, num: true, cell: (s) => exactBytes(s.octets_before) },
  ]
}
