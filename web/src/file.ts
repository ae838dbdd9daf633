// Rows that a page shows, as a file: for tables that are a part of a greater answer. Whole reports come from the server.
import type { Meta } from './api'

type Value = unknown

/** cell writes one value as the server's CSV does: exact, lists joined by ";", and no text that a spreadsheet takes for a formula. */
function cell(v: Value): string {
  if (v === null || v === undefined) return ''
  let text = Array.isArray(v) ? v.map((x) => (typeof x === 'object' ? JSON.stringify(x) : String(x))).join(';') : typeof v === 'object' ? JSON.stringify(v) : String(v)
  if (/^[=+\-@\t\r]/.test(text) && (text.trim() === '' || Number.isNaN(Number(text)))) text = "'" + text
  return /[",\r\n]/.test(text) ? '"' + text.replaceAll('"', '""') + '"' : text
}

const oneLine = (s: string) => s.replace(/[\r\n]+/g, ' ')

/** missing says what may be missing from the figures. */
function missing({ resolution, completeness: c, notes }: Meta): string[] {
  const lines = [`resolution ${resolution}, complete ${c.ratio ?? 'unknown'}, lost records ${c.lost_records}, not stored records ${c.dropped_records}, sampled rows ${c.sampled_rows}, ambiguous rows ${c.ambiguous_rows}`]
  if (c.uncertain_octets) lines.push(`uncertain octets ${c.uncertain_octets}`)
  for (const g of c.gaps ?? []) lines.push(`gap ${g.from} to ${g.to}: ${g.scope} ${g.who} ${g.reason}`)
  return [...lines, ...(notes ?? []).map((n) => 'note ' + n)]
}

/** csv writes rows under comment lines that say what the figures are. */
export function csv(name: string, meta: Meta | null, rows: object[]): string {
  const notes = meta ? [`crosstap ${meta.report}: ${name}, schema ${meta.schema}`, `range ${meta.since} to ${meta.until}`, ...(meta.filter ? [`filter ${meta.filter}`] : []),
    ...missing(meta)] : []
  const names = Object.keys(rows[0] ?? {})
  const lines = rows.map((r) => names.map((n) => cell((r as Record<string, Value>)[n])).join(','))
  return [...notes.map((n) => '# ' + oneLine(n)), names.join(','), ...lines].join('\n') + '\n'
}

/** save hands text to the browser as a file. */
export function save(name: string, kind: string, text: string): void {
  const address = URL.createObjectURL(new Blob([text], { type: kind }))
  Object.assign(document.createElement('a'), { href: address, download: name }).click()
  setTimeout(() => URL.revokeObjectURL(address), 1000)
}
