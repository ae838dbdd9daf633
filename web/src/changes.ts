// What the journal of a change says of each host.
import { hostNames } from './pages/tapcolumns'
import type { ChangeDoc, Outcome, PlannedTap, PlanStep } from './api'

/** HostProgress is how far one host of a platform is, or the platform itself where a step is of no host. */
export interface HostProgress {
  key: string
  platform: string
  host: string
  state: 'waiting' | 'doing' | 'done' | 'failed' | 'undone'
  done: number
  all: number // steps, as far as they are known
  what: string // the newest step, or the one that failed
  error: string
  from: number // milliseconds; 0 before it began
  to: number
}

/** progress joins what a plan expects with what the journal tells. Hosts have an id in steps; a tap's places tell their names. */
export function progress(change: ChangeDoc | null, expected: PlanStep[], taps: PlannedTap[] | null, ended: boolean): HostProgress[] {
  const nameOf = hostNames(taps)
  const all = new Map<string, HostProgress>()
  const of = (s: { platform: string; host?: string; switch?: string; session: string }): HostProgress => {
    const host = nameOf(s)
    const key = `${s.platform}|${host}`
    const one = all.get(key) ?? { key, platform: s.platform, host, state: 'waiting', done: 0, all: 0, what: '', error: '', from: 0, to: 0 }
    all.set(key, one)
    return one
  }
  for (const s of expected) of(s).all++
  const seen = new Map<string, number>()
  for (const j of change?.steps ?? []) {
    const step = stepOf(j.step)
    if (!step) continue
    const one = of({ ...step, platform: j.platform })
    const at = Date.parse(j.at)
    seen.set(one.key, (seen.get(one.key) ?? 0) + 1)
    one.from = one.from ? Math.min(one.from, at) : at
    one.to = Math.max(one.to, at)
    if (j.state === 'done') one.done++
    if (j.state === 'failed') Object.assign(one, { state: 'failed', error: j.error ?? '', what: step.summary })
    else if (one.state !== 'failed') Object.assign(one, { state: j.state === 'undone' ? 'undone' : 'doing', what: step.summary })
  }
  for (const one of all.values()) {
    one.all = Math.max(one.all, seen.get(one.key) ?? 0)
    if (one.state === 'doing' && (ended || one.done === one.all)) one.state = 'done'
  }
  return [...all.values()].sort((a, b) => (a.platform + a.host).localeCompare(b.platform + b.host))
}

function stepOf(text: string): PlanStep | null {
  try {
    return JSON.parse(text) as PlanStep
  } catch {
    return null // of a version that wrote it otherwise
  }
}

/** outcomeOf reads how a change that has ended did. */
export function outcomeOf(change: ChangeDoc | null): Outcome | null {
  if (!change?.report) return null
  try {
    return JSON.parse(change.report) as Outcome
  } catch {
    return null
  }
}
