// The lines of a time series: their names, their looks, and what clicking one filters by.
import type { Line } from './api'
import { hash, look, SLOTS, type Look } from './colour'
import type { Part } from './columns'
import { m } from './messages'

/** splits are the columns that a series can be split by, and the filter field of each. */
export const splits: Record<string, string> = {
  tenant: 'tenant', segment: 'segment', app: 'app', proto: 'proto', src_vtep: 'src.vtep', dst_vtep: 'dst.vtep', src_vm: 'src.vm', dst_vm: 'dst.vm',
}

/** isOther tells the sum of all groups that have no line of their own. */
export const isOther = (l: Line) => l.key.length === 1 && l.key[0] === 'other'

export function lineName(l: Line): string {
  return isOther(l) ? m.other : l.key.map((k) => k || m.notKnown).join(' · ') || m.allTraffic
}

const natural = new Intl.Collator('en', { numeric: true })

/** compareLines orders lines by name, the rest last. */
export function compareLines(a: Line, b: Line): number {
  return Number(isOther(a)) - Number(isOther(b)) || natural.compare(lineName(a), lineName(b))
}

/** looks gives each line its look. Tenants and segments keep their colours on every page; for other splits two lines of one
 * answer never share a colour while there are enough. Lines that do share one differ in their round. */
export function looks(lines: Line[], by: string[]): Look[] {
  const fixed = by.length === 1 && (by[0] === 'tenant' || by[0] === 'segment')
  const used = new Map<number, number>() // lines of a colour
  const out: Look[] = []
  const order = lines.map((_, i) => i).filter((i) => !isOther(lines[i]!)).sort((a, b) => hash(lineName(lines[a]!)) - hash(lineName(lines[b]!)))
  for (const i of order) {
    const own = look(fixed ? (lines[i]!.key[0] ?? '') : lineName(lines[i]!))
    const least = Math.min(...Array.from({ length: SLOTS - 1 }, (_, slot) => used.get(slot) ?? 0))
    while (!fixed && (used.get(own.slot) ?? 0) > least) own.slot = (own.slot + 1) % (SLOTS - 1)
    own.round = used.get(own.slot) ?? 0
    used.set(own.slot, own.round + 1)
    out[i] = own
  }
  lines.forEach((l, i) => isOther(l) && (out[i] = look('other')))
  return out
}

/** linePart is the name of a line in a table: a handle where it is one value. */
export function linePart(l: Line, by: string[]): Part {
  const name = lineName(l)
  const field = by.length === 1 && !isOther(l) && l.key[0] ? (splits[by[0]!] ?? by[0]) : undefined
  return { text: name, ...(field && { field, value: l.key[0]! }) }
}
