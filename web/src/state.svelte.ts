// What the whole console shares: the view (always equal to the URL), preferences, and the tick that reloads.
import { SvelteSet } from 'svelte/reactivity'
import { root, type Params } from './api'
import type { Zone } from './format'
import { before, firstRange } from './time'
import { decode, defaults, encode, metrics, own, type Page, type View } from './url'

export type Theme = 'system' | 'light' | 'dark'

function stored<T extends string>(name: string, allowed: readonly T[], fallback: T): T {
  try {
    return allowed.find((a) => a === localStorage.getItem('crosstap.' + name)) ?? fallback
  } catch {
    return fallback // storage is blocked: the preference lasts as long as the page
  }
}

function store(name: string, value: string): void {
  try {
    localStorage.setItem('crosstap.' + name, value)
  } catch {
    // see stored
  }
}

function here(): ReturnType<typeof decode> {
  const path = location.pathname.startsWith(root.pathname) ? location.pathname.slice(root.pathname.length) : ''
  return decode(path, location.search)
}

const first = here()

class App {
  view = $state.raw<View>(first.view)
  newer = $state(first.newer)
  /** missing is the path in the address that no page has, "" for none. */
  missing = $state(first.missing)
  now = $state(Date.now())
  tick = $state(0)
  theme = $state<Theme>(stored('theme', ['system', 'light', 'dark'], 'system'))
  zone = $state<Zone>(stored('zone', ['local', 'utc'], 'local'))
  dark = $state(false)
  help = $state(false)
  palette = $state(false)
  /** ahead is what was typed from when the palette was asked for until it was there. */
  ahead = ''
  said = $state('')
  /** reading holds who is pointed at or focused: live updates wait until it is empty. */
  reading = new SvelteSet<string>()
}

export const app = new App()

/** go changes the view and with it the URL. Another page keeps range and filter, and drops what belonged to the last one.
 * From an address that no page has, only another page leads away. */
export function go(patch: Partial<View>, how: 'push' | 'replace' = 'push'): void {
  if (app.missing && patch.page === undefined) return
  app.view = next(patch)
  app.newer = false
  app.missing = ''
  const address = root.pathname + encode(app.view)
  if (address === location.pathname + location.search) return
  if (how === 'push') history.pushState(null, '', address)
  else history.replaceState(null, '', address)
}

function next(patch: Partial<View>): View {
  const leaves = patch.page !== undefined && patch.page !== app.view.page
  const metric = metrics.find((m) => m === app.view.metric) ?? 'octets'
  return { ...app.view, ...(leaves && { ...own, metric }), ...patch }
}

/** leave goes one level up from the details; leaving them for good gives the focus back to their row. */
export function leave(sel = ''): void {
  const row = document.querySelector<HTMLElement>('main .open[aria-expanded=true]')
  go({ sel })
  if (sel === '') row?.focus()
}

/** href gives the address that go(patch) would lead to. */
export function href(patch: Partial<View>): string {
  return root.origin + root.pathname + encode(next(patch))
}

/** follow goes to a view by a link of this page, unless the browser shall open it elsewhere. */
export function follow(e: MouseEvent, patch: Partial<View>): void {
  if (e.ctrlKey || e.metaKey || e.shiftKey || e.button !== 0) return
  e.preventDefault()
  go(patch)
}

/** vmView is the page of a machine over 24 hours, up to where the range on display ends. */
export function vmView(name: string): Partial<View> {
  return { page: 'vm', name, f: '', ...before({ from: app.view.to, to: app.view.to }, 86400_000, Date.now()) }
}

/** restart is a view of one page with this range and nothing else chosen. */
export function restart(page: Page): Partial<View> {
  return { ...defaults, page, from: app.view.from, to: app.view.to, live: app.view.live }
}

export function refresh(): void {
  app.tick++
}

/** query gives the parameters that every report takes. */
export function query(more: Params = {}): Params {
  return { from: app.view.from, to: app.view.to, f: app.view.f, ...more }
}

export function setTheme(theme: Theme): void {
  app.theme = theme
  store('theme', theme)
  applyTheme()
}

export function setZone(zone: Zone): void {
  app.zone = zone
  store('zone', zone)
}

const system = matchMedia('(prefers-color-scheme: dark)')

function applyTheme(): void {
  app.dark = app.theme === 'dark' || (app.theme === 'system' && system.matches)
  document.documentElement.dataset.theme = app.dark ? 'dark' : 'light'
}

/** say tells the user, and screen readers, that something was done. */
export function say(text: string): void {
  app.said = ''
  clearTimeout(silence)
  requestAnimationFrame(() => (app.said = text))
  silence = window.setTimeout(() => (app.said = ''), 4000)
}

let silence = 0

let unranged = false

/** suggestRange fits the range to a store that is younger than it, once, when the link named none. */
export function suggestRange(dataFrom: string | null): void {
  if (!unranged || !dataFrom) return
  unranged = false
  const range = firstRange(Date.parse(dataFrom), Date.now())
  if (app.view.from === defaults.from && app.view.to === defaults.to && range.from !== defaults.from && Date.parse(dataFrom) > Date.now() - 3600_000) go(range, 'replace')
}

/** start listens to the browser: history, colour scheme, and a clock of one second. */
export function start(): void {
  applyTheme()
  system.addEventListener('change', applyTheme)
  addEventListener('popstate', () => {
    const h = here()
    app.view = h.view
    app.newer = h.newer
    app.missing = h.missing
  })
  unranged = !/[?&](from|since)=/.test(location.search)
  if (!app.missing) history.replaceState(null, '', root.pathname + encode(app.view))
  setInterval(() => (app.now = Date.now()), 1000)
}
