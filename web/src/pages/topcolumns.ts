// The columns of Explore's table: one for each field of the key, then the figures.
import type { Top, TopRow } from '../api'
import { exactBytes, marks, moment, num, type Column } from '../columns'
import { bytes, count, percent, stamp, type Zone } from '../format'
import { m } from '../messages'
import { w } from '../words'

const t = w.explore

const microseconds = (us: number | null) => (us === null ? num(m.none) : num(us >= 10_000 ? `${count(us / 1000)} ms` : `${(us / 1000).toFixed(2)} ms`))

/** keyColumns are handles, each with the filter field that it was asked for by. Names may be those of the series: src_vm is src.vm. */
function keyColumns(a: Top): Column<TopRow>[] {
  const names = [...(a.per ?? []), ...(a.by ?? [])]
  return names.map((name, i) => ({
    id: name, label: m.by[name] ?? name, width: 120, grow: 2,
    cell: (r) => {
      const value = r.key?.[i] ?? ''
      if (value === '') return [{ text: m.notKnown, faint: true }]
      const field = name.replace(/^(src|dst)_/, '$1.')
      const vm = /(^|\.)vm$/.test(field)
      return [{ text: value, field, value, title: value, ...(vm && { vm: value }), mono: /(^|\.)(ip|mac|vtep)$/.test(field) }, ...(i === names.length - 1 ? marks(r.marks) : [])]
    },
  }))
}

export function topColumns(a: Top, zone: Zone): Column<TopRow>[] {
  const rows = a.rows ?? []
  const some = (f: (r: TopRow) => unknown) => rows.some((r) => Boolean(f(r)))
  const figure = (id: string, label: string, width: number, f: (r: TopRow) => number | null): Column<TopRow> => ({ id, label, width, num: true, cell: (r) => (f(r) === null ? num(m.none) : num(count(f(r)!))) })
  return [
    ...(a.period_ms ? [{ id: 'period', label: w.vm.from, width: 150, cell: (r: TopRow) => (r.period ? num(stamp(Date.parse(r.period), zone)) : num(m.none)) }] : []),
    ...keyColumns(a),
    { id: 'octets', label: m.col.octets, width: 92, num: true, cell: (r) => [{ text: (r.octets_error ? '≈' : '') + bytes(r.octets), title: `${count(r.octets)} B` + (r.octets_error ? `, ±${bytes(r.octets_error)}` : '') }] },
    ...(some((r) => r.octets_sent !== null) ? [
      { id: 'sent', label: t.sent, width: 78, num: true, cell: (r: TopRow) => exactBytes(r.octets_sent ?? 0) },
      { id: 'received', label: t.received, width: 78, num: true, cell: (r: TopRow) => exactBytes(r.octets_received ?? 0) },
    ] : []),
    { id: 'share', label: t.share, width: 92, num: true, cell: (r) => [{ text: percent(r.share), bar: r.share }] },
    figure('packets', m.col.packets, 84, (r) => r.packets),
    ...(some((r) => r.flows !== null) ? [figure('flows', t.flows, 66, (r) => r.flows)] : []),
    { id: 'l2', label: t.l2, width: 76, num: true, cell: (r) => exactBytes(r.l2_octets) },
    ...(some((r) => r.retransmits) ? [figure('retransmits', t.retransmits, 56, (r) => r.retransmits)] : []),
    ...(some((r) => r.zero_windows) ? [figure('zero', t.zero, 74, (r) => r.zero_windows)] : []),
    ...(some((r) => r.fragments) ? [figure('fragments', t.fragments, 64, (r) => r.fragments)] : []),
    ...(some((r) => r.rtt_avg_us !== null) ? [
      { id: 'rtt', label: t.rtt, width: 80, num: true, cell: (r: TopRow) => microseconds(r.rtt_avg_us) },
      ...(some((r) => r.rtt_p50_us !== null && r.rtt_p50_us !== undefined) ? ([['p50', 'rtt_p50_us'], ['p95', 'rtt_p95_us'], ['p99', 'rtt_p99_us']] as const).map(([p, name]) => ({ id: name, label: `${t.rttShort} ${p}`, width: 76, num: true, cell: (r: TopRow) => microseconds(r[name] ?? null) })) : []),
      { id: 'rttmax', label: t.rttMax, width: 78, num: true, cell: (r: TopRow) => microseconds(r.rtt_max_us) },
    ] : []),
    figure('rows', t.rows, 70, (r) => r.rows),
    { id: 'last', label: m.col.last, width: 84, cell: (r) => moment(r.last_seen, zone) },
  ]
}
