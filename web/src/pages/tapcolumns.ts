// The columns of the tables about taps, and small reckonings for them.
import type { Agent, AgentSpec, AgentTap, ControlChange, ControlledTap, CopyCounter, HostCoverage, MoveGap, PlanStep, Refusal, TapPlace } from '../api'
import { exactBytes, machine, moment, num, type Column, type Part } from '../columns'
import { clause } from '../filter'
import { bytes, count, duration, rate, stamp, within, type Zone } from '../format'
import { isLoss, passage, type Delivered, type Dropped, type Passed } from '../funnel'
import { m } from '../messages'
import { t } from '../tapwords'
import { v } from '../words'
import { fixOf } from './topocolumns'

const look: Record<string, string> = { active: '●', running: '●', online: '●', paused: '‖', expired: '○', ended: '○', offline: '○', expected: '○', refused: '▲', failed: '▲', 'no-match': '◌', lost: '◌' }

export const stateOf = (s: string): Part => ({ text: `${look[s] ?? '○'} ${t.states[s] ?? s}`, bad: s === 'refused' || s === 'failed' || s === 'lost', faint: s === 'paused' || s === 'expired' || s === 'ended' })

/** Rated is a tap with how fast it copies, from two answers; NaN while there is one. */
export interface Rated extends ControlledTap { pps: number; bps: number }

/** ratesOf compares an answer with the one before it. Counters that began anew give no rate. */
export function ratesOf(now: ControlledTap[], before: Map<string, CopyCounter>): Rated[] {
  return now.map((tap) => {
    const was = before.get(tap.name)
    const seconds = was ? (Date.parse(tap.copied.at) - Date.parse(was.at)) / 1000 : NaN
    const fits = was && seconds > 0 && tap.copied.packets >= was.packets
    return { ...tap, pps: fits ? (tap.copied.packets - was.packets) / seconds : NaN, bps: fits ? ((tap.copied.bytes - was.bytes) * 8) / seconds : NaN }
  })
}

export function ending(iso: string | undefined, now: number, zone: Zone): Part[] {
  const at = iso ? Date.parse(iso) : NaN
  return at > 0 ? [{ ...moment(iso!, zone)[0]!, text: t.left(at - now), bad: at <= now }] : [{ text: t.never, faint: true }]
}

const budget = (r: ControlledTap): Part[] => {
  const { budget_bps: all, known, mirror_bps: used } = r.cost
  if (!all) return [{ text: m.none, faint: true }]
  return [{ text: rate(all, 'bit/s'), title: known ? t.ofBudget(used, all) : m.notKnown, ...(known && { bar: Math.min(1, used / all), bad: used > all }) }]
}

const droppedParts = (list: Dropped[]): Part[] => {
  const lost = list.filter((d) => isLoss(d.reason))
  const text = (lost.length ? lost : list).map((d) => `${count(d.n)} ${d.reason.replaceAll('_', ' ')}`).join(', ')
  return text ? [{ text, title: list.map((d) => `${count(d.n)} ${d.reason.replaceAll('_', ' ')}`).join('\n'), bad: lost.length > 0, faint: lost.length === 0 }] : [{ text: '0' }]
}

/** hostsOf tells how many hosts copy, and what keeps the others from it. */
function hostsOf(r: ControlledTap, refused: Refusal[]): Part[] {
  const good = new Set((r.places ?? []).map((p) => p.platform + p.host))
  const bad = new Set(refused.filter((x) => x.host && !(r.places ?? []).some((p) => p.host === x.host)).map((x) => x.host!))
  return [{ text: t.hostsOf(good.size, good.size + bad.size), bad: bad.size > 0, title: refused.map((x) => `${x.host ?? ''}: ${x.message}`).join('\n') }]
}

/** Listed is a tap with all that its line in the list tells. */
export interface Listed extends Rated { passed: Passed; refused: Refusal[] }

export function tapColumns(zone: Zone, now: number): Column<Listed>[] {
  const kept = (r: Listed): Part[] => (r.refused.some((x) => x.kept) ? [{ text: t.kept, title: t.keptTitle, faint: true, keep: true }] : [])
  return [
    { id: 'name', label: t.name, width: 104, grow: 1, cell: (r) => [{ text: r.name, to: { page: 'taps', step: 'select', name: r.name } }] },
    { id: 'state', label: t.state, width: 100, grow: 0.5, cell: (r) => [{ ...stateOf(r.state), keep: true }, ...kept(r), ...(r.pending_steps ? [{ text: `+${r.pending_steps}`, title: t.pending(r.pending_steps), bad: true, keep: true }] : [])] },
    { id: 'select', label: t.select, width: 96, grow: 2, cell: (r) => [{ text: r.select, title: r.select, mono: true }] },
    { id: 'method', label: t.method, width: 100, cell: (r) => [{ text: r.method }] },
    { id: 'vms', label: t.machines, width: 42, num: true, cell: (r) => num(count(r.vms), `${count(r.ports)} ${t.ports.toLowerCase()}`) },
    { id: 'hosts', label: t.hosts, title: t.hostsTitle, width: 50, num: true, cell: (r) => hostsOf(r, r.refused) },
    { id: 'captured', label: t.captured, width: 74, num: true, title: t.passedTitle, cell: (r) => figure(r.passed.captured, r.passed.unit) },
    { id: 'filtered', label: t.filtered, width: 68, num: true, title: t.passedTitle, cell: (r) => figure(r.passed.filtered, r.passed.unit) },
    { id: 'groomed', label: t.groomed, width: 74, num: true, title: t.passedTitle, cell: (r) => figure(r.passed.groomed, r.passed.unit) },
    { id: 'delivered', label: t.deliveredShort, width: 80, num: true, title: t.passedTitle, cell: (r) => deliveredParts(r.passed.delivered, r.passed.unit === 'packets' ? `${bytes(r.copied.bytes)}, ${t.packets(r.copied.packets)}` : '') },
    { id: 'drops', label: t.drops, title: t.dropsTitle, width: 92, grow: 2, cell: (r) => (r.passed.captured === null ? figure(null, '') : droppedParts(r.passed.dropped)) },
    { id: 'rate', label: t.rate, width: 74, num: true, cell: (r) => (Number.isFinite(r.bps) ? [{ text: rate(r.bps, 'bit/s'), title: `${t.perSecond(r.pps)}; ${t.expected.toLowerCase()} ${r.cost.known ? rate(r.cost.mirror_bps, 'bit/s') : m.notKnown}` }] : [{ text: m.none, faint: true }]) },
    { id: 'budget', label: t.budget, width: 74, num: true, cell: budget },
    { id: 'ttl', label: t.ttl, width: 102, cell: (r) => ending(r.expires, now, zone) },
    { id: 'owner', label: t.owner, width: 62, grow: 0.5, cell: (r) => [{ text: r.owner || r.by || m.none, title: [r.owner, r.reason, r.by && `${t.by} ${r.by}`].filter(Boolean).join(' · ') }] },
  ]
}

/** AgentRow is one tap of an agent. */
export interface AgentRow { agent: Agent; tap: AgentTap; spec: AgentSpec | null; passed: Passed }

export const agentRows = (agents: Agent[]): AgentRow[] => agents.flatMap((agent) => (agent.taps ?? []).map((tap) => ({ agent, tap, spec: agent.given?.find((s) => s.name === tap.name) ?? null, passed: passage(tap) })))

const figure = (n: number | null, unit: string): Part[] => (n === null ? [{ text: m.none, faint: true, title: t.passedNone }] : num(count(n), `${count(n)} ${unit}`))
/** deliveredParts tells frames and records apart. */
const deliveredParts = (list: Delivered[], title = ''): Part[] => {
  const all = list.map((d) => `${count(d.n)} ${d.unit}`).join(', ')
  return list.length ? [{ text: count(list[0]!.n), title: title || all }, ...(list[0]!.unit === 'records' || list.length > 1 ? [{ text: list.length > 1 ? `+${list.length - 1}` : t.records, faint: true, keep: true, title: all }] : [])] : figure(null, '')
}

export function agentColumns(zone: Zone): Column<AgentRow>[] {
  return [
    { id: 'agent', label: t.agent, width: 100, grow: 1, cell: ({ agent }) => [{ text: agent.name, title: agent.host }, ...(agent.state === 'online' ? [] : [{ ...stateOf(agent.state), keep: true }])] },
    { id: 'tap', label: t.name, width: 110, grow: 1, cell: ({ tap, spec }) => [{ text: tap.name, title: (spec?.source?.interfaces ?? []).join(', ') }] },
    { id: 'state', label: t.state, width: 88, cell: ({ tap }) => [{ ...stateOf(tap.state), ...(tap.error && { title: tap.error }) }] },
    { id: 'level', label: t.level, title: t.levelTitle, width: 80, cell: ({ tap }) => [{ text: tap.level || m.none, bad: Boolean(tap.level) && tap.level !== 'full' }] },
    { id: 'captured', label: t.captured, width: 92, num: true, cell: ({ passed: p }) => figure(p.captured, p.unit) },
    { id: 'filtered', label: t.filtered, width: 92, num: true, cell: ({ passed: p }) => figure(p.filtered, p.unit) },
    { id: 'groomed', label: t.groomed, width: 92, num: true, cell: ({ passed: p }) => figure(p.groomed, p.unit) },
    { id: 'delivered', label: t.deliveredShort, width: 92, num: true, cell: ({ passed }) => deliveredParts(passed.delivered) },
    { id: 'dropped', label: t.drops, width: 90, grow: 1, cell: ({ passed }) => droppedParts(passed.dropped.filter((d) => d.reason !== 'filtered')) },
    { id: 'frames', label: t.frames, width: 76, num: true, cell: ({ tap }) => num(t.perSecond(tap.frames_per_second)) },
    { id: 'cpu', label: t.cpu, width: 62, num: true, cell: ({ tap, spec }) => num(`${(tap.cpu * 100).toFixed(1)} %`, spec?.budget?.cpu ? `${t.budget} ${spec.budget.cpu}` : undefined) },
    { id: 'mirror', label: t.mirror, width: 80, num: true, cell: ({ tap, spec }) => num(rate(tap.mirror_bits_per_second, 'bit/s'), spec?.budget?.mirror ? `${t.budget} ${spec.budget.mirror}` : undefined) },
    { id: 'ttl', label: t.ttl, width: 66, cell: ({ spec }) => (spec?.ttl ? [{ text: spec.ttl }] : [{ text: t.never, faint: true }]) },
    { id: 'since', label: t.since, width: 80, cell: ({ tap }) => moment(tap.since, zone) },
  ]
}

type Sent = NonNullable<AgentTap['to']>[number]

/** errorPart is a destination's last error: as it is while it lasts, and as past once the destination takes frames again. */
export function errorPart(d: Pick<Sent, 'error' | 'error_at' | 'recovered'>, zone: Zone): Part[] {
  if (!d.error) return []
  if (!d.recovered) return [{ text: d.error, bad: true }]
  const text = `${t.past(d.error_at ? stamp(Date.parse(d.error_at), zone) : m.notKnown, stamp(Date.parse(d.recovered), zone))} ${d.error}`
  return [{ text, title: text, faint: true }]
}

export const sentColumns = (zone: Zone): Column<Sent>[] => [
  { id: 'url', label: t.url, width: 200, grow: 2, cell: (d) => [{ text: d.url, mono: true, title: d.recovered ? d.url : d.error || d.url }, ...errorPart(d, zone)] },
  { id: 'sent', label: t.sent, width: 130, num: true, cell: (d) => [{ text: count(d.sent) }, { text: d.unit, faint: true }] },
  { id: 'queued', label: t.queued, width: 76, num: true, cell: (d) => num(count(d.queued)) },
  { id: 'shed', label: t.shed, width: 70, num: true, cell: (d) => [{ text: count(d.shed), bad: d.shed > 0 }] },
  { id: 'errors', label: t.errors, width: 70, num: true, cell: (d) => [{ text: count(d.errors), bad: d.errors > 0 && !d.recovered }] },
]

export function placeColumns(counters: Record<string, CopyCounter> = {}): Column<TapPlace>[] {
  const counter = (p: TapPlace) => counters[`${p.platform}/${p.session}`]
  return [
    { id: 'platform', label: t.platform, width: 90, grow: 1, cell: (p) => [{ text: p.platform }] },
    { id: 'host', label: t.host, width: 90, grow: 1, cell: (p) => [{ text: p.host || m.none }] },
    { id: 'switch', label: t.sw, width: 90, grow: 1, cell: (p) => [{ text: p.switch || m.none }] },
    { id: 'method', label: t.method, width: 104, cell: (p) => [{ text: p.method }] },
    { id: 'ports', label: t.ports, width: 140, grow: 2, cell: (p) => [{ text: (p.ports ?? []).join(', '), title: (p.ports ?? []).join(', ') }, ...(p.count > (p.ports?.length ?? 0) ? [{ text: `+${p.count - (p.ports?.length ?? 0)}`, faint: true, keep: true }] : [])] },
    { id: 'to', label: t.to, width: 110, grow: 1, cell: (p) => [{ text: (p.to ?? []).join(', ') }] },
    ...(Object.keys(counters).length ? [{ id: 'copied', label: t.counter, width: 110, num: true, cell: (p: TapPlace) => (counter(p) ? exactBytes(counter(p)!.bytes) : [{ text: m.none, faint: true }]) }] : []),
  ]
}

export const refusalColumns: Column<Refusal>[] = [
  { id: 'policy', label: t.name, width: 90, grow: 0.5, cell: (r) => [{ text: r.policy || m.none }] },
  { id: 'what', label: t.refusedWhat, width: 130, grow: 1, cell: (r) => [{ text: [r.host, r.switch, r.vm || r.port].filter(Boolean).join(' › ') || m.none }] },
  { id: 'reason', label: t.reason, width: 158, cell: (r) => [{ text: t.reasons[r.reason] ?? r.reason, bad: true }, ...(r.kept ? [{ text: t.kept, title: t.keptTitle, faint: true, keep: true }] : [])] },
  { id: 'message', label: t.refusedWhy, width: 220, grow: 3, wrap: true, cell: (r) => [{ text: r.message, title: r.message }] },
  { id: 'fix', label: t.fix, width: 160, grow: 2, wrap: true, cell: (r) => (r.fix ? [{ text: r.fix, title: r.fix }] : []) },
]

/** oneWay tells refusals of both directions that one of them would not have. */
export const oneWay = (r: Refusal): boolean => /direction: ingress/.test(r.fix ?? '')

/** hostNames tells what steps are for: a host by its name, where a step has the id that its platform knows, or a switch that several
 * hosts have in common. */
export function hostNames(taps: { places: TapPlace[] | null }[] | null): (s: { platform: string; host?: string; switch?: string; session: string }) => string {
  const places = (taps ?? []).flatMap((x) => x.places ?? [])
  const key = (s: { platform: string; session: string }) => `${s.platform}|${s.session}`
  const policy = (session: string) => session.split('/')[0]
  const first = new Map(places.map((p) => [key(p), p]))
  return (s) => {
    const at = first.get(key(s))
    // A step without a host is one for its whole switch, which may have a session for each host.
    const same = places.filter((p) => p.platform === s.platform && (p.session === s.session || (!s.host && at !== undefined && p.switch === at.switch && policy(p.session) === policy(at.session))))
    const hosts = [...new Set(same.map((p) => p.host))]
    if (hosts.length > 1) return t.onHosts(at?.switch || s.switch || '', hosts.length)
    return hosts[0] || s.host || ''
  }
}

/** because tells what taps leave out, and why a part has bounds. */
const because = (list?: string[] | null) => (list?.length ? { title: list.join('\n') } : {})
const whyColumn = (of: (h: HostCoverage) => string[] | null | undefined): Column<HostCoverage> => ({ id: 'why', label: t.coverWhy, width: 160, grow: 4, cell: (h) => (of(h)?.length ? [{ text: of(h)!.join('; '), ...because(of(h)) }] : []) })
const oneWayColumn: Column<HostCoverage> = { id: 'oneway', label: t.oneWay, title: t.oneWayTitle, width: 76, num: true, cell: (h) => (h.one_way ? [{ text: count(h.one_way), bad: true }] : [{ text: m.none, faint: true }]) }

export const coverageColumns: Column<HostCoverage>[] = [
  { id: 'host', label: t.host, width: 110, grow: 1, cell: (h) => [{ text: h.host || m.none }] },
  { id: 'platform', label: t.platform, width: 90, grow: 1, cell: (h) => [{ text: h.platform }] },
  { id: 'ports', label: t.ports, width: 60, num: true, cell: (h) => num(count(h.ports)) },
  { id: 'before', label: t.editor.before, width: 130, num: true, cell: (h) => [{ ...num(within(h.before, h.before_most))[0]!, ...because(h.before_why) }] },
  { id: 'after', label: t.editor.after, width: 150, num: true, cell: (h) => [{ text: within(h.after, h.after_most), bar: Math.min(1, h.after), ...because(h.after_why) }] },
  oneWayColumn,
  whyColumn((h) => h.after_why),
]

/** unseenColumns are of hosts as they are now, each with a way to see it. */
export const unseenColumns: Column<HostCoverage>[] = [
  ...coverageColumns.slice(0, 3),
  { id: 'seen', label: t.seenByTaps, width: 130, num: true, cell: (h) => [{ text: within(h.before, h.before_most), bar: Math.min(1, h.before), bad: h.before === 0, ...because(h.before_why) }] },
  oneWayColumn,
  whyColumn((h) => h.before_why),
  { id: 'fix', label: v.fix, title: v.fixTitle, width: 64, cell: (h) => (h.host ? [{ text: v.fix, title: v.fixTitle, to: fixOf(clause('host', h.host)) }] : []) },
]

export const stepColumns = (hostOf: (s: PlanStep) => string): Column<PlanStep>[] => [
  { id: 'host', label: t.host, width: 96, grow: 1, cell: (s) => [{ text: hostOf(s) || s.switch || m.none, title: [s.platform, hostOf(s), s.switch].filter(Boolean).join(' › ') }] },
  { id: 'platform', label: t.platform, width: 80, grow: 0.5, cell: (s) => [{ text: s.platform }] },
  { id: 'phase', label: t.editor.phase, width: 88, cell: (s) => [{ text: t.editor.phases[s.phase] ?? String(s.phase), faint: true }] },
  { id: 'action', label: t.action, width: 70, cell: (s) => [{ text: { create: '+', change: '~', remove: '−' }[s.action] ?? '', mono: true }, { text: s.action }] },
  { id: 'object', label: t.editor.object, width: 150, grow: 1, wrap: true, cell: (s) => [{ text: s.object, title: s.object }] },
  { id: 'summary', label: t.editor.summary, width: 200, grow: 3, wrap: true, cell: (s) => [{ text: s.summary, title: [s.summary, s.why, ...(s.commands ?? [])].filter(Boolean).join('\n') }, ...(s.why ? [{ text: s.why, faint: true }] : [])] },
]

export function gapColumns(zone: Zone): Column<MoveGap>[] {
  return [
    { id: 'at', label: t.when, width: 96, grow: 0.5, cell: (g) => moment(g.at, zone) },
    { id: 'vm', label: t.machine, width: 130, grow: 2, cell: (g) => (g.vm ? [machine(g.vm, '')] : [{ text: m.notKnown, faint: true }]) },
    { id: 'policy', label: t.name, width: 100, grow: 1, cell: (g) => [{ text: g.policy || m.none }] },
    { id: 'port', label: t.port, width: 120, grow: 1, cell: (g) => [{ text: `${g.platform} › ${g.port}` }] },
    { id: 'after', label: t.gapAfter, width: 90, num: true, cell: (g) => num(duration(g.after_ns / 1e6)) },
    { id: 'packets', label: t.gapPackets, width: 150, num: true, cell: (g) => (g.packets < 0 ? [{ text: t.gapUnknown, faint: true, ...(g.why && { title: g.why }) }] : [{ text: t.gapRange(g.packets_least ?? g.packets, g.packets), bad: g.packets > 0, ...(g.why && { title: g.why }) }]) },
  ]
}

export function changeColumns(zone: Zone): Column<ControlChange>[] {
  return [
    { id: 'id', label: t.change, width: 62, num: true, cell: (c) => num(String(c.id)) },
    { id: 'at', label: t.when, width: 96, grow: 0.5, cell: (c) => moment(c.at, zone) },
    { id: 'who', label: t.who, width: 90, grow: 1, cell: (c) => [{ text: c.who }] },
    { id: 'action', label: t.action, width: 80, cell: (c) => [{ text: c.action }] },
    { id: 'state', label: t.state, width: 90, cell: (c) => [{ text: c.state, bad: c.state === 'failed' || c.state === 'partly' || c.state === 'interrupted' }, ...(c.end && Date.parse(c.end) > 0 ? [{ text: duration(Date.parse(c.end) - Date.parse(c.at)), faint: true }] : [])] },
    { id: 'resources', label: t.resources, width: 140, grow: 2, cell: (c) => [{ text: (c.resources ?? []).join(', ') || m.none, title: (c.resources ?? []).join(', ') }] },
    { id: 'why', label: t.why, width: 140, grow: 2, cell: (c) => [{ text: c.why || m.none, title: c.why ?? '', faint: !c.why }] },
  ]
}
