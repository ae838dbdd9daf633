// The columns of the tables about taps, and small reckonings for them.
import type { Agent, AgentSpec, AgentTap, ControlChange, ControlledTap, CopyCounter, MoveGap, PlanCoverage, PlanStep, Refusal, Statement, TapPlace } from '../api'
import { exactBytes, machine, moment, num, type Column, type Part } from '../columns'
import { bytes, count, duration, percent, rate, type Zone } from '../format'
import { m } from '../messages'
import { t } from '../tapwords'

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

/** Passed is what went through the stages of a tap, on all its hosts; null is what nobody counts. */
export interface Passed { captured: number | null; filtered: number | null; groomed: number | null; delivered: number | null; dropped: { reason: string; n: number }[] }

/** passedBy sums up the books of the agents that work for a tap; without any, what switches have counted. */
export function passedBy(tap: ControlledTap, own: AgentTap[]): Passed {
  if (own.length) {
    const sum = (names: string[], side: 'in' | 'out') => own.map((x) => stage(x, names, side)).reduce<number | null>((s, n) => (n === null ? s : (s ?? 0) + n), null)
    return { captured: sum(['capture'], 'in'), filtered: sum(['sift', 'filter'], 'out'), groomed: sum(['groom'], 'out'), delivered: sum(['deliver', 'export'], 'out'), dropped: reasonsOf(own.flatMap((x) => x.books ?? [])) }
  }
  const { packets, drops } = tap.copied
  return { captured: packets + drops, filtered: null, groomed: null, delivered: packets, dropped: drops ? [{ reason: t.notOut, n: drops }] : [] }
}

/** reasonsOf adds up what stages have dropped, the most first. */
export function reasonsOf(books: Statement[]): { reason: string; n: number }[] {
  const all = new Map<string, number>()
  for (const d of books.flatMap((b) => b.dropped ?? [])) all.set(d.reason, (all.get(d.reason) ?? 0) + d.n)
  return [...all].map(([reason, n]) => ({ reason, n })).filter((d) => d.n > 0).sort((x, y) => y.n - x.n)
}

const droppedParts = (list: { reason: string; n: number }[]): Part[] => {
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
    { id: 'select', label: t.select, width: 110, grow: 2, cell: (r) => [{ text: r.select, title: r.select, mono: true }] },
    { id: 'method', label: t.method, width: 100, cell: (r) => [{ text: r.method }] },
    { id: 'vms', label: t.machines, width: 42, num: true, cell: (r) => num(count(r.vms), `${count(r.ports)} ${t.ports.toLowerCase()}`) },
    { id: 'hosts', label: t.hosts, title: t.hostsTitle, width: 50, num: true, cell: (r) => hostsOf(r, r.refused) },
    { id: 'captured', label: t.captured, width: 74, num: true, cell: (r) => figure(r.passed.captured) },
    { id: 'filtered', label: t.filtered, width: 64, num: true, cell: (r) => figure(r.passed.filtered) },
    { id: 'groomed', label: t.groomed, width: 66, num: true, cell: (r) => figure(r.passed.groomed) },
    { id: 'delivered', label: t.deliveredShort, width: 74, num: true, cell: (r) => [{ ...figure(r.passed.delivered)[0]!, title: `${bytes(r.copied.bytes)}, ${t.packets(r.copied.packets)}` }] },
    { id: 'drops', label: t.drops, title: t.dropsTitle, width: 96, grow: 2, cell: (r) => droppedParts(r.passed.dropped) },
    { id: 'rate', label: t.rate, width: 74, num: true, cell: (r) => (Number.isFinite(r.bps) ? [{ text: rate(r.bps, 'bit/s'), title: `${t.perSecond(r.pps)}; ${t.expected.toLowerCase()} ${r.cost.known ? rate(r.cost.mirror_bps, 'bit/s') : m.notKnown}` }] : [{ text: m.none, faint: true }]) },
    { id: 'budget', label: t.budget, width: 74, num: true, cell: budget },
    { id: 'ttl', label: t.ttl, width: 92, cell: (r) => ending(r.expires, now, zone) },
    { id: 'owner', label: t.owner, width: 62, grow: 0.5, cell: (r) => [{ text: r.owner || r.by || m.none, title: [r.owner, r.reason, r.by && `${t.by} ${r.by}`].filter(Boolean).join(' · ') }] },
  ]
}

/** AgentRow is one tap of an agent. */
export interface AgentRow { agent: Agent; tap: AgentTap; spec: AgentSpec | null }

export const agentRows = (agents: Agent[]): AgentRow[] => agents.flatMap((agent) => (agent.taps ?? []).map((tap) => ({ agent, tap, spec: agent.given?.find((s) => s.name === tap.name) ?? null })))

/** stage gives a figure of the first stage with one of some names. */
export function stage(tap: AgentTap, names: string[], side: 'in' | 'out'): number | null {
  const found = (tap.books ?? []).filter((b) => names.includes(b.stage))
  return found.length ? found.reduce((n, b) => n + b[side], 0) : null
}

const figure = (n: number | null): Part[] => (n === null ? [{ text: m.none, faint: true }] : num(count(n)))
/** isLoss tells reasons that nobody chose from those that a filter or a groom step gives. */
export const isLoss = (reason: string): boolean => /dropped|full|fail|lost|shed|away|stopped|error|bad|could not|too_long/.test(reason)


export function agentColumns(zone: Zone): Column<AgentRow>[] {
  return [
    { id: 'agent', label: t.agent, width: 100, grow: 1, cell: ({ agent }) => [{ text: agent.name, title: agent.host }, ...(agent.state === 'online' ? [] : [{ ...stateOf(agent.state), keep: true }])] },
    { id: 'tap', label: t.name, width: 110, grow: 1, cell: ({ tap, spec }) => [{ text: tap.name, title: (spec?.source?.interfaces ?? []).join(', ') }] },
    { id: 'state', label: t.state, width: 88, cell: ({ tap }) => [{ ...stateOf(tap.state), ...(tap.error && { title: tap.error }) }] },
    { id: 'level', label: t.level, title: t.levelTitle, width: 80, cell: ({ tap }) => [{ text: tap.level || m.none, bad: Boolean(tap.level) && tap.level !== 'full' }] },
    { id: 'captured', label: t.captured, width: 92, num: true, cell: ({ tap }) => figure(stage(tap, ['capture'], 'in')) },
    { id: 'filtered', label: t.filtered, width: 92, num: true, cell: ({ tap }) => figure(stage(tap, ['sift', 'filter'], 'out')) },
    { id: 'groomed', label: t.groomed, width: 92, num: true, cell: ({ tap }) => figure(stage(tap, ['groom'], 'out')) },
    { id: 'delivered', label: t.deliveredShort, width: 92, num: true, cell: ({ tap }) => figure(stage(tap, ['deliver', 'export'], 'out')) },
    { id: 'dropped', label: t.drops, width: 90, grow: 1, cell: ({ tap }) => droppedParts(reasonsOf(tap.books ?? []).filter((d) => d.reason !== 'filtered')) },
    { id: 'frames', label: t.frames, width: 76, num: true, cell: ({ tap }) => num(t.perSecond(tap.frames_per_second)) },
    { id: 'cpu', label: t.cpu, width: 62, num: true, cell: ({ tap, spec }) => num(`${(tap.cpu * 100).toFixed(1)} %`, spec?.budget?.cpu ? `${t.budget} ${spec.budget.cpu}` : undefined) },
    { id: 'mirror', label: t.mirror, width: 80, num: true, cell: ({ tap, spec }) => num(rate(tap.mirror_bits_per_second, 'bit/s'), spec?.budget?.mirror ? `${t.budget} ${spec.budget.mirror}` : undefined) },
    { id: 'ttl', label: t.ttl, width: 66, cell: ({ spec }) => (spec?.ttl ? [{ text: spec.ttl }] : [{ text: t.never, faint: true }]) },
    { id: 'since', label: t.since, width: 80, cell: ({ tap }) => moment(tap.since, zone) },
  ]
}

export const sentColumns: Column<NonNullable<AgentTap['to']>[number]>[] = [
  { id: 'url', label: t.url, width: 200, grow: 2, cell: (d) => [{ text: d.url, mono: true, title: d.error || d.url }, ...(d.error ? [{ text: d.error, bad: true }] : [])] },
  { id: 'sent', label: t.sent, width: 130, num: true, cell: (d) => [{ text: count(d.sent) }, { text: d.unit, faint: true }] },
  { id: 'queued', label: t.queued, width: 76, num: true, cell: (d) => num(count(d.queued)) },
  { id: 'shed', label: t.shed, width: 70, num: true, cell: (d) => [{ text: count(d.shed), bad: d.shed > 0 }] },
  { id: 'errors', label: t.errors, width: 70, num: true, cell: (d) => [{ text: count(d.errors), bad: d.errors > 0 }] },
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
  { id: 'reason', label: t.reason, width: 128, cell: (r) => [{ text: t.reasons[r.reason] ?? r.reason, bad: true }, ...(r.kept ? [{ text: t.kept, title: t.keptTitle, faint: true, keep: true }] : [])] },
  { id: 'message', label: t.refusedWhy, width: 220, grow: 3, cell: (r) => [{ text: r.message, title: r.message }] },
  { id: 'fix', label: t.fix, width: 160, grow: 2, cell: (r) => (r.fix ? [{ text: r.fix, title: r.fix }] : []) },
]

/** hostNames tells what steps are for: a host by its name, where a step has the id that its platform knows, or a switch that several
 * hosts have in common. */
export function hostNames(taps: { places: TapPlace[] | null }[] | null): (s: { platform: string; host?: string; switch?: string; session: string }) => string {
  const named = new Map<string, Set<string>>()
  const switches = new Map<string, string>()
  for (const p of (taps ?? []).flatMap((x) => x.places ?? [])) {
    const key = `${p.platform}|${p.session}`
    named.set(key, (named.get(key) ?? new Set()).add(p.host))
    switches.set(key, p.switch)
  }
  return (s) => {
    const hosts = [...(named.get(`${s.platform}|${s.session}`) ?? [])]
    if (hosts.length > 1) return t.onHosts(switches.get(`${s.platform}|${s.session}`) || s.switch || '', hosts.length)
    return hosts[0] || s.host || ''
  }
}

export const coverageColumns: Column<NonNullable<PlanCoverage['hosts']>[number]>[] = [
  { id: 'host', label: t.host, width: 110, grow: 1, cell: (h) => [{ text: h.host || m.none }] },
  { id: 'platform', label: t.platform, width: 90, grow: 1, cell: (h) => [{ text: h.platform }] },
  { id: 'ports', label: t.ports, width: 60, num: true, cell: (h) => num(count(h.ports)) },
  { id: 'before', label: t.editor.before, width: 80, num: true, cell: (h) => num(percent(h.before)) },
  { id: 'after', label: t.editor.after, width: 110, num: true, cell: (h) => [{ text: percent(h.after), bar: Math.min(1, h.after) }] },
]

export const stepColumns = (hostOf: (s: PlanStep) => string): Column<PlanStep>[] => [
  { id: 'host', label: t.host, width: 96, grow: 1, cell: (s) => [{ text: hostOf(s) || s.switch || m.none, title: [s.platform, hostOf(s), s.switch].filter(Boolean).join(' › ') }] },
  { id: 'platform', label: t.platform, width: 80, grow: 0.5, cell: (s) => [{ text: s.platform }] },
  { id: 'phase', label: t.editor.phase, width: 88, cell: (s) => [{ text: t.editor.phases[s.phase] ?? String(s.phase), faint: true }] },
  { id: 'action', label: t.action, width: 70, cell: (s) => [{ text: { create: '+', change: '~', remove: '−' }[s.action] ?? '', mono: true }, { text: s.action }] },
  { id: 'object', label: t.editor.object, width: 150, grow: 1, cell: (s) => [{ text: s.object, title: s.object }] },
  { id: 'summary', label: t.editor.summary, width: 200, grow: 3, cell: (s) => [{ text: s.summary, title: [s.summary, s.why, ...(s.commands ?? [])].filter(Boolean).join('\n') }, ...(s.why ? [{ text: s.why, faint: true }] : [])] },
]

export function gapColumns(zone: Zone): Column<MoveGap>[] {
  return [
    { id: 'at', label: t.when, width: 96, grow: 0.5, cell: (g) => moment(g.at, zone) },
    { id: 'vm', label: t.machine, width: 130, grow: 2, cell: (g) => (g.vm ? [machine(g.vm, '')] : [{ text: m.notKnown, faint: true }]) },
    { id: 'policy', label: t.name, width: 100, grow: 1, cell: (g) => [{ text: g.policy || m.none }] },
    { id: 'port', label: t.port, width: 120, grow: 1, cell: (g) => [{ text: `${g.platform} › ${g.port}` }] },
    { id: 'after', label: t.gapAfter, width: 90, num: true, cell: (g) => num(duration(g.after_ns / 1e6)) },
    { id: 'packets', label: t.gapPackets, width: 120, num: true, cell: (g) => (g.packets < 0 ? [{ text: t.gapUnknown, faint: true, ...(g.why && { title: g.why }) }] : [{ text: t.gapRange(g.packets_least ?? g.packets, g.packets), bad: g.packets > 0 }]) },
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
