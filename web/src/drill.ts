// From a row to the next level: what to ask for one pair, one conversation.
import type { Conversation, Pair } from './api'
import { segmentFilter } from './columns'
import { add, clause } from './filter'

/** Selection is what a details panel shows, as its key in the URL says. */
export interface Selection { kind: 'pair' | 'conversation'; fabric: string; segment: string; src: string; dst: string; proto: string; ports: [string, string] }

/** parseSelection reads a key that pairKey or conversationKey wrote, null when it is none. */
export function parseSelection(key: string): Selection | null {
  const p = key.split(',')
  if (p.length !== 3 && p.length !== 6) return null
  const [place, src, dst, proto = '', a = '0', b = '0'] = p as [string, string, string, string?, string?, string?]
  const at = place.indexOf('@')
  return { kind: p.length === 3 ? 'pair' : 'conversation', fabric: at < 0 ? '' : place.slice(0, at), segment: place.slice(at + 1), src, dst, proto, ports: [a, b] }
}

/** selectionFilter asks for the traffic of a selection, both ways: each address and port matches either end. */
export function selectionFilter(s: Selection, base = ''): string {
  const number = /^vxlan:(\d+)$/.exec(s.segment)
  const segment = segmentFilter({ segment: s.segment, vni: Number(number?.[1] ?? 0) })
  let f = base
  if (s.fabric) f = add(f, clause('fabric', s.fabric))
  if (s.segment) f = add(f, clause(segment.field, segment.value))
  for (const ip of new Set([s.src, s.dst])) f = add(f, clause('ip', ip))
  if (s.kind === 'pair') return f
  f = add(f, clause('proto', s.proto))
  for (const port of new Set(s.ports.filter((p) => p !== '0'))) f = add(f, clause('port', port))
  return f
}

/** nameOf writes who talks to whom, by name where there is one. */
export function nameOf(r: Pair | Conversation): [string, string] {
  return [r.src_vm || r.src_addr, r.dst_vm || r.dst_addr]
}
