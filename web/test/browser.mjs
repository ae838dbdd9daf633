// Browser tests against the mock server: npm run test:browser [NAME…]. They need Chromium (CHROMIUM=/path names
// another one) and a built dist.
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { assert, browse, equal, open, until } from './lib.mjs'
import { start } from './mock.mjs'

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')
const paths = [
  '', 'tenants/pairs', 'tenants/conversations', 'tenants/networks', 'tenants/underlay', 'map', 'map?base=1d&as=table', 'explore?by=src.vm,app&prev=1', 'vms', 'vm?name=web-blue-01', 'vm?name=web-blue-01&as=table', 'flows', 'coverage', 'irregular', 'irregular?by=beacon', 'exporters',
  'topology', 'topology?as=table', 'inventory', 'inventory?as=table', 'taps?sel=blue-db', 'taps?v=1&step=select&q=vm%20%3D%20%22web-blue-01%22', 'taps?step=plan&name=blue-db', 'filters?q=inner%20tcp%20port%205432', 'sql?v=1&q=SELECT%20vni%20FROM%20canonical', 'explore?vis=heat',
]
const server = await start({ prefix: '/some/prefix/' })
const { context, close } = await browse()
const tests = []
const test = (name, run) => tests.push({ name, run })

async function scene(scenario, more = {}) {
  await fetch(server.url + '_mock', { method: 'POST', body: JSON.stringify({ scenario, bump: 0, requests: [], few: false, many: false, hold: null, control: null, ...more }) })
}

const visit = (path, options) => open(context, server.url, path, options)
const rows = (page) => page.locator('section[aria-labelledby=rows] tbody tr:not(.space)')
const ready = (page) => until('rows are shown', async () => (await rows(page).count()) > 0)
const search = (page) => new URL(page.url()).searchParams

async function serious(page) {
  if (!(await page.evaluate(() => 'axe' in globalThis))) await page.evaluate(axe)
  const found = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ['violations'] }))
  return found.violations.filter((v) => ['serious', 'critical'].includes(v.impact)).map((v) => `${v.id}: ${v.nodes.slice(0, 3).map((n) => n.target.join(' ') + ' ' + (n.any[0]?.message ?? '')).join(' | ')}`)
}

for (const theme of ['light', 'dark']) {
  for (const path of paths) {
    test(`axe ${theme} /${path} at 1280 px${theme === 'light' ? ' and at 200 %' : ''}`, async () => {
      const page = await visit(path, { theme })
      await page.waitForLoadState('networkidle')
      equal(await page.evaluate(() => document.documentElement.dataset.theme), theme, 'theme')
      for (const width of theme === 'light' ? [1280, 640] : [1280]) { // the layout is the same in both
        await page.setViewportSize({ width, height: width === 1280 ? 900 : 450 })
        await page.evaluate(() => new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(() => requestAnimationFrame(drawn))))) // what is measured is measured anew
        equal(await serious(page), [], 'axe at ' + width)
        const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)
        assert(wide <= 0, `the page is ${wide} px wider than a window of ${width}`)
      }
      return page
    })
  }
}

test('axe with details, menu, help, gaps and completions open', async () => {
  const page = await visit('tenants/pairs')
  await ready(page)
  const check = async (what) => equal(await serious(page), [], what)
  await page.keyboard.press('?')
  await page.locator('dialog[open]').waitFor()
  await check('help')
  await page.keyboard.press('Escape')
  await page.locator('[popovertarget=gaps]').click()
  await check('gaps')
  await page.keyboard.press('Escape')
  await page.locator('[popovertarget=range]').click()
  await check('time range')
  await page.keyboard.press('Escape')
  await page.locator('#filter').pressSequentially('ten')
  await page.locator('[role=option]').first().waitFor()
  await check('completions')
  await page.keyboard.press('Escape')
  await page.keyboard.press('Escape')
  await rows(page).first().locator('.open').click()
  await page.getByRole('heading', { name: 'The same traffic' }).waitFor()
  await page.waitForLoadState('networkidle')
  await check('details')
  await page.locator('aside .val').first().click()
  await page.locator('[role=menu]:popover-open').waitFor()
  await check('menu')
  return page
})

test('sorting asks the server and says so', async () => {
  const page = await visit('tenants/pairs')
  await ready(page)
  const header = page.locator('section[aria-labelledby=rows] th', { hasText: 'Packets' })
  equal(await header.getAttribute('aria-sort'), 'none', 'before')
  await header.getByRole('button').click()
  await until('descending', async () => (await header.getAttribute('aria-sort')) === 'descending')
  equal(search(page).get('sort'), '-packets', 'URL')
  await header.getByRole('button').click()
  await until('ascending', async () => (await header.getAttribute('aria-sort')) === 'ascending')
  await until('least first', async () => Number((await rows(page).first().locator('td').nth(11).innerText()).replace(/\D/g, '')) < 100)
  return page
})

test('clicking a value filters everything by it, and by its opposite', async () => {
  const page = await visit('tenants/pairs')
  await ready(page)
  await rows(page).first().locator('.val[data-field=tenant]').click()
  await page.getByRole('menuitem', { name: 'Only this' }).click()
  await until('filtered', async () => /tenant = "\w+"/.test(search(page).get('f') ?? ''))
  const tenant = /"(\w+)"/.exec(search(page).get('f'))[1]
  equal(await page.locator('#filter').inputValue(), `tenant = "${tenant}"`, 'field')
  await until('rows of one tenant', async () => new Set(await page.locator('section[aria-labelledby=rows] .val[data-field=tenant]').allInnerTexts()).size === 1)
  await until('tiles too', async () => (await page.locator('.tiles').innerText()).includes('1 tenant'))
  await rows(page).first().locator('.val[data-field=vm]').first().focus()
  await page.keyboard.press('x')
  await until('second clause', () => / and vm != "/.test(search(page).get('f')))
  await page.goBack()
  await until('back', () => search(page).get('f') === `tenant = "${tenant}"`)
  await rows(page).first().locator('.val[data-field=tenant]').focus()
  await page.keyboard.press('x')
  await until('the opposite replaces it', () => search(page).get('f') === `tenant != "${tenant}"`)
  return page
})

test('a URL is the whole view', async () => {
  const link = 'tenants/conversations?v=1&from=now-3h&to=now&f=vni%20%3D%205001&by=app&metric=packets&sort=-packets&as=table'
  const page = await visit(link)
  await ready(page)
  equal(page.url(), server.url + link, 'URL after loading')
  equal(await page.locator('#filter').inputValue(), 'vni = 5001', 'filter')
  equal(await page.locator('[popovertarget=range]').textContent(), 'Time range: last 3 h', 'range')
  assert(await page.locator('section[aria-labelledby=traffic] table').isVisible(), 'the table twin is shown')
  for (const column of ['Min', 'Max', 'Average', 'p95', 'Last', 'Total']) assert(await page.getByRole('columnheader', { name: column, exact: true }).first().isVisible(), column)
  const old = await visit('pairs?since=now-15m&filter=tenant+%3D+"blue"&sort=-bytes')
  await ready(old)
  equal(old.url(), server.url + 'tenants/pairs?v=1&from=now-15m&to=now&f=tenant%20%3D%20%22blue%22&sort=-octets', 'a link of version 0')
  await old.close()
  return page
})

test('drill down: pair, its conversation, its rows at each observer, and back', async () => {
  const page = await visit('tenants/pairs')
  await ready(page)
  await page.keyboard.press('j')
  await page.keyboard.press('j')
  await page.keyboard.press('Enter')
  const panel = page.locator('aside')
  await panel.getByRole('heading', { name: 'The same traffic' }).waitFor()
  await until('focus in the panel', () => page.evaluate(() => document.activeElement?.id === 'details'))
  assert(search(page).get('sel').startsWith('vxlan:'), 'the selection is in the URL')
  await until('observers differ', async () => /−|equal/.test(await panel.innerText()))
  const reloaded = await visit(page.url().slice(server.url.length))
  await reloaded.getByRole('heading', { name: 'The same traffic' }).waitFor()
  await reloaded.close()
  await panel.locator('.open').first().click()
  await panel.getByRole('heading', { name: 'Flow rows' }).waitFor()
  await until('rows of observers', async () => (await panel.locator('tbody tr').count()) > 4)
  assert(/,(tcp|udp),\d+,\d+$/.test(search(page).get('sel')), 'the conversation is in the URL')
  await page.keyboard.press('Escape')
  await until('back at the pair', () => !search(page).get('sel').includes('>'))
  await page.keyboard.press('Escape')
  await until('closed', async () => (await panel.count()) === 0)
  await until('the focus is at the row again', () => page.evaluate(() => document.activeElement?.closest('tr')?.dataset.index === '1'))
  return page
})

test('from a pair to its conversations and rows', async () => {
  const page = await visit('tenants/pairs')
  await ready(page)
  await rows(page).nth(2).locator('.open').click()
  await page.getByRole('button', { name: 'All its conversations' }).click()
  await until('conversations', () => page.url().includes('tenants/conversations'))
  await until('few rows', async () => (await rows(page).count()) > 0 && (await rows(page).count()) < 8)
  await page.goBack()
  await page.getByRole('button', { name: 'Its flow rows' }).click()
  await until('flow rows', () => page.url().includes('/flows'))
  await ready(page)
  await rows(page).first().locator('.open').click()
  await page.locator('aside').getByText('flow_id').waitFor()
  return page
})

for (const [cause, title, button] of [
  ['no_exporter', 'No exporter has ever sent', 'Show the exporters'], ['exporter_silent', 'The exporters are silent', 'Show the exporters'], ['template_missing', 'Records wait for their template', 'Show the exporters'],
  ['no_underlay', 'Nobody observes the underlay', 'Show the exporters'], ['before_first_data', 'The range ends before the first data', 'Go to the first data'], ['not_yet_stored', 'Not stored yet', 'Ask again'],
]) {
  test('empty: ' + cause, async () => {
    await scene('empty:' + cause)
    const page = await visit('')
    const notice = page.locator('.notice')
    await notice.getByText(title).waitFor()
    equal(await notice.getByRole('button').allInnerTexts(), [button], 'one way out')
    equal(await serious(page), [], 'axe')
    await notice.getByRole('button').click()
    return page
  })
}

test('empty: the filter excludes all, and clearing it helps', async () => {
  const page = await visit('tenants/pairs?v=1&f=vni%20%3D%201')
  await page.locator('section[aria-labelledby=rows] .notice').getByRole('button', { name: 'Clear the filter' }).click()
  await ready(page)
  equal(search(page).get('f'), null, 'filter')
  return page
})

test('errors say what to try, and the last answer stays', async () => {
  const page = await visit('tenants/pairs')
  await ready(page)
  await scene('error')
  await page.keyboard.press('r')
  await page.locator('section[aria-labelledby=rows] [role=alert]').getByText('input/output error').waitFor()
  assert((await rows(page).count()) > 0, 'the older rows stay')
  equal(await serious(page), [], 'axe')
  await scene('timeout')
  await page.keyboard.press('r')
  await page.locator('section[aria-labelledby=rows] [role=alert]').getByText('shorter range').first().waitFor()
  await scene('offline')
  await page.keyboard.press('r')
  await page.locator('section[aria-labelledby=rows] [role=alert]').getByText('does not answer').waitFor()
  await scene('normal')
  await page.locator('section[aria-labelledby=rows] [role=alert]').getByRole('button', { name: 'Try again' }).click()
  await until('well again', async () => (await page.locator('[role=alert]').count()) === 0)
  for (const away of ['offline', 'busy']) {
    await scene(away)
    await page.keyboard.press('r')
    await page.locator('section[aria-labelledby=rows] [role=alert]').waitFor()
    await scene('normal')
    await until('asked again by itself after ' + away, async () => (await page.locator('[role=alert]').count()) === 0)
  }
  return page
})

test('loading is said', async () => {
  await scene('slow')
  const page = await visit('tenants/pairs')
  await page.getByText('Loading…').first().waitFor()
  equal(await serious(page), [], 'axe')
  await scene('normal')
  await ready(page)
  return page
})

test('a server that never answers is given up, and asked again', async () => {
  const page = await visit('')
  await page.locator('.tiles').waitFor()
  await scene('slow')
  await page.clock.install()
  for (const path of ['coverage', 'topology', 'inventory', 'tenants/pairs']) {
    await page.goto(server.url + path)
    const panel = page.locator('section[aria-labelledby=rows]')
    await panel.getByText('Loading…').first().waitFor()
    await page.clock.runFor(7000)
    await panel.getByText(/for \d+ s; after 60 s/).first().waitFor()
    await page.clock.runFor(60_000)
    await page.getByRole('alert').getByText('No answer came within 60 s').first().waitFor()
    equal(await serious(page), [], 'axe of ' + path)
  }
  await scene('normal')
  await page.getByRole('button', { name: 'Try again' }).first().click()
  await ready(page)
  return page
})

test('a mistake in the filter: place, suggestion, fix', async () => {
  const page = await visit('tenants/pairs')
  await ready(page)
  const field = page.locator('#filter')
  await field.fill('vni = 5001 and tenent = "blue"')
  await page.locator('#fault').getByText('column 16: unknown field').waitFor()
  equal(await page.locator('.paint .wrong').innerText(), 'tenent', 'underlined')
  equal(await field.getAttribute('aria-invalid'), 'true', 'aria-invalid')
  await page.locator('#fault').getByRole('button').click()
  await until('fixed', async () => (await field.inputValue()) === 'vni = 5001 and tenant = "blue"')
  await field.press('Escape')
  await field.fill('nonsense')
  await field.press('Control+Enter')
  await field.press('Enter')
  await page.locator('section[aria-labelledby=rows] [role=alert]').getByText('The filter has a mistake').waitFor()
  return page
})

test('completions by keyboard', async () => {
  const page = await visit('tenants/pairs')
  await ready(page)
  await page.keyboard.press('/')
  await page.keyboard.type('ten')
  await page.locator('[role=option]').first().waitFor()
  const field = page.locator('#filter')
  equal(await field.getAttribute('aria-expanded'), 'true', 'expanded')
  await page.keyboard.press('ArrowDown')
  equal(await field.getAttribute('aria-activedescendant'), 'completion-0', 'active')
  await page.keyboard.press('Enter')
  equal(await field.inputValue(), 'tenant ', 'field accepted')
  await page.locator('[role=option]', { hasText: 'operator' }).first().waitFor()
  await page.keyboard.press('ArrowDown')
  await page.keyboard.press('Tab')
  await page.locator('[role=option]', { hasText: '"blue"' }).click()
  equal(await field.inputValue(), 'tenant = "blue" ', 'value accepted')
  await page.locator('[role=option]', { hasText: 'either end' }).first().waitFor()
  await page.keyboard.press('Escape')
  await page.keyboard.press('Enter')
  await until('run', () => search(page).get('f') === 'tenant = "blue"')
  return page
})

test('a long table draws what one looks at', async () => {
  const page = await visit('tenants/pairs')
  await ready(page)
  const drawn = await rows(page).count()
  assert(drawn < 90, `${drawn} rows in the document`)
  equal(await page.locator('section[aria-labelledby=rows] table').getAttribute('aria-rowcount'), '1001', 'aria-rowcount')
  await page.keyboard.press('j')
  await page.keyboard.press('End')
  await until('the last row has the focus', () => page.evaluate(() => document.activeElement?.closest('tr')?.dataset.index === '999'))
  await page.keyboard.press('k')
  await until('the one before', () => page.evaluate(() => document.activeElement?.closest('tr')?.dataset.index === '998'))
  await page.keyboard.press('Home')
  await until('the first', () => page.evaluate(() => document.activeElement?.closest('tr')?.dataset.index === '0'))
  await page.keyboard.press('ArrowRight')
  await until('its first value', () => page.evaluate(() => document.activeElement?.dataset.field === 'segment'))
  return page
})

test('the chart: unit, split, zoom by dragging, gaps', async () => {
  const page = await visit('')
  const plot = page.locator('.u-over')
  await plot.waitFor()
  await page.waitForLoadState('networkidle') // nothing moves any more
  const box = await plot.boundingBox()
  await page.mouse.move(box.x + box.width * 0.5, box.y + 40)
  await page.locator('.tip').getByText('b/s').first().waitFor()
  await page.mouse.down()
  await page.mouse.move(box.x + box.width * 0.75, box.y + 40, { steps: 4 })
  await page.mouse.up()
  await until('zoomed', () => /Z$/.test(search(page).get('from')))
  const span = Date.parse(search(page).get('to')) - Date.parse(search(page).get('from'))
  assert(Math.abs(span - 900_000) < 60_000, `a quarter of an hour, got ${span} ms`)
  await page.getByRole('button', { name: 'packet/s' }).click()
  await page.locator('.legend').getByText('p/s').first().waitFor()
  await page.locator('section[aria-labelledby=traffic] select').selectOption('app')
  await page.locator('.legend').getByText('postgres').waitFor()
  await page.locator('[popovertarget=gaps]').click()
  await page.locator('#gaps').getByText('sequence numbers jumped').waitFor()
  return page
})

test('a missing chunk leaves the table', async () => {
  const page = await context.newPage()
  await page.route(/assets\/(chart|sankey)-.*\.js/, (r) => r.abort())
  await page.goto(server.url)
  await page.locator('section[aria-labelledby=traffic] table').waitFor()
  await page.locator('section[aria-labelledby=sankey] table').waitFor()
  page.faults = []
  return page
})

test('an address that no page has is said, and stays until one goes elsewhere', async () => {
  const page = await visit('nowhere/at-all?x=1')
  const said = page.getByRole('alert')
  await said.getByText('nowhere/at-all').waitFor()
  equal(page.url(), server.url + 'nowhere/at-all?x=1', 'address')
  equal(await page.locator('.tiles, nav [aria-current]').count(), 0, 'nothing else is claimed')
  equal(await serious(page), [], 'axe')
  await page.keyboard.press(']') // changes the range of a page; there is none
  equal(page.url(), server.url + 'nowhere/at-all?x=1', 'address after a key')
  await said.getByRole('link').click()
  await page.locator('.tiles').waitFor()
  await page.goBack()
  await said.waitFor()
  return page
})

test('an error that is over is no alarm', async () => {
  const page = await visit('taps?sel=kvm-09/uplink')
  const past = page.getByText(/over since .*no space left on device/)
  await past.first().waitFor()
  const colours = await past.first().evaluate((e) => [getComputedStyle(e).color, getComputedStyle(document.documentElement).getPropertyValue('--bad')])
  assert(!colours[0].includes('179, 32, 44'), 'not red: ' + colours)
  return page
})

test('series that share a colour differ in stripes, and scrolling tables have names of their own', async () => {
  await scene('normal', { many: true })
  const page = await visit('explore?by=src.vm,app')
  await page.locator('.legend .key').nth(7).waitFor()
  const looks = await page.locator('.legend .key').evaluateAll((all) => all.map((k) => k.dataset.slot + '/' + k.dataset.round + '/' + getComputedStyle(k).backgroundColor + getComputedStyle(k).backgroundImage))
  equal(new Set(looks).size, looks.length, 'looks of ' + looks.length)
  await scene('normal')
  await page.evaluate(axe)
  const twice = await page.evaluate(async () => (await globalThis.axe.run(document, { runOnly: ['landmark-unique'] })).violations.flatMap((v) => v.nodes.map((n) => n.html.slice(0, 120))))
  equal(twice, [], 'landmarks of one name')
  return page
})

test('the Sankey filters and has a table', async () => {
  const page = await visit('')
  const node = page.locator('section[aria-labelledby=sankey] g[role=button]', { hasText: 'VNI 5002' }).first()
  await node.waitFor()
  await node.focus()
  await page.keyboard.press('Enter')
  await page.getByRole('menuitem', { name: 'Only this' }).click()
  await until('filtered', () => search(page).get('f') === 'segment = "vxlan:5002"')
  await page.locator('section[aria-labelledby=sankey]').getByRole('button', { name: 'Table' }).click()
  await page.locator('section[aria-labelledby=sankey] tbody tr').first().waitFor()
  return page
})

test('live: figures follow, reading pauses them', async () => {
  const page = await visit('tenants/pairs?v=1&live=1')
  await ready(page)
  await page.mouse.move(5, 5)
  const asked = () => server.state.requests.filter((r) => r.includes('/pairs?')).length
  await until('it asks again', () => asked() >= 3)
  await rows(page).nth(3).hover()
  await page.locator('.pill').waitFor()
  const held = asked()
  await page.waitForTimeout(2200)
  assert(asked() - held <= 1, 'no question while somebody reads')
  await page.mouse.move(5, 5)
  await until('it goes on', () => asked() > held)
  await page.keyboard.press('l')
  await until('off', () => search(page).get('live') === null)
  return page
})

test('live without a stream asks now and then', async () => {
  await scene('nostream')
  const page = await visit('flows?v=1&live=1')
  await page.getByText('no event stream').waitFor()
  return page
})

test('keys go everywhere', async () => {
  const page = await visit('')
  await page.locator('.tiles').waitFor()
  for (const [keys, path] of [['gt', 'tenants/pairs'], ['gc', 'tenants/conversations'], ['gn', 'tenants/networks'], ['gm', 'map'], ['ge', 'explore'], ['gv', 'vms'], ['gf', 'flows'], ['gb', 'coverage'], ['gr', 'irregular'], ['gx', 'exporters'], ['gp', 'topology'], ['gi', 'inventory'], ['ga', 'taps'], ['gk', 'filters'], ['gq', 'sql'], ['go', '']]) {
    await until(keys, async () => {
      if (new URL(page.url()).pathname === '/some/prefix/' + path) return true
      await page.keyboard.press('Escape') // from what a letter alone may have opened: a machine may be too slow for both in time
      for (const k of keys) await page.keyboard.press(k)
      return false
    })
  }
  await page.keyboard.press('[')
  await until('earlier', () => search(page).get('to') !== 'now')
  await until('later', async () => (await page.keyboard.press(']'), search(page).get('to') === 'now')) // more than once when time has passed
  await page.keyboard.press('-')
  await until('wider', () => search(page).get('from') === 'now-2h')
  await page.keyboard.press('=')
  await until('narrower', () => search(page).get('from') === 'now-1h')
  await page.keyboard.press('t')
  await until('table', () => search(page).get('as') === 'table')
  await page.keyboard.press('d')
  equal(await page.evaluate(() => document.documentElement.dataset.theme), 'dark', 'theme')
  await page.keyboard.press('d')
  await page.keyboard.press('u')
  await page.locator('.strip').getByText('UTC').waitFor()
  await page.keyboard.press('u')
  await page.keyboard.press('?')
  await page.locator('dialog[open]').waitFor()
  await page.keyboard.press('Escape')
  await until('help closed', async () => (await page.locator('dialog[open]').count()) === 0)
  return page
})

test('the time range understands people', async () => {
  const page = await visit('')
  await page.locator('[popovertarget=range]').click()
  await page.keyboard.type('last 15 min')
  await page.keyboard.press('Enter')
  await until('typed', () => search(page).get('from') === 'now-15m')
  await page.locator('[popovertarget=range]').click()
  await page.keyboard.type('whenever')
  await page.keyboard.press('Enter')
  await page.locator('#range [role=alert]').waitFor()
  await page.locator('#range').getByRole('button', { name: 'last 3 h' }).click()
  await until('preset', () => search(page).get('from') === 'now-3h')
  await page.locator('[popovertarget=range]').click()
  await page.getByRole('button', { name: 'Freeze' }).click()
  await until('frozen', () => /Z$/.test(search(page).get('to')))
  return page
})

test('share and export carry the same question', async () => {
  const page = await visit('tenants/pairs?v=1&from=now-2h&to=now&f=tenant%20%3D%20%22blue%22&sort=-packets')
  await ready(page)
  const copied = async (item) => {
    await page.locator('[popovertarget=share]').click()
    await page.getByRole('menuitem', { name: item }).click()
    await page.locator('.said', { hasText: 'copied' }).waitFor()
    return page.evaluate(() => navigator.clipboard.readText())
  }
  equal(await copied('Copy link'), page.url(), 'link')
  equal(await copied('Copy as CLI'), `crosstap pairs --server ${server.url.replace(/\/$/, '')} --since 2h --sort=-packets -- 'tenant = "blue"'`, 'CLI')
  equal(await copied('Copy as curl'), `curl -fsS '${server.url}api/v1/pairs?from=now-2h&to=now&f=tenant+%3D+%22blue%22&sort=-packets'`, 'curl')
  await page.locator('[popovertarget=export]').click()
  const [download] = await Promise.all([page.waitForEvent('download'), page.getByRole('menuitem', { name: 'CSV' }).click()])
  equal(download.url(), server.url + 'api/v1/pairs?from=now-2h&to=now&f=tenant+%3D+%22blue%22&sort=-packets&limit=100000&format=csv', 'CSV')
  await download.cancel()
  return page
})

test('networks: sizes, risks and a file', async () => {
  const page = await visit('tenants/networks')
  await ready(page)
  for (const risk of ['exceeds', 'fragments', 'unknown', 'none']) await rows(page).getByText(risk).first().waitFor()
  await rows(page).getByText('no tenant').waitFor()
  await page.getByRole('columnheader', { name: 'VMs' }).getByRole('button').click()
  await until('sorted', () => search(page).get('sort') === '-vms')
  await page.locator('[popovertarget=export]').click()
  await page.getByRole('menuitem', { name: 'CSV' }).waitFor()
  equal(await page.getByRole('menuitem', { name: 'Parquet' }).getAttribute('href'), server.url + 'api/v1/networks?from=now-1h&to=now&sort=-vms&limit=100000&format=parquet', 'Parquet')
  return page
})

test('a machine: from its name in a table to its page, its bytes first', async () => {
  const page = await visit('tenants/pairs?v=1&f=tenant%20%3D%20%22blue%22')
  await ready(page)
  const name = await rows(page).first().locator('a.val').first().innerText()
  await rows(page).first().locator('a.val').first().click()
  await page.getByRole('heading', { name }).waitFor()
  equal([search(page).get('name'), search(page).get('from'), search(page).get('f')], ['id-' + name, 'now-24h', null], 'URL')
  const first = await page.locator('.figures dt').first().innerText()
  equal(first, 'Sent in the past 24 h', 'first figure')
  assert(/B$/.test(await page.locator('.figures .value').nth(1).innerText()), 'bytes received')
  for (const part of ['Bytes sent and received', 'Peers', 'Services it serves', 'Services it uses', 'Changes', 'Where it is and was']) await page.getByRole('heading', { name: part, exact: true }).waitFor()
  const bars = await page.locator('section[aria-labelledby=series] svg g').count()
  await page.locator('section[aria-labelledby=series]').getByRole('button', { name: 'Table' }).click()
  equal(await page.locator('section[aria-labelledby=series] tbody tr').count(), bars, 'a row for each bar')
  const [file] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: 'Peers as CSV' }).click()])
  equal(file.suggestedFilename(), 'crosstap-vm-peers.csv', 'file')
  await page.getByRole('link', { name: 'All its pairs' }).click()
  await until('its pairs', () => search(page).get('f') === `vm_id = "id-${name}"`)
  return page
})

test('the menu of a machine still filters', async () => {
  const page = await visit('tenants/pairs')
  await ready(page)
  const cell = rows(page).first().locator('td', { has: page.locator('a.val') }).first()
  await cell.hover()
  await cell.locator('button.more').click()
  await page.getByRole('menuitem', { name: 'Open the page of this VM' }).waitFor()
  await page.getByRole('menuitem', { name: 'Only this' }).click()
  await until('filtered', () => /^vm = "/.test(search(page).get('f') ?? ''))
  return page
})

test('a machine that nobody knows says so', async () => {
  const page = await visit('vm?name=nobody')
  await page.locator('.notice').getByText('No such machine').waitFor()
  await page.getByRole('link', { name: 'All machines' }).click()
  await ready(page)
  return page
})

test('explore: fields, metric, lists, previous period', async () => {
  const page = await visit('explore')
  await ready(page)
  equal(await page.locator('.chip').count(), 3, 'fields')
  await page.getByRole('button', { name: 'Do not group by dst.vm' }).click()
  await until('two fields', () => search(page).get('by') === 'src.vm,dst.port')
  await page.getByRole('combobox', { name: 'Add a field' }).selectOption('app')
  await until('three fields', () => search(page).get('by') === 'src.vm,dst.port,app')
  await page.getByRole('columnheader', { name: 'application' }).waitFor()
  await page.getByRole('button', { name: 'Previous period' }).click()
  await page.locator('.legend').getByText('one period before').waitFor()
  await page.getByRole('button', { name: 'Table' }).click()
  for (const column of ['p95', 'Previous']) await page.getByRole('columnheader', { name: column, exact: true }).waitFor()
  await page.getByLabel('A list per').selectOption('tenant')
  await page.getByLabel('Order by').selectOption('rtt')
  await page.getByText('no time series of this metric').waitFor()
  await page.getByLabel('Having').fill('bytes > 1 MB')
  await page.getByLabel('Having').press('Enter')
  await until('having', () => search(page).get('having') === 'bytes > 1 MB')
  await page.locator('[popovertarget=share]').click()
  await page.getByRole('menuitem', { name: 'Copy as CLI' }).click()
  await page.locator('.said', { hasText: 'copied' }).waitFor()
  equal(await page.evaluate(() => navigator.clipboard.readText()), `crosstap top --server ${server.url.replace(/\/$/, '')} --by src.vm,dst.port,app --per tenant --metric rtt --having 'bytes > 1 MB'`, 'CLI')
  return page
})

test('the map: expand, focus, baseline, exports, table', async () => {
  const page = await visit('map')
  const node = (name) => page.locator('section[aria-labelledby=rows] g[role=button]', { hasText: name })
  await node('blue / api').focus()
  await page.keyboard.press('Enter')
  await page.getByRole('menuitem', { name: 'Show its members' }).click()
  await until('expanded', () => search(page).get('expand') === 'blue/api')
  const colours = await node('blue / db').evaluate((g) => [getComputedStyle(g).color, getComputedStyle(document.documentElement).getPropertyValue('--c0').trim()])
  equal(colours, ['rgb(68, 119, 170)', '#47a'], 'a tenant has its colour')
  await node('api-blue-01').click()
  equal(await serious(page), [], 'axe with the menu')
  await page.getByRole('menuitem', { name: 'Collapse the group' }).click()
  await until('collapsed', () => search(page).get('expand') === null)
  await node('blue / db').click()
  await page.getByRole('menuitem', { name: 'Only what is near' }).click()
  await until('in focus', () => search(page).get('focus') === 'blue/db')
  await until('fewer nodes', async () => (await page.locator('g[role=button]').count()) < 8)
  await page.getByLabel('Compare with').selectOption('7d')
  await page.locator('.legend-row').getByText('gone').waitFor()
  const asked = server.state.requests.filter((r) => r.includes('/map?')).at(-1)
  assert(/base_from=now-169h&base_to=now-1h/.test(asked), 'the week before: ' + asked)
  const svg = await page.getByRole('link', { name: 'SVG', exact: true }).getAttribute('href')
  assert(/\/api\/v1\/map\?.*focus=blue%2Fdb.*format=svg$/.test(svg), svg)
  assert(/allow-list\?.*format=nft$/.test(await page.getByRole('link', { name: 'nftables' }).getAttribute('href')), 'allow list')
  await page.keyboard.press('t')
  await page.getByRole('columnheader', { name: 'Services' }).waitFor()
  await page.getByRole('button', { name: 'Hide infrastructure' }).click()
  await until('hidden', () => /^not app in/.test(search(page).get('f') ?? ''))
  return page
})

test('coverage says what is not known', async () => {
  const page = await visit('coverage')
  await ready(page)
  await rows(page).getByText('no tap').first().waitFor()
  const answer = await (await fetch(server.url + 'api/v1/coverage?from=now-1h&to=now&by=vm')).json()
  const headline = await page.locator('section[aria-labelledby=headline]').innerText()
  const [, found, whole] = /([\d.]+) TB of ([\d.]+) TB that/u.exec(headline.replaceAll('\u202f', ' ').replaceAll('\u00a0', ' ')) ?? []
  assert(Math.abs(Number(found) / Number(whole) - answer.ratio) < 0.01, `the sizes are those of the share: ${headline}`)
  assert(/observed in all/.test(headline), 'what machines without a counter had is apart')
  await page.getByRole('button', { name: 'host', exact: true }).click()
  await until('by host', () => search(page).get('by') === 'host')
  const unseen = page.locator('section[aria-labelledby=unseen]')
  equal(await unseen.getByRole('link', { name: 'Fix' }).first().getAttribute('href'), server.url + 'taps?v=1&from=now-1h&to=now&step=plan&q=host%20%3D%20%22kvm-17%22', 'a plan for the host that no tap sees')
  const host = unseen.locator('tbody tr', { hasText: 'kvm-01' })
  assert(/31.* to 33/.test(await host.innerText()) && (await host.getByText('2', { exact: true }).count()) === 1, 'bounds, and ports of one direction: ' + (await host.innerText()))
  assert(await host.getByText('tap blue-db: sampled 1:4').count(), 'what its tap leaves out')
  await unseen.getByText('ids-1 (kvm-02 › vnet99), a destination of tap blue-db: what comes to it are copies').waitFor()
  await scene('nocounters')
  await page.keyboard.press('r')
  await page.locator('.headline').getByText('unknown', { exact: true }).waitFor()
  assert(!/100/.test(await page.locator('section[aria-labelledby=rows] tbody').innerText()), 'no row says 100 %')
  return page
})

test('undoing a change says which later ones it would undo', async () => {
  const page = await visit('taps?sel=change:1')
  await scene('later')
  await page.getByRole('button', { name: 'Undo change 1' }).click()
  await page.getByRole('dialog', { name: 'Undo change 1?' }).getByRole('button', { name: 'Yes' }).click()
  const again = page.getByRole('dialog', { name: 'Undo change 1 and the later ones?' })
  await again.getByText('tap blue-db: change 7 of ben (INC-7)').waitFor()
  await again.getByRole('button', { name: 'Yes' }).click()
  await page.locator('section[aria-labelledby=history] tbody tr').first().getByText('rollback').waitFor()
  page.faults = page.faults.filter((f) => !f.includes('409'))
  return page
})

test('what is irregular leads to its traffic', async () => {
  const page = await visit('irregular?from=now-24h')
  await ready(page)
  await rows(page).getByText('tried 255 addresses').waitFor()
  equal(await rows(page).count(), 7, 'a row of each kind')
  await page.setViewportSize({ width: 1024, height: 900 })
  equal(await rows(page).locator('.cell span').evaluateAll((all) => all.filter((e) => e.scrollWidth > e.clientWidth + 1 && e.textContent.length > 30).map((e) => e.textContent)), [], 'sentences that are cut')
  await page.getByRole('button', { name: 'port scan' }).click()
  await until('one kind', async () => search(page).get('by') === 'port_scan' && (await rows(page).count()) === 1)
  await page.getByRole('button', { name: 'day before', exact: true }).click()
  await until('another base', () => search(page).get('base') === '1d')
  await page.getByRole('link', { name: 'Conversations', exact: true }).click()
  await until('its conversations', () => /tenants.conversations/.test(page.url()))
  const f = search(page).get('f')
  assert(/src.vm = /.test(f) && /dst.vm = /.test(f), 'both ends: ' + f)
  assert(search(page).get('from') === 'now-24h', 'the range stays')
  await ready(page)
  return page
})

test('a conversation at each observer, and the underlay that carried it', async () => {
  const page = await visit('tenants/pairs?v=1&f=src.vm%20%3D%20%22web-blue-01%22')
  await ready(page)
  await rows(page).filter({ hasNotText: 'same host' }).first().locator('.open').click()
  const panel = page.locator('aside')
  await panel.locator('.open').first().click()
  await panel.getByText(/Lost: \d+ packets between kvm/).waitFor()
  await panel.getByRole('heading', { name: 'The underlay flows that carried it' }).waitFor()
  equal(await serious(page), [], 'axe')
  await panel.getByRole('button', { name: 'Underlay flows', exact: true }).click()
  await until('underlay', () => page.url().includes('tenants/underlay'))
  await ready(page)
  await rows(page).first().locator('a.val').first().click()
  await until('and back: what it carried', () => page.url().includes('tenants/pairs') && /^vtep = /.test(search(page).get('f')))
  return page
})

test('exporters tell sampling, templates, loss and what they feed', async () => {
  const page = await visit('exporters')
  const table = page.locator('section[aria-labelledby=exporters]')
  for (const text of ['1:64', 'announced', '0.51', 'no flows yet', '6876:991']) await table.getByText(text).first().waitFor()
  for (const text of ['queue_full 17', 'connection refused', '2 retries']) await page.locator('section[aria-labelledby=outputs]').getByText(text).waitFor()
  return page
})

test('the inventory: what moved first, search, table, file, picture', async () => {
  const page = await visit('inventory')
  const panel = page.locator('section[aria-labelledby=rows]')
  await panel.locator('svg a').first().waitFor()
  equal(await panel.locator('svg a').first().textContent(), 'api-green-07', 'the machine that moved')
  equal(await panel.locator('svg .host').allTextContents().then((x) => x.slice(0, 2)), ['kvm-01', 'kvm-10'], 'where it was and is')
  await panel.getByRole('textbox', { name: 'Search' }).fill('db-blue-03')
  await panel.getByRole('textbox', { name: 'Search' }).press('Enter')
  await until('searched', async () => search(page).get('name') === 'db-blue-03' && (await panel.locator('svg a').count()) === 1)
  const [picture] = await Promise.all([page.waitForEvent('download'), panel.getByRole('button', { name: 'as PNG' }).click()])
  equal(picture.suggestedFilename(), 'crosstap-inventory.png', 'picture')
  equal(readFileSync(await picture.path()).subarray(1, 4).toString(), 'PNG', 'its bytes')
  await page.keyboard.press('t')
  await ready(page)
  equal(await rows(page).count(), 2, 'a row for each place')
  await rows(page).getByText('moved', { exact: true }).waitFor()
  await page.locator('[popovertarget=export]').click()
  equal(await page.getByRole('menuitem', { name: 'CSV' }).getAttribute('href'), server.url + 'api/v1/adapters?from=now-1h&to=now&name=db-blue-03&limit=100000&format=csv', 'CSV')
  await page.locator('#export').press('Escape')
  await until('closed', async () => (await page.locator('#export:popover-open').count()) === 0)
  await panel.getByRole('textbox', { name: 'Search' }).fill('nobody')
  await panel.getByRole('textbox', { name: 'Search' }).press('Enter')
  await page.getByText('Nothing matches').waitFor()
  await page.getByRole('button', { name: 'Clear the search' }).click()
  await ready(page)
  await scene('noinventory')
  await page.keyboard.press('r')
  await page.getByText('No inventory is known').waitFor()
  return page
})

test('the topology: folded, opened, a machine’s menu, tables, files', async () => {
  const page = await visit('topology')
  const panel = page.locator('section[aria-labelledby=rows]')
  await panel.getByRole('button', { name: 'Show the ports of kvm-02' }).focus()
  await page.keyboard.press('Enter')
  await until('opened', () => search(page).get('expand') === 'kvm-02')
  const machine = panel.locator('g.row[aria-haspopup]').first()
  await machine.focus()
  await page.keyboard.press('Enter')
  await page.locator('[role=menu]:popover-open').waitFor()
  equal(await serious(page), [], 'axe with the menu')
  await page.getByRole('menuitem', { name: 'Tap it' }).click()
  await until('the editor', () => page.url().includes('/taps') && /^vm = "/.test(search(page).get('q')))
  equal(await page.getByLabel('What shall be seen').inputValue(), search(page).get('q'), 'prefilled')
  await page.goBack()
  await panel.locator('path.arc').first().waitFor({ state: 'attached' })
  await page.locator('section[aria-labelledby=tunnels] tbody tr').first().waitFor()
  const [file] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: 'Tunnels between hosts as CSV' }).click()])
  equal(file.suggestedFilename(), 'crosstap-tunnels.csv', 'file')
  const [picture] = await Promise.all([page.waitForEvent('download'), panel.getByRole('button', { name: 'as PNG' }).click()])
  equal(picture.suggestedFilename(), 'crosstap-topology.png', 'picture')
  await page.keyboard.press('t')
  await ready(page)
  await rows(page).getByText('Tap this').first().waitFor()
  await rows(page).getByText('blue-db').first().waitFor()
  return page
})

test('every table is a file', async () => {
  const page = await visit('')
  for (const path of ['', 'tenants/pairs', 'tenants/networks', 'vms', 'vm?name=web-blue-01&as=table', 'flows', 'map?as=table', 'explore?as=table', 'coverage', 'irregular', 'exporters', 'topology?as=table', 'inventory?as=table', 'taps?sel=blue-db', 'taps?sel=kvm-09/uplink', 'taps?step=plan&name=blue-db', 'tenants/pairs?sel=']) {
    await page.goto(server.url + path)
    await until('tables of ' + path, async () => (await page.locator('main table').count()) > 0)
    await page.waitForLoadState('networkidle')
    if (path.endsWith('sel=')) await rows(page).first().locator('.open').click(), await page.locator('aside .open').first().waitFor()
    const without = await page.evaluate(() => {
      const exports = [...document.querySelectorAll('#export a')].some((a) => /format=csv/.test(a.href)) // of the rows of the page
      const named = (box) => box?.querySelector('button[aria-label$="as CSV"]')
      return [...document.querySelectorAll('main table:not(.figures), aside table:not(.figures)')].filter((t) => !named(t.closest('section, aside')) && !(exports && t.closest('section[aria-labelledby=rows]'))).map((t) => t.caption?.textContent)
    })
    equal(without, [], 'tables that are no files on ' + path)
  }
  return page
})

test('10,000 machines: tables draw what one sees, pictures fold, a search finds one', async () => {
  await scene('normal', { many: true })
  const page = await visit('topology?as=table')
  await ready(page)
  assert((await page.locator('section[aria-labelledby=rows] table').getAttribute('aria-rowcount')) > 10_000, 'rows')
  assert((await rows(page).count()) < 120, 'only those that one sees are drawn')
  await page.keyboard.press('j')
  await page.keyboard.press('End')
  await until('the last row', () => page.evaluate(() => Number(document.activeElement?.closest('tr')?.dataset.index) > 10_000))
  await page.getByRole('button', { name: 'Picture' }).click()
  await page.getByRole('button', { name: 'Show the ports of kvm-02' }).waitFor()
  assert((await page.locator('section[aria-labelledby=rows] svg *').count()) < 3000, 'a picture that a browser can draw')
  await page.getByRole('textbox', { name: 'Search' }).fill('db-rose-300')
  await page.getByRole('textbox', { name: 'Search' }).press('Enter')
  await until('one machine', async () => (await page.locator('g.row[aria-haspopup]').count()) === 1)
  await page.getByRole('textbox', { name: 'Search' }).fill('nobody')
  await page.getByRole('textbox', { name: 'Search' }).press('Enter')
  await page.getByRole('button', { name: 'Clear the search' }).click()
  await page.getByRole('button', { name: 'Show the ports of kvm-02' }).waitFor()
  return page
})

test('a server that goes away: what is known stays, and it goes on by itself', async () => {
  const page = await visit('taps')
  await ready(page)
  await scene('offline', { control: server.state.control })
  await page.getByRole('alert').getByText('does not answer').waitFor()
  equal(await rows(page).count(), 2, 'the last answer')
  equal(await serious(page), [], 'axe')
  await scene('normal', { control: server.state.control })
  await until('well again', async () => (await page.locator('section[aria-labelledby=rows] [role=alert]').count()) === 0)
  return page
})

test('a few hosts are drawn whole', async () => {
  await scene('normal', { few: true })
  const page = await visit('topology')
  const panel = page.locator('section[aria-labelledby=rows]')
  await until('ports', async () => (await panel.locator('g.row[aria-haspopup]').count()) > 30)
  equal(await panel.getByRole('button', { name: 'Show the ports' }).count(), 0, 'nothing is folded')
  return page
})

test('coverage: Fix opens a plan for the machine, with the keyboard alone', async () => {
  const page = await visit('coverage')
  await ready(page)
  const row = rows(page).filter({ hasText: 'no tap' }).first()
  const name = await row.locator('a.val').first().innerText()
  await page.keyboard.press('j')
  await until('the first row', () => page.evaluate(() => document.activeElement?.matches('tr[data-index="0"] .val')))
  const at = Number(await row.getAttribute('data-index'))
  for (let i = 0; i < at; i++) await page.keyboard.press('ArrowDown')
  await until('the row', () => page.evaluate((i) => document.activeElement?.closest('tr')?.dataset.index === String(i), at))
  for (let i = 0; i < 5; i++) await page.keyboard.press('ArrowRight')
  equal(await page.evaluate(() => document.activeElement?.textContent), 'Fix', 'the last of the row')
  await page.keyboard.press('Enter')
  await until('the editor', () => search(page).get('step') === 'plan')
  await page.locator('.plan').getByText('each packet once').waitFor()
  const yaml = await page.getByLabel('YAML').inputValue()
  for (const line of [`name: ${name}`, `select: 'vm = "${name}"'`, 'destinations: [ids-1]']) assert(yaml.includes(line), line + ' in ' + yaml)
  return page
})

test('taps: funnel, its table, pause with who and why, history, stop', async () => {
  const page = await visit('taps')
  await ready(page)
  await rows(page).first().locator('.open').click()
  const detail = page.locator('section[aria-labelledby=detail]')
  await detail.getByRole('img', { name: /captured: [\d,]+ in/ }).waitFor()
  await detail.getByRole('button', { name: 'Table' }).click()
  await detail.getByText('could not leave 12').waitFor()
  await page.locator('section[aria-labelledby=agents]').getByText('977 kernel dropped').waitFor()
  for (const [column, text] of [['Captured', /^[\d,]{5,}$/], ['Delivered', /^[\d,]{5,}$/], ['Dropped', /12 could not leave/], ['Rate', /b\/s/], ['Budget', /200/], ['Ends', /in 2 h/], ['Owner', /dba/]]) {
    const i = await page.locator('section[aria-labelledby=rows] thead th').evaluateAll((all, name) => all.findIndex((th) => th.textContent.trim() === name), column)
    await until(column, async () => text.test(await rows(page).first().locator('td').nth(i).innerText()))
  }
  await rows(page).first().getByText('kept').waitFor()
  for (const text of ['nobody counts them', '1 to 3']) await page.locator('section[aria-labelledby=gaps-moved]').getByText(text).waitFor()
  await detail.getByRole('button', { name: 'Pause' }).click()
  const dialog = page.getByRole('dialog', { name: 'Pause blue-db?' })
  await dialog.getByLabel('Why').fill('INC-9')
  await dialog.getByLabel('Who you are').fill('eve')
  equal(await serious(page), [], 'axe with the question')
  await dialog.getByRole('button', { name: 'Yes' }).click()
  await until('closed', async () => (await dialog.count()) === 0)
  await until('paused', async () => (await rows(page).first().innerText()).includes('paused'))
  const history = page.locator('section[aria-labelledby=history]')
  await history.locator('tbody tr', { hasText: 'INC-9' }).getByText('eve').waitFor()
  await history.locator('.open').first().click()
  const change = page.locator('section[aria-labelledby=change]')
  await change.getByText('took 1 s').waitFor()
  equal(search(page).get('sel'), 'change:2', 'a change has a link')
  equal(await serious(page), [], 'axe with a change')
  await change.getByRole('button', { name: 'Undo change 2' }).waitFor()
  await page.getByRole('button', { name: 'Resume all' }).click()
  await page.getByRole('dialog').getByRole('button', { name: 'Yes' }).click()
  await until('active', async () => (await rows(page).first().innerText()).includes('active'))
  await page.getByRole('button', { name: 'Stop all taps' }).click()
  await page.getByRole('dialog', { name: 'Stop all taps?' }).getByRole('button', { name: 'Cancel' }).click()
  await until('nothing stopped', async () => (await page.getByRole('dialog').count()) === 0)
  await until('the focus is where it was', () => page.evaluate(() => document.activeElement?.textContent === 'Stop all taps'))
  await page.getByRole('button', { name: 'Stop all taps' }).click()
  await page.getByRole('dialog').getByRole('button', { name: 'Yes' }).click()
  await page.getByText('There are no taps').waitFor()
  await history.locator('tbody tr', { hasText: 'stop' }).locator('.open').click()
  await change.getByRole('button', { name: /Undo change/ }).click()
  await page.getByRole('dialog', { name: /Undo change/ }).getByRole('button', { name: 'Yes' }).click()
  await until('they are back', async () => (await rows(page).count()) === 2)
  return page
})

test('a tap of an agent: its funnel and where it goes', async () => {
  const page = await visit('taps')
  const agents = page.locator('section[aria-labelledby=agents]')
  await agents.locator('tr', { hasText: 'uplink' }).locator('.open').click()
  const detail = page.locator('section[aria-labelledby=agentdetail]')
  await detail.getByRole('img', { name: /deduplicated: .* dropped duplicate 40; groomed: / }).waitFor()
  await detail.getByText('vxlan://10.0.0.9?vni=9001').waitFor()
  await detail.getByText('CPU 6.1 %').waitFor()
  const [picture] = await Promise.all([page.waitForEvent('download'), detail.getByRole('button', { name: 'as PNG' }).click()])
  equal(picture.suggestedFilename(), 'crosstap-funnel.png', 'picture')
  return page
})

test('a new tap: what it finds while one writes, three steps, YAML beside, plan, apply', async () => {
  const page = await visit('taps')
  await page.getByRole('button', { name: 'New tap' }).click()
  await page.getByRole('status').getByText('Give the tap a name').waitFor()
  await page.getByLabel('Name', { exact: true }).fill('rose-web')
  const found = page.locator('section[aria-labelledby=matches]')
  await found.getByText('appear here while you write').waitFor()
  await page.getByLabel('What shall be seen').fill('tenent = "rose"')
  await found.getByText('did you mean "tenant"').waitFor()
  await page.getByLabel('What shall be seen').fill('tenant = "rose"')
  await found.getByText(/\d+ machines, \d+ ports on \d+ hosts, \d+ refused/).waitFor()
  await found.getByText('other tenant').first().waitFor()
  await found.getByText('write allow: [other-tenants]').waitFor()
  const before = Number(/(\d+) machines/.exec(await found.innerText())[1])
  const good = found.locator('tr', { hasText: 'copy it' }).first()
  const left = await good.locator('a.val').innerText()
  await good.getByRole('button', { name: 'leave out' }).click()
  await until('left out', async () => (await found.innerText()).includes(`${before - 1} machines`))
  equal(await page.getByLabel('Without', { exact: true }).inputValue(), `vm = "${left}"`, 'what is left out')
  await page.getByLabel('Field').selectOption('host')
  await page.getByLabel('Value').fill('kvm-01')
  await page.getByRole('button', { name: 'And', exact: true }).click()
  equal(await page.getByLabel('What shall be seen').inputValue(), 'tenant = "rose" and host = "kvm-01"', 'a condition more')
  equal(await serious(page), [], 'axe of the first step')
  await page.getByRole('button', { name: 'Next' }).click()
  await page.getByRole('textbox', { name: 'Packet filter' }).fill('tcp port 443')
  await page.getByLabel('Bytes of each packet').fill('128')
  await page.getByRole('button', { name: 'Next' }).click()
  await page.getByLabel('ids-1').check()
  await page.getByLabel('Mirror budget').fill('100Mbit/s')
  const yaml = page.getByLabel('YAML')
  await until('the YAML follows', async () => (await yaml.inputValue()).includes("  filter: 'tcp port 443'\n  slice: 128\n  destinations: [ids-1]\n  budget:\n    mirror: 100Mbit/s\n"))
  await page.locator('.steps').getByRole('button', { name: 'Plan' }).click()
  await page.getByText('62.0').first().waitFor()
  for (const text of ['mirror vnet1, vnet21', 'vmk0 is the host', 'each packet once', '56.0', 'kvm-17']) await page.locator('.plan').getByText(text).first().waitFor()
  equal(await serious(page), [], 'axe')
  await page.getByText('The same as commands').click()
  await page.getByText('ovs-vsctl').first().waitFor()
  await page.getByRole('button', { name: 'Apply' }).click()
  await page.getByRole('dialog').getByLabel('Why').fill('CHG-3')
  await page.getByRole('dialog').getByRole('button', { name: 'Yes' }).click()
  await page.getByText('3 steps, 3 of 3 hosts').waitFor()
  await page.getByRole('button', { name: 'To the tap' }).click()
  await ready(page)
  await rows(page).getByText('rose-web', { exact: true }).waitFor()
  const [, applied] = server.state.control.requests.findLast(([path]) => path === 'control/apply')
  equal([applied.why, applied.files.length, /kind: Tap/.test(applied.files[0].text)], ['CHG-3', 1, true], 'what was sent')
  return page
})

test('applying: each host is seen to do its part, and one that does not is named and can be taken back', async () => {
  await scene('slowapply partial', { hold: 1 })
  const page = await visit('taps?step=plan&name=blue-db')
  await page.locator('.plan').getByText('each packet once').waitFor()
  await page.locator('.plan').getByText('copies that exist go on').first().waitFor()
  await page.getByRole('button', { name: 'Apply' }).click()
  await page.getByRole('dialog').getByRole('button', { name: 'Yes' }).click()
  const hosts = page.locator('.change tbody tr')
  for (const [host, state] of [['kvm-01', 'done'], ['kvm-02', 'at it'], ['kvm-03', 'waits']]) await hosts.filter({ hasText: host }).getByText(state).waitFor()
  equal(await hosts.count(), 3, 'hosts while it is made')
  await page.locator('.change').getByText('being made: 1 of 3 hosts done').waitFor()
  server.state.hold = null // it may go on
  await page.locator('.change').getByText('Done in part').waitFor()
  await hosts.filter({ hasText: 'kvm-02' }).getByText('failed').waitFor()
  await page.locator('.change li').getByText('no room for another mirror').waitFor()
  await page.locator('.change').getByText('took 1 s').waitFor()
  equal(await serious(page), [], 'axe')
  await scene('normal', { control: server.state.control })
  await page.getByRole('button', { name: 'Undo change 2' }).click()
  await page.getByRole('dialog', { name: 'Undo change 2?' }).getByRole('button', { name: 'Yes' }).click()
  await page.locator('.change').getByText('Change 3', { exact: true }).waitFor()
  await page.locator('.change').getByText('Done', { exact: true }).waitFor()
  return page
})

test('form and YAML are the same tap, in both directions', async () => {
  const page = await visit('taps?step=deliver&name=blue-db')
  await until('its destination', () => page.getByLabel('ids-1').isChecked())
  const yaml = page.getByLabel('YAML')
  const text = (await yaml.inputValue()).replace('  ttl: 4h\n', '  # over night\n  ttl: 12h\n').replace('metadata:\n', "metadata:\n  labels: {note: 'a, b'}\n")
  await yaml.fill(text)
  await until('the form follows', async () => (await page.getByLabel('Ends after').inputValue()) === '12h')
  await page.getByText('Only in the YAML: metadata.labels').waitFor()
  await page.getByLabel('Ends after').fill('8h')
  equal(await yaml.inputValue(), text.replace('12h', '8h'), 'what the form changes, and nothing else')
  await yaml.fill(text.replace("'a, b'}", "'a, b'"))
  await page.getByText('cannot be read').first().waitFor()
  assert(await page.getByLabel('Ends after').isDisabled(), 'the form waits')
  await yaml.fill(text)
  await page.locator('.steps').getByRole('button', { name: 'Plan' }).click()
  await page.locator('.plan').getByText('each packet once').waitFor()
  return page
})

test('every key of a tap has a field: labels, VLANs, flow records, capture machines, pauses', async () => {
  const page = await visit('taps?step=select&name=blue-db')
  const yaml = page.getByLabel('YAML')
  const says = (...parts) => until(parts.join(' '), async () => {
    const text = await yaml.inputValue()
    return parts.every((part) => text.includes(part))
  })
  const step = (name) => page.locator('.steps').getByRole('button', { name }).click()
  await until('its selector', async () => /tenant = "blue"/.test(await page.getByLabel('What shall be seen').inputValue()))
  await page.getByLabel('Labels').fill('team=dba, tier=1')
  await page.getByLabel('Labels').blur()
  await says("  labels: {team: dba, tier: '1'}\n")
  await step('2 Shape')
  await page.getByLabel('Only VLANs').fill('100, 200')
  await page.getByLabel('Only VLANs').press('Tab')
  await says('  vlans: [100, 200]\n')
  equal(await serious(page), [], 'axe of the second step')
  await step('3 Deliver')
  await page.getByLabel('Method').selectOption('flows-only')
  const flows = page.getByRole('group', { name: 'Flow records' })
  await flows.getByLabel('Protocol').selectOption('ipfix')
  await flows.getByLabel('One packet in').fill('32')
  await flows.getByLabel('Observation domain').fill('7')
  await flows.getByLabel('Long flows every').fill('60s')
  await flows.getByLabel('Flows end after silence of').fill('15s')
  await says('  flows:\n    protocol: ipfix\n    sampling: 32\n    active: 60s\n    idle: 15s\n    domain: 7\n')
  await page.getByLabel('Method').selectOption('promiscuous')
  await flows.getByText('go with the method flows-only').waitFor()
  const capture = page.getByRole('group', { name: 'Capture machines' })
  await capture.getByLabel('Template or disk image').fill('template-1')
  await capture.getByLabel('Port groups, before').fill('span')
  await page.getByLabel('Paused').check()
  await says('  capture:\n    image: template-1\n    group: span\n', '  paused: true\n')
  equal(await serious(page), [], 'axe of the third step')
  await yaml.fill((await yaml.inputValue()).replace('image: template-1', 'image: template-2').replace('sampling: 32', 'sampling: 16').replace('paused: true', 'paused: false'))
  await until('the form follows', async () => (await capture.getByLabel('Template or disk image').inputValue()) === 'template-2' && (await flows.getByLabel('One packet in').inputValue()) === '16' && !(await page.getByLabel('Paused').isChecked()))
  equal(await page.getByText('Only in the YAML').count(), 0, 'nothing is left to the YAML')
  return page
})

test('what comes in on a VLAN: in place of machines, to a machine’s port, and back without loss', async () => {
  const page = await visit('taps?step=select&name=blue-db')
  const yaml = page.getByLabel('YAML')
  await until('its selector', async () => /tenant = "blue"/.test(await page.getByLabel('What shall be seen').inputValue()))
  const before = await yaml.inputValue()
  await page.getByLabel('what comes in on a VLAN').check()
  await page.getByRole('status').getByText('Give the number of the VLAN').waitFor()
  await page.getByLabel('RSPAN VLAN').fill('99')
  await until('in the YAML', async () => /  from: rspan:99\n/.test(await yaml.inputValue()) && !/select|budget/.test(await yaml.inputValue()))
  equal(await page.getByLabel('What shall be seen').count(), 0, 'no selector')
  equal(await serious(page), [], 'axe')
  await page.locator('.steps').getByRole('button', { name: '3 Deliver' }).click()
  const made = page.getByRole('group', { name: 'New destination' })
  await made.getByLabel('Kind').selectOption('machine')
  await made.getByLabel('Name').fill('ids-port')
  await made.getByRole('combobox', { name: 'Machine', exact: true }).fill('ids-1')
  await made.getByRole('button', { name: 'Add' }).click()
  await until('made', async () => (await yaml.inputValue()).endsWith('kind: Destination\nmetadata:\n  name: ids-port\nspec:\n  port:\n    vm: ids-1\n'))
  assert(await page.getByLabel('ids-port').isChecked(), 'chosen')
  await page.getByLabel('ids-port').uncheck()
  await page.locator('.steps').getByRole('button', { name: '1 Select' }).click()
  await page.getByLabel('what machines send and receive').check()
  equal((await yaml.inputValue()).split('---')[0], before, 'as it was')
  return page
})

test('a switch that would copy twice: a new tap takes one direction and says so, another is asked', async () => {
  await scene('twice')
  const page = await visit('taps?v=1&step=plan&q=vm%20%3D%20%22web-blue-01%22')
  await page.getByText('The form has chosen what the machines send').waitFor()
  await page.getByText('What others send to them is not seen').waitFor()
  await page.locator('.plan').getByText('each packet once').waitFor()
  const yaml = page.getByLabel('YAML')
  assert(/  direction: ingress\n/.test(await yaml.inputValue()), 'in the YAML')
  equal(await serious(page), [], 'axe')
  await page.locator('.steps').getByRole('button', { name: '2 Shape' }).click()
  await page.getByText('The form has chosen').waitFor()
  equal(await page.getByLabel('Direction').inputValue(), 'ingress', 'the field')
  await page.getByLabel('Direction').selectOption('both')
  await page.locator('.steps').getByRole('button', { name: 'Plan' }).click()
  await page.getByRole('button', { name: 'Copy what machines send alone' }).waitFor()
  assert(!/direction/.test(await yaml.inputValue()), 'who has chosen both ways keeps them')
  await page.getByRole('button', { name: 'Copy what machines send alone' }).click()
  await page.locator('.plan').getByText('each packet once').waitFor()
  await page.getByRole('button', { name: 'Both ways, and copied twice' }).click()
  await until('allowed', async () => /  allow: \[copied-twice\]\n/.test(await yaml.inputValue()) && !/direction/.test(await yaml.inputValue()))
  await page.goto(server.url + 'taps?step=plan&name=blue-db')
  await page.getByRole('button', { name: 'Copy what machines send alone' }).waitFor()
  assert(!/direction/.test(await yaml.inputValue()), 'a tap in force is left as it is')
  await page.getByRole('button', { name: 'Copy what machines send alone' }).click()
  await page.locator('.plan').getByText('each packet once').waitFor()
  return page
})

test('who may not change anything is told so, and sees everything', async () => {
  await scene('denied')
  const page = await visit('taps')
  await ready(page)
  await page.getByRole('button', { name: 'Stop all taps' }).click()
  await page.getByRole('dialog').getByRole('button', { name: 'Yes' }).click()
  await page.getByRole('alert').getByText('a loopback address only').waitFor()
  equal(await rows(page).count(), 2, 'taps')
  await page.goto(server.url + 'taps?step=plan&name=blue-db')
  await page.getByRole('alert').getByText('a loopback address only').waitFor()
  assert(await page.getByRole('button', { name: 'Apply' }).isDisabled(), 'nothing to apply')
  equal(await page.locator('.steps [role=status]').innerText(), 'Forbidden', 'no mistake of the YAML')
  equal(await serious(page), [], 'axe')
  return page
})

test('a page with a palette: pages, machines, ranges, filters', async () => {
  const page = await visit('')
  await page.locator('.tiles').waitFor()
  await page.keyboard.press('Control+k')
  const field = page.getByRole('combobox', { name: 'Find' })
  await field.fill('topo')
  await page.getByRole('option', { name: /Topology/ }).waitFor()
  equal(await serious(page), [], 'axe')
  await field.press('Enter')
  await until('the page', () => page.url().includes('/topology'))
  await page.getByRole('button', { name: /^Find/ }).click()
  await field.fill('db-blue-03')
  await page.getByRole('option', { name: /Machine db-blue-03/ }).click()
  await until('the machine', () => search(page).get('name') === 'id-db-blue-03')
  await page.keyboard.press('Control+k')
  await field.fill('vni = 5001')
  await page.getByRole('option', { name: /Filter by/ }).click()
  await until('the filter', () => search(page).get('f') === 'vni = 5001')
  await page.keyboard.press('Control+k')
  await field.fill('last 15 min')
  await page.getByRole('option', { name: /Time range/ }).click()
  await until('the range', () => search(page).get('from') === 'now-15m')
  await page.keyboard.press('Control+k')
  await field.fill('blue-db')
  await page.getByRole('option', { name: /Tap blue-db/ }).click()
  await page.locator('section[aria-labelledby=detail]').getByRole('heading', { name: 'blue-db' }).waitFor()
  await page.keyboard.press('Control+k')
  await field.fill('nothing like it')
  await page.getByText('Nothing is called that').waitFor()
  await page.keyboard.press('Escape')
  await until('closed', async () => (await page.locator('dialog[open]').count()) === 0)
  return page
})

test('without a control line the page says so', async () => {
  await scene('nocontrol')
  const page = await visit('taps')
  await page.getByText('This server has no control line').waitFor()
  equal(await page.getByRole('button', { name: 'New tap' }).count(), 0, 'nothing to press')
  return page
})

test('packet filters: programs, residual, a mistake and its fix, from the flow filter', async () => {
  const page = await visit('filters')
  await page.getByRole('button', { name: 'tcp dst port 443' }).click()
  await page.getByText('The kernel decides alone').waitFor()
  await page.getByRole('region', { name: 'Program: Classic BPF' }).getByText('jeq').waitFor()
  const field = page.getByRole('textbox', { name: 'Packet filter' })
  await field.fill('inner tcp port 5432')
  await field.press('Enter')
  await page.getByText('looks again at').waitFor()
  await page.getByText('a switch does not look inside').first().waitFor()
  await field.fill('tcp prot 80')
  await field.press('Enter')
  await page.getByRole('alert').getByText('column 5').waitFor()
  await page.getByRole('button', { name: 'Use port' }).click()
  await until('fixed', () => search(page).get('q') === 'tcp port 80')
  await page.getByText('The kernel decides alone').waitFor()
  const other = await visit('filters?v=1&f=tenant%20%3D%20%22blue%22')
  await other.getByRole('button', { name: 'From the flow filter, inside tunnels' }).click()
  await until('said in the other language', () => search(other).get('q') === 'inner port 443')
  await other.getByText('packets do not tell their tenant').waitFor()
  equal(other.faults, [], 'faults')
  await other.close()
  return page
})

test('SQL: a question, its answer as a file, mistakes, who may ask', async () => {
  const page = await visit('sql')
  await page.getByRole('button', { name: 'Bytes by VNI' }).click()
  await ready(page)
  await page.getByRole('columnheader', { name: 'octets' }).waitFor()
  const [file] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: 'Answer as CSV' }).click()])
  equal(readFileSync(await file.path(), 'utf8').split('\n')[0], 'vni,src_vm,octets,part', 'head of the file')
  await page.getByLabel('One SELECT').fill('SELECT * FROM flows')
  await page.keyboard.press('Control+Enter')
  await page.getByText('There are more rows').waitFor()
  await page.getByLabel('One SELECT').fill('DROP TABLE flows')
  await page.keyboard.press('Control+Enter')
  await page.getByRole('alert').getByText('syntax error at or near "DROP"').waitFor()
  await scene('denied')
  await page.getByRole('button', { name: 'Try again' }).click()
  await page.getByRole('alert').getByText('for administrators').waitFor()
  return page
})

test('a time series as a heat map, and pictures of charts', async () => {
  const page = await visit('explore?v=1&by=app')
  const panel = page.locator('section[aria-labelledby=traffic]')
  await panel.locator('.u-over').waitFor()
  const saved = async (file) => {
    const [picture] = await Promise.all([page.waitForEvent('download'), panel.getByRole('button', { name: 'as PNG' }).click()])
    equal(picture.suggestedFilename(), file, 'file')
    assert(readFileSync(await picture.path()).length > 5000, 'more than a blank picture')
  }
  await saved('crosstap-series.png')
  await panel.getByRole('button', { name: 'Heat map' }).click()
  const canvas = panel.locator('.canvas canvas')
  await canvas.waitFor()
  await page.waitForLoadState('networkidle')
  equal(search(page).get('vis'), 'heat', 'URL')
  const box = await canvas.boundingBox()
  await page.mouse.move(box.x + box.width * 0.6, box.y + 30)
  await panel.locator('.tip').getByText('b/s').waitFor()
  await saved('crosstap-series.png')
  await panel.getByRole('button', { name: 'Table' }).click()
  await panel.getByRole('columnheader', { name: 'p95' }).waitFor()
  await panel.getByRole('button', { name: 'as CSV' }).waitFor()
  return page
})

test('a page that does not load says so', async () => {
  const page = await context.newPage()
  await page.route(/assets\/Map-.*\.js/, (r) => r.abort())
  await page.goto(server.url + 'map')
  await page.getByRole('alert').getByText('did not load').waitFor()
  page.faults = []
  return page
})

// Names as tenants give them: too long, with spaces and quotes, markup, from right to left.
const odd = ['web-server-with-a-name-'.repeat(9).slice(0, 200), 'two words  and "quotes" \\ back', '<script>globalThis.hurt=1</script><img src=x onerror="globalThis.hurt=1">', 'خادم قاعدة البيانات الرئيسي في مركز البيانات', 'WWWWWW-WWWWWWWWWWW-WWWWWW']

/** oddly visits a page of a server whose machines of some tenants have such names. */
async function oddly(path, act) {
  const names = new Map()
  const name = (n) => names.get(n) ?? (names.set(n, odd[names.size % odd.length] + ' ' + names.size), names.get(n))
  const rename = async (route) => {
    const r = await route.fetch().catch(() => null)
    if (!r) return route.abort().catch(() => {})
    await route.fulfill({ response: r, body: (await r.text()).replace(/"((?:web|api|db|mq|cache)-(?:blue|green|orange)-\d\d)"/g, (_, n) => JSON.stringify(name(n))) }).catch(() => {})
  }
  await context.route(/\/api\/v1\/(?!events)/, rename)
  try {
    const page = await visit(path)
    await page.waitForLoadState('networkidle')
    await act(page)
    return page
  } finally {
    await context.unroute(/\/api\/v1\/(?!events)/, rename)
  }
}

for (const path of ['tenants/pairs', 'map?by=vm', 'explore?by=src.vm,app', 'vm?name=web-blue-01', 'topology?name=kvm-01&expand=kvm-01', 'inventory']) {
  test('machines with odd names on /' + path, () => oddly(path, async (page) => {
    for (const width of [1280, 390]) {
      await page.setViewportSize({ width, height: 900 })
      await page.evaluate(() => new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(() => requestAnimationFrame(drawn)))))
      equal(await page.evaluate(() => [globalThis.hurt, document.documentElement.scrollWidth <= innerWidth]), [null, true], 'a name is text, and the page as wide as the window of ' + width)
      const wrong = await page.evaluate(() => {
        const at = (e) => e.getBoundingClientRect()
        const drawn = (e) => at(e).width > 0
        const boxes = [...document.querySelectorAll('svg.map g')].filter((g) => at(g.querySelector('text')).width > 0.98 * at(g.querySelector('rect')).width).map((g) => 'wider than its box: ' + g.textContent)
        const turned = [...document.querySelectorAll('.cut')].filter((c) => /^[\u0600-\u06ff]/.test(c.textContent) && drawn(c.querySelector('.head')) && at(c.querySelector('.head')).left < at(c.querySelector('.tail')).left).map((c) => 'begins at its left end: ' + c.textContent)
        const keys = [...document.querySelectorAll('.legend .key')].filter((k) => at(k).width < 9).map((k) => 'no room for a colour: ' + k.parentElement.textContent)
        return [...boxes, ...turned, ...keys].slice(0, 3)
      })
      equal(wrong, [], 'drawn at ' + width)
    }
  }))
}

test('what is typed before the palette is there is for the palette', async () => {
  let go
  const held = new Promise((r) => (go = r))
  await context.route(/assets\/Palette-.*\.js/, async (r) => (await held, r.continue()))
  const page = await visit('')
  await page.locator('.tiles').waitFor()
  await page.keyboard.press('Control+k')
  await page.keyboard.type('dtx')
  await page.keyboard.press('Backspace')
  go()
  const field = page.getByRole('combobox', { name: 'Find' })
  await field.waitFor()
  await page.keyboard.type('b')
  equal([await field.inputValue(), await page.evaluate(() => document.documentElement.dataset.theme), search(page).get('as')], ['dtb', 'light', null], 'the letters, and nothing that they do on a page')
  await page.keyboard.press('Escape')
  await context.unroute(/assets\/Palette-.*\.js/)
  return page
})

test('help and palette that do not load say so, and can be asked for again', async () => {
  const page = await visit('')
  await page.locator('.tiles').waitFor()
  await context.route(/assets\/(Help|Palette)-/, (r) => r.abort())
  for (const key of ['?', 'Control+k']) {
    await page.keyboard.press(key)
    await page.locator('.said').getByText('did not load').waitFor()
    await page.keyboard.press('g') // keys of the page are heard
    await until('silence', async () => (await page.locator('.said').innerText()) === '')
  }
  await page.keyboard.press('d')
  equal(await page.evaluate(() => document.documentElement.dataset.theme), 'dark', 'theme')
  await page.keyboard.press('d')
  await context.unroute(/assets\/(Help|Palette)-/)
  await page.keyboard.press('?')
  await page.locator('dialog[open]').waitFor()
  equal(page.faults, [], 'faults')
  return page
})

test('a link to a tap that is gone says so', async () => {
  const page = await visit('taps?step=plan&name=who-knows')
  await page.getByText('No tap is called “who-knows” now').waitFor()
  return page
})

test('no heading of a column is cut in a wide window, and what belongs to buttons stands beside them', async () => {
  const page = await visit('flows')
  for (const path of ['flows', 'tenants/pairs', 'tenants/conversations', 'exporters', 'vms', 'irregular']) {
    await page.setViewportSize({ width: 1440, height: 900 })
    await page.goto(server.url + path)
    await until('rows', async () => (await page.locator('tbody tr:not(.space)').count()) > 0)
    equal(await page.locator('th').evaluateAll((all) => all.filter((h) => h.scrollWidth > h.clientWidth + 1).map((h) => h.textContent.trim())), [], path)
  }
  await page.setViewportSize({ width: 1024, height: 900 })
  const tops = await page.evaluate(() => [document.getElementById('base'), document.querySelector('[aria-labelledby=base]')].map((e) => { const r = e.getBoundingClientRect(); return Math.round((r.top + r.bottom) / 2 / 10) }))
  equal(tops[0], tops[1], 'the line of the label, and of its buttons')
  return page
})

await scene('normal')
const wanted = process.argv.slice(2)
let failed = 0
const began = Date.now()
for (const t of tests.filter((t) => wanted.length === 0 || wanted.some((w) => t.name.includes(w)))) {
  const t0 = Date.now()
  try {
    await scene('normal')
    const page = await t.run()
    equal(page.faults, [], 'faults of the page')
    await page.close()
    console.log('ok    ', t.name, ((Date.now() - t0) / 1000).toFixed(1))
  } catch (e) {
    failed++
    console.log('FAILED', t.name, '\n       ', String(e.message).slice(0, 900))
    for (const p of context.pages()) if (p.url() !== 'about:blank') await p.close()
  }
}
console.log(`${failed ? failed + ' failed, ' : ''}${tests.length} tests, ${((Date.now() - began) / 1000).toFixed(1)} s`)
await close()
server.stop()
process.exit(failed ? 1 : 0)
