// From a row to the next level: what to ask for one pair, one conversation.
import type { Conversation, Pair } from './api'
import { add, clause } from './filter'

export interface End { vm: string; addr: string }

/** Selection is what a details panel shows, as its key in the URL says. */
export interface Selection { kind: 'pair' | 'conversation'; fabric: string; segment: string; ends: [End, End]; proto: string; ports: [string, string] }

function named(text: string): [string, string] {
  const at = text.indexOf('@')
  return at < 0 ? ['', text] : [decodeURIComponent(text.slice(0, at)), text.slice(at + 1)]
}

/** parseSelection reads a key that pairKey or conversationKey wrote, null when it is none. */
export function parseSelection(key: string): Selection | null {
  const p = key.split(',')
  if (p.length !== 3 && p.length !== 6) return null
  try {
    const [fabric, segment] = named(p[0]!)
    const ends = p.slice(1, 3).map(named).map(([vm, addr]) => ({ vm, addr })) as [End, End]
    return { kind: p.length === 3 ? 'pair' : 'conversation', fabric, segment, ends, proto: p[3] ?? '', ports: [p[4] ?? '0', p[5] ?? '0'] }
  } catch {
    return null // a broken percent sign
  }
}

/** selectionFilter asks for the traffic of a selection, both ways: each name, address and port matches either end. */
export function selectionFilter(s: Selection, base = ''): string {
  const clauses = new Set<string>()
  if (s.fabric) clauses.add(clause('fabric', s.fabric))
  if (s.segment) clauses.add(clause('segment', s.segment))
  for (const e of s.ends) {
    if (e.vm) clauses.add(clause('vm', e.vm))
    clauses.add(clause('ip', e.addr))
  }
  if (s.kind === 'conversation') clauses.add(clause('proto', s.proto))
  for (const port of s.ports) if (port !== '0') clauses.add(clause('port', port))
  return [...clauses].reduce(add, base)
}

/** nameOf writes who talks to whom, by name where there is one. */
export function nameOf(r: Pair | Conversation): [string, string] {
  return [r.src_vm || r.src_addr, r.dst_vm || r.dst_addr]
}
