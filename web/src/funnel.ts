// What the books of a tap's stages say of the way of its packets: captured, filtered, groomed, delivered, and why not the rest.
import type { AgentTap, ControlledTap, Statement } from './api'

export interface Dropped { reason: string; n: number }

/** Delivered is what came out at the end, in one unit: frames to tools, records to collectors. */
export interface Delivered { unit: string; n: number }

/** Passed is what went through the stages of a tap, on all its hosts; null is what nobody counts. */
export interface Passed { captured: number | null; filtered: number | null; groomed: number | null; delivered: Delivered[]; unit: string; dropped: Dropped[] }

const CAPTURE = 'capture'
const FILTER = 'filter'
const GROOM = ['groom', 'balance'] // the last step of each groom pipeline
const STEPS = ['tag', 'mask', 'slice', 'sample', 'dedup', 'strip', 'repair']
const ENDS = ['deliver', 'export']
const KERNEL = 'kernel'
const [FILTERED, SAMPLED] = ['filtered', 'sampled_out'] // reasons of the kernel's book that the stages of user space have of their own

/** stagesOf takes the book that programs in the kernel keep apart into the stages that they do at once, so that the funnel of a tap is the
 * same wherever its stages run. */
export function stagesOf(books: Statement[]): Statement[] {
  const out: Statement[] = []
  books.forEach((b, i) => {
    const next = books[i + 1]?.stage // of a source of flow records and headers; copies are delivered where they are made
    for (const s of b.stage === KERNEL ? apart(b, next === undefined || next === CAPTURE) : [b]) merge(out, s)
  })
  return out
}

function apart(b: Statement, copies: boolean): Statement[] {
  const of = (reason: string) => (b.dropped ?? []).find((d) => d.reason === reason)?.n ?? 0
  const others = (b.dropped ?? []).filter((d) => d.reason !== FILTERED && d.reason !== SAMPLED)
  const lost = others.reduce((n, d) => n + d.n, 0)
  const stage = (name: string, into: number, dropped: Dropped[], held = 0): Statement => ({ stage: name, unit: b.unit, in: into, out: into - held - dropped.reduce((n, d) => n + d.n, 0), held, dropped })
  const seen = copies ? b.in : b.in - lost - b.held
  const list = [copies ? stage(CAPTURE, b.in, []) : stage(CAPTURE, b.in, others, b.held), stage(FILTER, seen, [{ reason: FILTERED, n: of(FILTERED) }])]
  const rest = seen - of(FILTERED)
  if (of(SAMPLED)) list.push(stage('sample', rest, [{ reason: SAMPLED, n: of(SAMPLED) }]))
  if (copies) list.push(stage('deliver', rest - of(SAMPLED), others, b.held))
  return list
}

function merge(list: Statement[], s: Statement): void {
  const i = list.findIndex((x) => x.stage === s.stage && x.unit === s.unit)
  if (i < 0) return void list.push(s)
  const x = list[i]!
  list[i] = { ...x, in: x.in + s.in, out: x.out + s.out, held: x.held + s.held, dropped: reasonsOf([x, s]) }
}

/** passage sums up the stages of one tap of an agent. */
export function passage(tap: AgentTap): Passed {
  const stages = stagesOf(tap.books ?? [])
  const of = (name: string) => stages.find((b) => b.stage === name)
  const groomed = [...GROOM, ...STEPS].map(of).find(Boolean)
  const first = of(CAPTURE) ?? stages[0]
  const delivered = ENDS.flatMap((name) => stages.filter((b) => b.stage === name)).reduce<Delivered[]>((list, b) => more(list, { unit: b.unit, n: b.out }), [])
  return { captured: first?.in ?? null, filtered: of(FILTER)?.out ?? null, groomed: groomed?.out ?? null, delivered, unit: first?.unit ?? 'frames', dropped: reasonsOf(stages) }
}

const more = (list: Delivered[], d: Delivered): Delivered[] => (list.some((x) => x.unit === d.unit) ? list.map((x) => (x.unit === d.unit ? { ...x, n: x.n + d.n } : x)) : [...list, d])

/** counted reports whether any switch counts a tap's copies; vSphere does not count those that leave in tunnels. */
export const counted = (tap: ControlledTap): boolean => Object.keys(tap.counters ?? {}).length > 0

/** passedBy sums up the agents that work for a tap; without any it is what switches count, if they do. left is the reason for what could not leave. */
export function passedBy(tap: ControlledTap, own: AgentTap[], left: string): Passed {
  const { packets, drops } = tap.copied
  if (own.length === 0 && !counted(tap)) return { captured: null, filtered: null, groomed: null, delivered: [], unit: 'packets', dropped: [] }
  if (own.length === 0) return { captured: packets + drops, filtered: null, groomed: null, delivered: [{ unit: 'packets', n: packets }], unit: 'packets', dropped: drops ? [{ reason: left, n: drops }] : [] }
  const plus = (a: number | null, b: number | null) => (a === null && b === null ? null : (a ?? 0) + (b ?? 0))
  return own.map(passage).reduce((a, b) => ({
    captured: plus(a.captured, b.captured), filtered: plus(a.filtered, b.filtered), groomed: plus(a.groomed, b.groomed), delivered: b.delivered.reduce(more, a.delivered), unit: a.unit, dropped: summed([...a.dropped, ...b.dropped]),
  }))
}

/** reasonsOf adds up what stages have dropped, the most first. */
export const reasonsOf = (books: Statement[]): Dropped[] => summed(books.flatMap((b) => b.dropped ?? []))

function summed(list: Dropped[]): Dropped[] {
  const all = new Map<string, number>()
  for (const d of list) all.set(d.reason, (all.get(d.reason) ?? 0) + d.n)
  return [...all].map(([reason, n]) => ({ reason, n })).filter((d) => d.n > 0).sort((x, y) => y.n - x.n)
}

/** isLoss tells reasons that nobody chose from those that a filter or a groom step gives. */
export const isLoss = (reason: string): boolean => /dropped|full|fail|lost|shed|away|stopped|error|bad|could not|too_long|too_big|refused|closed/.test(reason)
