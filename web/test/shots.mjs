// Pictures of every page for looking at: node test/shots.mjs DIR [SERVER], where SERVER is a real one such as http://127.0.0.1:8474/
import { mkdirSync } from 'node:fs'
import { browse, open } from './lib.mjs'
import { start } from './mock.mjs'

const dir = process.argv[2] ?? 'test-results'
mkdirSync(dir, { recursive: true })
const server = await start({ upstream: process.argv[3] ?? '' })
const { context, close } = await browse()
const pages = {
  overview: '', pairs: 'tenants/pairs', conversations: 'tenants/conversations', networks: 'tenants/networks', underlay: 'tenants/underlay', overlay: 'tenants/overlay', map: 'map', explore: 'explore', vms: 'vms',
  vm: 'vm?name=' + (process.env.VM ?? 'web-blue-01'), flows: 'flows', coverage: 'coverage', irregular: 'irregular', exporters: 'exporters',
  topology: 'topology', topologytable: 'topology?as=table', inventory: 'inventory', inventorytable: 'inventory?as=table', taps: 'taps?sel=kvm-09/uplink', tapdetail: 'taps?sel=blue-db', tapselect: 'taps?v=1&step=select&q=vm%20%3D%20%22web-blue-01%22', tapdeliver: 'taps?step=deliver&name=blue-db', tapplan: 'taps?step=plan&name=blue-db', filters: 'filters?q=tcp%20dst%20port%20443', sql: 'sql?v=1&q=SELECT%20vni%20FROM%20canonical', heat: 'explore?vis=heat',
}
const only = process.env.ONLY?.split(',')
for (const theme of ['light', 'dark']) {
  for (const [size, width] of [['wide', 1440], ['900', 900], ['200', 640]]) {
    for (const [name, path] of Object.entries(pages)) {
      const file = `${name}-${theme}-${size}`
      if (only && !only.some((o) => file.includes(o))) continue
      const page = await open(context, server.url, path, { theme, width, height: width === 1440 ? 1100 : 900 })
      await page.waitForLoadState('networkidle')
      await page.waitForTimeout(300)
      await page.screenshot({ path: `${dir}/${file}.png`, fullPage: size === '200' })
      if (page.faults.length) console.log(file, page.faults)
      await page.close()
    }
  }
}
const steps = {
  details: ['tenants/pairs', async (p) => { await p.locator('section[aria-labelledby=rows] .open').nth(2).click(); await p.getByRole('heading', { name: 'The same traffic' }).waitFor() }],
  conversation: ['tenants/pairs', async (p) => { await p.locator('section[aria-labelledby=rows] .open').nth(2).click(); await p.locator('aside .open').first().click(); await p.getByRole('heading', { name: 'Flow rows' }).waitFor() }],
  menu: ['tenants/pairs', async (p) => { await p.locator('section[aria-labelledby=rows] .val[data-field=vm]').nth(2).click() }],
  completions: ['tenants/pairs?f=vni%20%3D%205001', async (p) => { await p.locator('#filter').focus(); await p.keyboard.press('End'); await p.keyboard.type(' and '); await p.locator('[role=option]').first().waitFor(); await p.keyboard.press('ArrowDown') }],
  help: ['', async (p) => { await p.keyboard.press('?') }],
  range: ['', async (p) => { await p.locator('[popovertarget=range]').click() }],
  tip: ['', async (p) => { const b = await p.locator('.u-over').boundingBox(); await p.mouse.move(b.x + b.width * 0.7, b.y + 60) }],
  twin: ['?as=table', async () => {}],
}
for (const [name, [path, act]] of Object.entries(steps)) {
  if (only && !only.some((o) => name.includes(o))) continue
  const page = await open(context, server.url, path, { theme: name === 'conversation' || name === 'help' ? 'dark' : 'light', height: 800 })
  await page.waitForLoadState('networkidle')
  await act(page)
  await page.waitForTimeout(400)
  await page.screenshot({ path: `${dir}/${name}.png` })
  await page.close()
}
await close()
server.stop()
