// Rows that a page shows, as a file: for tables that are a part of a greater answer. Whole reports come from the server.
import type { Meta } from './api'

type Value = unknown

/** cell writes one value as the server's CSV does: exact, lists joined by ";". */
function cell(v: Value): string {
  if (v === null || v === undefined) return ''
  const text = Array.isArray(v) ? v.map((x) => (typeof x === 'object' ? JSON.stringify(x) : String(x))).join(';') : typeof v === 'object' ? JSON.stringify(v) : String(v)
  return /[",\r\n]/.test(text) ? '"' + text.replaceAll('"', '""') + '"' : text
}

const oneLine = (s: string) => s.replace(/[\r\n]+/g, ' ')

/** csv writes rows under comment lines that say what the figures are. */
export function csv(name: string, meta: Meta | null, rows: object[]): string {
  const notes = meta ? [`crosstap ${meta.report}: ${name}, schema ${meta.schema}`, `range ${meta.since} to ${meta.until}`, ...(meta.filter ? [`filter ${meta.filter}`] : []),
    `resolution ${meta.resolution}, complete ${meta.completeness.ratio ?? 'unknown'}, lost records ${meta.completeness.lost_records}, sampled rows ${meta.completeness.sampled_rows}`] : []
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
