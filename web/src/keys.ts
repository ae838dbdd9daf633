// The keyboard map. Keys do nothing while somebody types.
import { clause, replaceClause } from './filter'
import { m } from './messages'
import { app, go, href, leave, refresh, say, setTheme, setZone } from './state.svelte'
import { copy } from './share'
import { scale, shift } from './time'
import type { Page } from './url'

const pagesByKey: Record<string, Page> = { o: 'overview', t: 'tenants/pairs', c: 'tenants/conversations', n: 'tenants/networks', m: 'map', e: 'explore', v: 'vms', f: 'flows', b: 'coverage', r: 'irregular', x: 'exporters', p: 'topology', i: 'inventory', a: 'taps', k: 'filters', q: 'sql' }
let going = 0 // until when the key after "g" names a page

const acts: Record<string, () => void> = {
  '/': () => focus('filter'),
  '?': () => (app.help = !app.help),
  '[': () => go(shift(app.view, -1, Date.now())),
  ']': () => app.view.to !== 'now' && go(shift(app.view, 1, Date.now())),
  '-': () => go(scale(app.view, 2, Date.now())),
  '=': () => go(scale(app.view, 0.5, Date.now())),
  l: () => go({ live: !app.view.live }, 'replace'),
  r: refresh,
  t: () => go({ as: app.view.as === 'chart' ? 'table' : 'chart' }, 'replace'),
  d: () => setTheme(app.dark ? 'light' : 'dark'),
  u: () => setZone(app.zone === 'utc' ? 'local' : 'utc'),
  e: () => document.querySelector<HTMLElement>('[popovertarget=export]')?.click(),
  y: () => void copy(href({})).then((done) => say(done ? m.share.linkDone : m.share.failed)),
  j: firstRow,
  k: firstRow,
  i: () => value(false),
  x: () => value(true),
  Escape: () => app.view.sel && back(),
}

export function pressed(e: KeyboardEvent): void {
  const at = e.target as HTMLElement
  if ((e.ctrlKey || e.metaKey) && !e.altKey && !e.shiftKey && e.key === 'k' && !document.querySelector('dialog[open]')) {
    app.palette = true
    e.preventDefault()
    return
  }
  if (e.ctrlKey || e.metaKey || e.altKey || e.defaultPrevented) return
  if (app.palette && !document.querySelector('dialog[open]')) { // it is still being loaded: these letters are for it
    if (e.key === 'Escape') app.palette = false
    else if (e.key === 'Backspace') app.ahead = app.ahead.slice(0, -1)
    else if (e.key.length === 1) app.ahead += e.key
    else return
    e.preventDefault()
    return
  }
  if (at.closest('input, textarea, select, [contenteditable], dialog')) return
  if (at.closest('[popover]') && e.key !== 'i' && e.key !== 'x') return
  if (e.key !== 'Escape' && performance.now() < going && pagesByKey[e.key]) {
    going = 0
    go({ page: pagesByKey[e.key]!, sel: '' })
  } else if (e.key === 'g') {
    going = performance.now() + 1500
  } else if (acts[e.key]) {
    acts[e.key]!()
  } else return
  e.preventDefault()
}

function focus(id: string): void {
  document.getElementById(id)?.focus()
}

function firstRow(): void {
  (document.querySelector<HTMLElement>('main table .open') ?? document.querySelector<HTMLElement>('main table .val[tabindex="0"]'))?.focus()
}

/** value filters by the focused or pointed-at value, or the one whose menu is open. */
function value(not: boolean): void {
  const v = document.querySelector<HTMLElement>('.val:focus, .val:hover')
  const { field, value } = v?.dataset ?? {}
  if (field === undefined || value === undefined) {
    document.querySelectorAll<HTMLElement>('[role=menu]:popover-open [role=menuitem]')[not ? 1 : 0]?.click()
    return
  }
  const [yes, no] = [clause(field, value), clause(field, value, true)]
  go({ f: not ? replaceClause(app.view.f, no, yes) : replaceClause(app.view.f, yes, no), sel: '' })
}

function back(): void {
  leave(app.view.sel.split('>').slice(0, -1).join('>'))
}
