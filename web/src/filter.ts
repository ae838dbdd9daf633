// The filter text: clauses from clicked values, positions, and colouring. What a filter means is the server's business.

/** clause writes "field = value": numbers and addresses bare, everything else quoted. */
export function clause(field: string, value: string | number, not = false): string {
  return `${field} ${not ? '!=' : '='} ${literal(value)}`
}

export function literal(value: string | number): string {
  if (typeof value === 'number' || /^\d+$/.test(value)) return String(value)
  if (/^(\d{1,3}\.){3}\d{1,3}$/.test(value) || /^[0-9a-f]*:[0-9a-f]*:[0-9a-f:.]*$/i.test(value)) return value
  return '"' + value.replace(/[\\"]/g, (c) => '\\' + c) + '"'
}

/** add joins a clause to a filter with "and". A filter that says so already stays as it is. */
export function add(filter: string, more: string): string {
  const f = filter.trim()
  if (f === '') return more
  const list = conjuncts(f)
  if (list.includes(more)) return f
  return (hasOr(f) ? `(${f})` : f) + ' and ' + more
}

/** replaceClause adds "only this" and takes the opposite away when it stands there. */
export function replaceClause(filter: string, more: string, opposite: string): string {
  const list = conjuncts(filter.trim())
  return list.includes(opposite) ? add(list.filter((c) => c !== opposite).join(' and '), more) : add(filter, more)
}

interface Token { kind: 'word' | 'op' | 'string' | 'number' | 'logic' | 'field' | 'other' | 'space' | 'comment'; text: string; at: number }

const lexer = /(\s+)|(--[^\n]*|\/\*[\s\S]*?(?:\*\/|$))|("(?:[^"\\]|\\.)*"?|'(?:[^'\\]|\\.)*'?)|([!<>=~]+)|([A-Za-z_][\w.]*)|(\d[\w.:/]*|[0-9a-fA-F]*:[0-9a-fA-F:.]+(?:\/\d+)?)|([\s\S])/gy

/** tokens cuts a filter for colouring; it never fails. */
export function tokens(text: string): Token[] {
  const kinds = ['space', 'comment', 'string', 'op', 'word', 'number', 'other'] as const
  const out: Token[] = []
  lexer.lastIndex = 0
  for (let m = lexer.exec(text); m; m = lexer.exec(text)) {
    const kind = kinds[m.slice(1).findIndex((g) => g !== undefined)]!
    const logic = kind === 'word' && /^(and|or|not|in|like|ilike|is|between|within|new)$/i.test(m[0])
    out.push({ kind: logic ? 'logic' : kind, text: m[0], at: m.index })
  }
  out.forEach((t, i) => {
    const next = out.slice(i + 1).find((o) => o.kind !== 'space')
    if (t.kind === 'word' && next && (next.kind === 'op' || /^(in|like|ilike|not|is|between)$/i.test(next.text))) t.kind = 'field'
  })
  return out
}

function hasOr(f: string): boolean {
  return depths(f).some(([t, depth]) => depth === 0 && /^or$/i.test(t.text))
}

function depths(f: string): [Token, number][] {
  let depth = 0
  return tokens(f).map((t) => {
    if (t.text === '(') depth++
    if (t.text === ')') depth--
    return [t, depth]
  })
}

/** conjuncts splits a filter at its outermost "and"s; one with an outermost "or" is one piece. */
export function conjuncts(f: string): string[] {
  if (f === '' || hasOr(f)) return f === '' ? [] : [f]
  const out = ['']
  for (const [t, depth] of depths(f)) {
    if (depth === 0 && /^and$/i.test(t.text)) out.push('')
    else out[out.length - 1] += t.text
  }
  return out.map((c) => c.trim()).filter(Boolean)
}

/** fromBytes turns a byte offset of the server (UTF-8) into one of a string (UTF-16). */
export function fromBytes(text: string, offset: number): number {
  const bytes = new TextEncoder().encode(text)
  return new TextDecoder().decode(bytes.subarray(0, offset)).length
}

/** toBytes is the way back. */
export function toBytes(text: string, index: number): number {
  return new TextEncoder().encode(text.slice(0, index)).length
}
