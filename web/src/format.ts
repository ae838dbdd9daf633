// Numbers and times as people read them, through Intl. Machines get theirs from the API.

const locale = 'en-GB'
const whole = new Intl.NumberFormat(locale, { maximumFractionDigits: 0 })

/** digits3 gives three significant digits below 1000, as the command line does. */
function digits3(n: number): string {
  const decimals = n >= 99.95 || n === 0 ? 0 : n >= 9.995 ? 1 : 2
  return n.toLocaleString(locale, { minimumFractionDigits: decimals, maximumFractionDigits: decimals })
}

function si(n: number, unit: string, prefixes: string[]): string {
  let v = Math.abs(n)
  let i = 0
  while (v >= 999.5 && i < prefixes.length - 1) {
    v /= 1000
    i++
  }
  const text = i === 0 && (Number.isInteger(v) || v >= 10) ? whole.format(v) : digits3(v)
  return (n < 0 ? '−' : '') + text + '\u202f' + prefixes[i] + unit
}

export function count(n: number): string {
  return whole.format(n)
}

export function bytes(n: number): string {
  return si(n, 'B', ['', 'k', 'M', 'G', 'T', 'P', 'E'])
}

/** rate writes a value in one of the units of a series: bit/s, packet/s, flow/s. */
export function rate(n: number, unit: string): string {
  const short: Record<string, string> = { 'bit/s': 'b/s', 'packet/s': 'p/s', 'flow/s': 'f/s' }
  return si(n, short[unit] ?? unit, ['', 'k', 'M', 'G', 'T', 'P'])
}

/** percent writes a ratio; what rounds to 100 or 0 without being it says so. */
export function percent(ratio: number): string {
  const p = ratio * 100
  if (p > 0 && p < 0.01) return '<\u202f0.01\u202f%'
  if (p < 100 && p > 99.99) return '>\u202f99.99\u202f%'
  const decimals = p === 0 || p === 100 ? 0 : p < 10 || p > 99.95 ? 2 : 1
  return p.toLocaleString(locale, { minimumFractionDigits: decimals, maximumFractionDigits: decimals }) + '\u202f%'
}

/** within writes a part that is known within bounds. */
export function within(least: number, most: number): string {
  const [low, high] = [percent(least), percent(most)]
  return low === high ? low : `${low} to ${high}`
}

/** plainReason is why a share is unknown, beside a word that says so already. */
export const plainReason = (text: string): string => text.replace(/^unknown: /, '')

/** signed writes a difference with its sign: "−1.2 kB", "+3 B", "0 B". */
export function signed(n: number, write: (n: number) => string): string {
  return n > 0 ? '+' + write(n) : write(n)
}

export type Zone = 'local' | 'utc'

const cache = new Map<string, Intl.DateTimeFormat>()

function formatter(zone: Zone, options: Intl.DateTimeFormatOptions): Intl.DateTimeFormat {
  const key = zone + JSON.stringify(options)
  let f = cache.get(key)
  if (!f) {
    f = new Intl.DateTimeFormat(locale, { hourCycle: 'h23', ...(zone === 'utc' && { timeZone: 'UTC' }), ...options })
    cache.set(key, f)
  }
  return f
}

export function clock(ms: number, zone: Zone, seconds = true): string {
  return formatter(zone, { hour: '2-digit', minute: '2-digit', ...(seconds && { second: '2-digit' }) }).format(ms)
}

export function day(ms: number, zone: Zone): string {
  return formatter(zone, { day: '2-digit', month: 'short', year: 'numeric' }).format(ms)
}

export function stamp(ms: number, zone: Zone): string {
  return `${day(ms, zone)}, ${clock(ms, zone)}`
}

/** both writes an instant in the chosen zone and in the other one. */
export function both(ms: number, zone: Zone): string {
  const name = zoneName('local')
  const local = `${stamp(ms, 'local')} ${name}`
  const utc = `${stamp(ms, 'utc')} UTC`
  return name === 'UTC' ? utc : zone === 'utc' ? `${utc} (${local})` : `${local} (${utc})`
}

export function zoneName(zone: Zone): string {
  return zone === 'utc' ? 'UTC' : Intl.DateTimeFormat().resolvedOptions().timeZone
}

/** duration writes milliseconds with the two greatest units: "850 ms", "12 s", "3 min 20 s", "2 d 4 h". */
export function duration(ms: number): string {
  if (ms < 1000) return `${Math.max(0, Math.round(ms))} ms`
  const parts: [number, string][] = [[86400, 'd'], [3600, 'h'], [60, 'min'], [1, 's']]
  let rest = Math.round(ms / 1000)
  const out: string[] = []
  for (const [size, unit] of parts) {
    const n = Math.floor(rest / size)
    rest -= n * size
    if (n > 0) out.push(`${n} ${unit}`)
    else if (out.length) break
  }
  return out.slice(0, 2).join(' ')
}

/** cut divides a long name into what may be shortened, its end, and its domain: names of one site often begin alike. */
export function cut(name: string): [head: string, tail: string, domain: string] {
  const dot = /^[^\s.:/]*[^\s.:/\d][^\s.:/]*(\.[^\s.:/]+){2,}$/.test(name) ? name.indexOf('.') : name.length
  const tail = dot > TAIL + 4 ? dot - TAIL : 0
  return [name.slice(0, tail), name.slice(tail, dot), name.slice(dot)]
}

const TAIL = 9

/** shortened cuts a label to what a box holds: the domain of a name first, then the middle, as names of one site differ at their ends. */
export function shortened(text: string, letters = 24): string {
  const most = Math.max(4, Math.floor(letters))
  if (text.length <= most) return text
  const [head, tail, domain] = cut(text)
  const name = head + tail
  if (domain && name.length < most) return name + '…'
  const end = Math.floor((most - 1) / 2)
  return name.slice(0, most - 1 - end) + '…' + (end ? name.slice(-end) : '')
}
