// Pictures of every page for looking at: node test/shots.mjs DIR [BASE]
import { mkdirSync } from 'node:fs'
import { browse, open } from './lib.mjs'
import { start } from './mock.mjs'

const dir = process.argv[2] ?? 'test-results'
mkdirSync(dir, { recursive: true })
const server = process.argv[3] ? { url: process.argv[3], stop() {} } : await start()
const { context, close } = await browse()
const pages = { overview: '', pairs: 'tenants/pairs', conversations: 'tenants/conversations', flows: 'flows', exporters: 'exporters' }
const only = process.env.ONLY?.split(',')
for (const theme of ['light', 'dark']) {
  for (const [size, width] of [['wide', 1600], ['1280', 1280], ['200', 640]]) {
    for (const [name, path] of Object.entries(pages)) {
      const file = `${name}-${theme}-${size}`
      if (only && !only.some((o) => file.includes(o))) continue
      const page = await open(context, server.url, path, { theme, width, height: width === 1600 ? 1100 : 800 })
      await page.waitForLoadState('networkidle')
      await page.waitForTimeout(300)
      await page.screenshot({ path: `${dir}/${file}.png`, fullPage: size === '200' })
      if (page.faults.length) console.log(file, page.faults)
      await page.close()
    }
  }
}
await close()
server.stop()
