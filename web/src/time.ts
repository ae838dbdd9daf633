// Time expressions. The server understands RFC 3339, Unix seconds, "now" and "now-1h"; people write
// "last 15 min". What the URL holds is always what the server understands.

export interface Range { from: string; to: string }

const SECOND = 1000
const MINUTE = 60 * SECOND
const HOUR = 60 * MINUTE
const DAY = 24 * HOUR

const units: [RegExp, number][] = [
  [/^(s|secs?|seconds?)$/, SECOND],
  [/^(m|mins?|minutes?)$/, MINUTE],
  [/^(h|hrs?|hours?)$/, HOUR],
  [/^(d|days?)$/, DAY],
  [/^(w|wks?|weeks?)$/, 7 * DAY],
]

/** presets are the spans of the menu, in milliseconds. */
export const presets = [5 * MINUTE, 15 * MINUTE, HOUR, 3 * HOUR, 12 * HOUR, DAY, 7 * DAY, 30 * DAY]

/** spanText writes a span as the server reads it: the greatest of d (from two days), h, m, s that divides it. */
export function spanText(ms: number): string {
  const s = Math.max(1, Math.round(ms / SECOND))
  if (s % 86400 === 0 && s > 86400) return `${s / 86400}d`
  if (s % 3600 === 0) return `${s / 3600}h`
  if (s % 60 === 0) return `${s / 60}m`
  return `${s}s`
}

/** parseSpan reads "90s", "1h30m", "15 min" or "2 days" and gives milliseconds, NaN when it is none. */
export function parseSpan(text: string): number {
  const t = text.trim().toLowerCase()
  const part = /(\d+(?:\.\d+)?)\s*([a-z]+)\s*/y
  let sum = 0
  let end = 0
  for (let m = part.exec(t); m; m = part.exec(t)) {
    const unit = units.find(([re]) => re.test(m![2]!))
    if (!unit) return NaN
    sum += Number(m[1]) * unit[1]
    end = part.lastIndex
  }
  return end > 0 && end === t.length ? sum : NaN
}

/** parseTime gives the instant of a server expression in milliseconds, NaN when it is none. */
export function parseTime(expr: string, now: number): number {
  const t = expr.trim()
  if (t === 'now') return now
  const rel = /^now\s*([+-])\s*(.+)$/.exec(t)
  if (rel) return now + (rel[1] === '-' ? -1 : 1) * parseSpan(rel[2]!)
  if (/^\d{9,11}(\.\d+)?$/.test(t)) return Number(t) * SECOND
  return /^\d{4}-\d\d-\d\d([T ]\d\d:\d\d.*)?$/.test(t) ? Date.parse(t.replace(' ', 'T')) : NaN
}

/** bounds gives both instants of a range. */
export function bounds(r: Range, now: number): { from: number; to: number } {
  return { from: parseTime(r.from, now), to: parseTime(r.to, now) }
}

/** valid says whether the server can make a range of it that is not empty. */
export function valid(r: Range, now: number): boolean {
  const b = bounds(r, now)
  return b.from < b.to
}

/** instant writes milliseconds as RFC 3339 in UTC, without a fraction when there is none. */
export function instant(ms: number): string {
  return new Date(Math.round(ms)).toISOString().replace('.000Z', 'Z')
}

export function last(ms: number): Range {
  return { from: 'now-' + spanText(ms), to: 'now' }
}

/** relativeSpan gives the span of a range that ends now, 0 for any other. */
export function relativeSpan(r: Range): number {
  const m = r.to === 'now' && /^now-(.+)$/.exec(r.from)
  return m ? parseSpan(m[1]!) || 0 : 0
}

function midnight(ms: number, days = 0): number {
  const d = new Date(ms)
  d.setHours(0, 0, 0, 0)
  d.setDate(d.getDate() + days)
  return d.getTime()
}

function clock(text: string, now: number): number {
  const t = text.trim().toLowerCase()
  if (t === 'today') return midnight(now)
  if (t === 'yesterday') return midnight(now, -1)
  const day = /^(today|yesterday)\s+(?:at\s+)?(.+)$/.exec(t)
  const hm = /^(\d{1,2}):(\d\d)(?::(\d\d))?$/.exec(day ? day[2]! : t)
  if (hm) {
    const base = midnight(now, day?.[1] === 'yesterday' ? -1 : 0)
    const at = base + Number(hm[1]) * HOUR + Number(hm[2]) * MINUTE + Number(hm[3] ?? 0) * SECOND
    return Number(hm[1]) < 25 && Number(hm[2]) < 60 ? at : NaN
  }
  const ago = /^(.+?)\s+ago$/.exec(t)
  if (ago) return now - parseSpan(ago[1]!.replace(/^an? /, '1 '))
  return parseTime(text, now)
}

/** parseRange reads what a person writes: "last 15 min", "2h", "1 hour ago", "yesterday", "10:00 to 11:30",
 * "now-1h..now" or two RFC 3339 times. It gives null when it is none of these. */
export function parseRange(text: string, now: number): Range | null {
  const t = text.trim().replace(/\s+/g, ' ')
  const low = t.toLowerCase()
  if (low === 'today') return { from: instant(midnight(now)), to: 'now' }
  if (low === 'yesterday') return { from: instant(midnight(now, -1)), to: instant(midnight(now)) }
  const span = parseSpan(low.replace(/^(the )?(last|past) /, '').replace(/^(an? )?(?=(second|minute|hour|day|week)$)/, '1 '))
  if (span >= SECOND) return last(span)
  const two = /^(?:from |between )?(.+?)(?:\.\.| to | until | and | – | - |–)(.+)$/i.exec(t)
  if (two) return ordered(side(two[1]!, now), side(two[2]!, now), now)
  return ordered(side(t.replace(/^since /i, ''), now), 'now', now)
}

function side(text: string, now: number): string {
  const t = text.trim()
  if (/^now(\s*[+-].+)?$/i.test(t)) return t.toLowerCase().replace(/\s+/g, '')
  const ms = clock(t, now)
  return Number.isFinite(ms) ? instant(ms) : ''
}

function ordered(from: string, to: string, now: number): Range | null {
  return from && to && valid({ from, to }, now) ? { from, to } : null
}

/** shift moves a range by its own length; it stops at now, where it becomes relative again. */
export function shift(r: Range, steps: number, now: number): Range {
  const b = bounds(r, now)
  const span = b.to - b.from
  if (b.to + steps * span >= now - SECOND) return last(span)
  return { from: instant(b.from + steps * span), to: instant(b.to + steps * span) }
}

/** scale widens (factor 2) or narrows (factor 0.5) a range: towards the past when it ends now, else around its middle. */
export function scale(r: Range, factor: number, now: number): Range {
  const b = bounds(r, now)
  const span = Math.max(10 * SECOND, (b.to - b.from) * factor)
  if (r.to === 'now') return last(span)
  const mid = (b.from + b.to) / 2
  return { from: instant(mid - span / 2), to: instant(Math.min(now, mid + span / 2)) }
}

/** before is the period of some length that ends where a range begins. */
export function before(r: Range, span: number, now: number): Range {
  const start = relativeStart(r.from)
  if (start >= 0) return { from: 'now-' + spanText(start + span), to: r.from }
  return { from: instant(parseTime(r.from, now) - span), to: r.from }
}

/** relativeStart is how long before now an expression is, -1 for a fixed time. */
function relativeStart(from: string): number {
  if (from === 'now') return 0
  const m = /^now-(.+)$/.exec(from)
  return m ? parseSpan(m[1]!) : -1
}

/** firstRange is the range for somebody who named none: the last hour, or what is there when everything is younger. */
export function firstRange(dataFrom: number, now: number): Range {
  const age = now - dataFrom
  return last(presets.find((p) => p >= age) ?? HOUR)
}

const steps = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200].map((s) => s * SECOND)

/** ticks gives at most so many instants between two, at full seconds, minutes, hours or days of a zone that is offset milliseconds ahead of UTC. */
export function ticks(from: number, to: number, most: number, offset = 0): number[] {
  const step = steps.find((s) => (to - from) / s <= most) ?? Math.ceil((to - from) / most / DAY) * DAY
  const out: number[] = []
  for (let t = Math.ceil((from + offset) / step) * step - offset; t <= to; t += step) out.push(t)
  return out
}
