// What the browser tests share: a Chromium of its own, pages with their books kept, and small assertions.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { chromium } from 'playwright-core'

/** patience is how many milliseconds anything may take: a busy machine is slow, and not wrong. */
const patience = Number(process.env.PATIENCE ?? 60) * 1000

const flags = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync']

/** browse starts Chromium with a fresh profile; close removes it. */
export async function browse() {
  const profile = mkdtempSync(join(tmpdir(), 'crosstap-web-'))
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: flags, viewport: { width: 1280, height: 900 }, locale: 'en-GB', timezoneId: 'Europe/Berlin', permissions: ['clipboard-read', 'clipboard-write'], timeout: 120_000,
  })
  return { context, close: async () => (await context.close(), rmSync(profile, { recursive: true, force: true, maxRetries: 40, retryDelay: 250 })) }
}

/** open loads a page and notes what must never happen: a request to another origin, a refused resource, an error. */
export async function open(context, base, path, { theme = 'light', width = 1280, height = 900 } = {}) {
  const page = await context.newPage()
  page.setDefaultTimeout(patience)
  const faults = []
  const origin = new URL(base).origin
  page.on('request', (r) => !r.url().startsWith(origin) && !r.url().startsWith('blob:') && faults.push('foreign request ' + r.url()))
  page.on('pageerror', (e) => faults.push('error ' + e.stack))
  page.on('console', (m) => m.type() === 'error' && !/Failed to load resource/.test(m.text()) && faults.push('console ' + m.text()))
  await page.addInitScript(() => document.addEventListener('securitypolicyviolation', (e) => console.error('policy', e.violatedDirective, e.blockedURI)))
  await page.emulateMedia({ colorScheme: theme, reducedMotion: 'reduce' }) // what moves has other colours at other times
  await page.setViewportSize({ width, height })
  await page.goto(base + path)
  page.faults = faults
  return page
}

export function assert(ok, what) {
  if (!ok) throw new Error(what)
}

export function equal(got, want, what) {
  const [g, w] = [JSON.stringify(got), JSON.stringify(want)]
  if (g !== w) throw new Error(`${what}: got ${g}, want ${w}`)
}

/** until waits for a condition, with its name in the error. */
export async function until(what, condition, ms = patience) {
  const end = Date.now() + ms
  for (;;) {
    if (await condition()) return
    if (Date.now() > end) throw new Error('never happened: ' + what)
    await new Promise((r) => setTimeout(r, 50))
  }
}
