// The same question elsewhere: as a link, on the command line, with curl, as a file.
import { root, url, type Params } from './api'
import { relativeSpan, spanText } from './time'
import { defaults, type Page, type View } from './url'

/** reportOf names the report that a page's rows come from. */
export function reportOf(page: Page): 'pairs' | 'conversations' | 'flows' | 'exporters' {
  const reports = { overview: 'pairs', 'tenants/pairs': 'pairs', 'tenants/conversations': 'conversations', flows: 'flows', exporters: 'exporters' } as const
  return reports[page]
}

/** rowsQuery gives the parameters of a page's rows, as the page itself asks for them. */
export function rowsQuery(v: View): Params {
  if (v.page === 'exporters') return {}
  return { from: v.from, to: v.to, f: v.f, sort: v.page === 'overview' ? '' : v.sort }
}

/** exportURL gives the address of all of a page's rows as a file. */
export function exportURL(v: View, format: 'csv' | 'json' | 'jsonl'): string {
  return url(reportOf(v.page), { ...rowsQuery(v), ...(v.page !== 'exporters' && { limit: 100_000 }), format })
}

/** shell quotes a word for sh where it needs to be. */
export function shell(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : "'" + word.replaceAll("'", `'\\''`) + "'"
}

export function curl(v: View): string {
  return 'curl -fsS ' + shell(url(reportOf(v.page), rowsQuery(v)))
}

/** cli writes the command that shows the same rows. */
export function cli(v: View): string {
  const server = root.origin === 'http://127.0.0.1:8474' && root.pathname === '/' ? [] : ['--server', root.href.replace(/\/$/, '')]
  if (v.page === 'exporters') return ['crosstap', 'status', ...server].map(shell).join(' ')
  const span = relativeSpan(v)
  const range = v.from === defaults.from && v.to === defaults.to ? [] : span > 0 ? ['--since', spanText(span)] : ['--since', v.from, '--until', v.to]
  const sort = v.sort && v.page !== 'overview' ? ['--sort=' + v.sort] : []
  return ['crosstap', reportOf(v.page), ...server, ...range, ...sort, ...(v.f ? ['--', v.f] : [])].map(shell).join(' ')
}

/** copy puts text on the clipboard and says whether that worked. Pages from plain http beyond loopback have no
 * clipboard object; there the old command helps. */
export async function copy(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text)
    return true
  } catch {
    const area = Object.assign(document.createElement('textarea'), { value: text })
    document.body.append(area)
    area.select()
    const done = document.execCommand('copy')
    area.remove()
    return done
  }
}
