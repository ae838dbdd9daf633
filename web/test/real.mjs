// The console against a real server: node test/real.mjs http://127.0.0.1:8474/ (one that has flows, such as "crosstap
// demo"). First its OpenAPI is compared with src/api.ts, name by name; then a browser walks through the pages.
import { readFileSync } from 'node:fs'
import { assert, browse, equal, open, until } from './lib.mjs'

const base = (process.argv[2] ?? 'http://127.0.0.1:8474/').replace(/\/*$/, '/')
const source = readFileSync(new URL('../src/api.ts', import.meta.url), 'utf8')

/** typed gives the property names of an interface of api.ts, those it extends included. */
function typed(name) {
  const head = new RegExp(`export interface ${name}(?:<\\w+>)?(?: extends ([\\w, ]+))? \\{`).exec(source)
  assert(head, 'api.ts has no ' + name)
  let depth = 1
  let at = head.index + head[0].length
  let body = ''
  for (; depth > 0; at++) {
    if (source[at] === '}') depth--
    if (depth === 1) body += source[at]
    if (source[at] === '{') depth++
  }
  const own = [...body.matchAll(/(\w+)\??:/g)].map((p) => p[1])
  return [...(head[1] ?? '').split(', ').filter(Boolean).flatMap(typed), ...own]
}

async function contract() {
  const { components } = await (await fetch(base + 'openapi.json')).json()
  const names = {
    Flow: 'Flow', Line: 'Line', Link: 'Link', Gap: 'Gap', Empty: 'Empty', Meta: 'Meta', Completeness: 'Completeness', Pair: 'Pair', Conversation: 'Conversation', ObserverRow: 'ObserverRow', SegmentTotal: 'SegmentTotal', Overview: 'Overview', Series: 'Series', Sankey: 'Sankey', Exporter: 'Exporter', Status: 'Status', Finding: 'Finding', Output: 'Output', Listener: 'Listener', FilterCheck: 'FilterCheck', Completion: 'Completion', Tick: 'Tick', Statement: 'Statement', Fault: 'Fault',
    Network: 'Network', Networks: 'Networks', Thing: 'Thing', Side: 'Side', Placement: 'Placement', Peer: 'Peer', Service: 'Service', Change: 'Change', VMPage: 'VMPage', TopRow: 'TopRow', Top: 'Top', MapNode: 'MapNode', MapService: 'MapService', MapEdge: 'MapEdge', Hidden: 'Hidden', DependencyMap: 'Map',
    Sight: 'Sight', Observed: 'Observed', Carrier: 'Carrier', CoverageRow: 'CoverageRow', Coverage: 'Coverage', Irregularity: 'Irregularity', Irregular: 'Irregular',
    Adapter: 'Adapter', Adapters: 'Adapters', TopologyObserver: 'TopologyObserver', TopologyHost: 'TopologyHost', TopologyPort: 'TopologyPort', TopologyArc: 'TopologyArc', Topology: 'Topology', Explanation: 'Explanation',
    TapMatches: 'ControlMatches', TapMatch: 'ControlPlanMatch', Refusal: 'ControlPlatformRefusal', TapPlace: 'ControlPlanPlace', CopyCounter: 'ControlPlatformCounter', Outcome: 'ControlOutcome', MoveGap: 'ControlPlatformGap', JournalStep: 'ControlStateStep', PlanCoverage: 'ControlPlanCoverage', HostCoverage: 'ControlPlanHostCoverage', LeftOut: 'ControlPlanLeftOut', LaterEdit: 'ControlLater', TapPlan: 'ControlPlan', PlannedTap: 'ControlPlanTap', TapCost: 'ControlPlanCost', ControlledTap: 'ControlTapState', Applied: 'ControlApplied', ControlledTaps: 'ControlTaps', ControlResource: 'ControlResource',
  }
  const differences = []
  for (const [ours, theirs] of Object.entries(names)) {
    const schema = components.schemas[theirs]
    if (!schema) differences.push(`${theirs}: not in openapi.json`)
    else {
      const [a, b] = [new Set(typed(ours)), new Set(Object.keys(schema.properties))]
      for (const p of a) if (!b.has(p)) differences.push(`${ours}.${p}: only in api.ts`)
      for (const p of b) if (!a.has(p)) differences.push(`${ours}.${p}: only in openapi.json`)
    }
  }
  equal(differences, [], 'api.ts and openapi.json')
  console.log('ok     api.ts names what openapi.json names:', Object.keys(names).length, 'shapes')
}

async function walk() {
  const { context, close } = await browse()
  const rows = (page) => page.locator('section[aria-labelledby=rows] tbody tr:not(.space)')
  const step = async (name, path, run) => {
    const page = await open(context, base, path)
    await run(page)
    equal(page.faults, [], 'faults of ' + name)
    equal(await page.locator('[role=alert]').count(), 0, 'alerts of ' + name)
    await page.close()
    console.log('ok    ', name)
  }
  await step('overview', '?from=now-15m', async (p) => {
    await p.locator('.u-over').waitFor()
    await p.locator('section[aria-labelledby=sankey] g[role=button]').first().waitFor()
    await p.locator('section[aria-labelledby=top] tbody tr').first().waitFor()
  })
  await step('pair, conversation, rows', 'tenants/pairs?from=now-15m', async (p) => {
    await rows(p).first().locator('.open').click()
    await p.getByRole('heading', { name: 'The same traffic' }).waitFor()
    await p.locator('aside section, aside table').nth(1).waitFor()
    await until('observers', async () => (await p.locator('aside .scroll').nth(1).locator('tbody tr').count()) > 0)
    await p.locator('aside .open').first().click()
    await p.getByRole('heading', { name: 'Flow rows' }).waitFor()
    await until('rows of the conversation', async () => (await p.locator('aside .scroll').nth(2).locator('tbody tr').count()) > 0)
  })
  for (const field of ['segment', 'tenant', 'vm', 'ip', 'host', 'vtep', 'app', 'seen_by']) {
    await step('only this ' + field, 'tenants/pairs?from=now-15m', async (p) => {
      await rows(p).first().waitFor()
      const value = p.locator(`section[aria-labelledby=rows] button.val[data-field=${field}]`).first()
      await value.dispatchEvent('click')
      await p.getByRole('menuitem', { name: 'Only this' }).click()
      await until('filtered', () => new URL(p.url()).searchParams.get('f')?.startsWith(field + ' = '))
      await p.waitForLoadState('networkidle')
      assert((await rows(p).count()) > 0, 'rows with ' + new URL(p.url()).searchParams.get('f'))
    })
  }
  await step('every sort of every table', 'tenants/pairs?from=now-15m', async (p) => {
    for (const path of ['tenants/pairs', 'tenants/conversations', 'tenants/networks', 'tenants/underlay', 'vms', 'flows']) {
      await p.goto(base + path + '?from=now-5m')
      await rows(p).first().waitFor()
      const heads = p.locator('section[aria-labelledby=rows] th button')
      for (let i = 0; i < (await heads.count()); i++) {
        await heads.nth(i).click()
        await p.waitForLoadState('networkidle')
        equal(await p.locator('[role=alert]').count(), 0, `alerts after sorting ${path} by ${await heads.nth(i).innerText()}`)
      }
    }
  })
  await step('every split', '?from=now-15m', async (p) => {
    const select = p.locator('section[aria-labelledby=traffic] select')
    for (const by of await select.locator('option').evaluateAll((o) => o.map((x) => x.value))) {
      await select.selectOption(by)
      await p.waitForLoadState('networkidle')
      await p.locator('.legend li').nth(1).waitFor()
    }
  })
  await step('a mistake in the filter', 'flows?from=now-15m', async (p) => {
    await p.locator('#filter').fill('tenent = "blue" and vni = 1')
    await p.locator('#fault').waitFor()
    await p.locator('#filter').fill('ten')
    await p.locator('[role=option]', { hasText: 'tenant' }).first().waitFor()
  })
  await step('live', 'tenants/conversations?from=now-5m&live=1', async (p) => {
    await p.locator('.dot.stream').waitFor()
    await rows(p).first().waitFor()
  })
  await step('a machine', 'vms?from=now-15m', async (p) => {
    await rows(p).first().locator('a.val').first().click()
    await p.locator('.figures').getByText('Sent in the past 24 h').waitFor()
    await p.locator('section[aria-labelledby=series] svg g').first().waitFor()
    await rows(p).first().waitFor()
  })
  await step('the map: a group, its members, its machine', 'map?from=now-15m', async (p) => {
    const nodes = p.locator('section[aria-labelledby=rows] g[role=button]')
    await nodes.first().click()
    await p.getByRole('menuitem', { name: 'Show its members' }).click()
    await until('a member', () => new URL(p.url()).searchParams.has('expand'))
    await p.waitForLoadState('networkidle')
    await nodes.first().click()
    await p.getByRole('menuitem', { name: 'Open the page of this VM' }).click()
    await p.locator('.figures').waitFor()
  })
  await step('the map grouped by everything, with a baseline', 'map?from=now-5m&base=1d', async (p) => {
    const by = p.getByLabel('Group by')
    for (const value of await by.locator('option').evaluateAll((o) => o.map((x) => x.value))) {
      await by.selectOption(value)
      await p.waitForLoadState('networkidle')
      await p.locator('section[aria-labelledby=rows] g[role=button]').first().waitFor()
    }
    for (const name of ['SVG', 'DOT (Graphviz)', 'Mermaid', 'nftables']) equal((await p.request.get(await p.getByRole('link', { name, exact: true }).getAttribute('href'))).status(), 200, name)
  })
  await step('explore by every field and metric', 'explore?from=now-5m&by=app&n=20', async (p) => {
    await rows(p).first().waitFor()
    const names = await p.getByRole('combobox', { name: 'Add a field' }).locator('option').evaluateAll((o) => o.map((x) => x.value).filter(Boolean))
    assert(names.length > 20, 'the server names its fields')
    for (const name of ['src.vm', 'dst.port', 'tenant', 'src.host', 'observer'].filter((n) => names.includes(n))) {
      await p.goto(base + `explore?from=now-5m&by=app,${name}&prev=1`)
      await rows(p).first().waitFor()
    }
    for (const metric of ['packets', 'flows', 'l2_octets', 'rtt', 'rows']) {
      await p.getByLabel('Order by').selectOption(metric)
      await p.waitForLoadState('networkidle')
      await rows(p).first().waitFor()
    }
  })
  await step('coverage', 'coverage?from=now-15m', async (p) => {
    await rows(p).first().waitFor()
    await p.getByRole('button', { name: 'host', exact: true }).click()
    await until('by host', () => new URL(p.url()).searchParams.get('by') === 'host')
    await rows(p).first().waitFor()
  })
  await step('the inventory: picture and table', 'inventory?from=now-15m', async (p) => {
    await p.locator('section[aria-labelledby=rows] svg a').first().waitFor()
    await p.keyboard.press('t')
    await rows(p).first().waitFor()
  })
  await step('the topology: picture, tunnels, table', 'topology?from=now-15m', async (p) => {
    await p.locator('section[aria-labelledby=rows] g.row').first().waitFor()
    await p.locator('path.arc').first().waitFor({ state: 'attached' })
    await p.locator('section[aria-labelledby=tunnels] tbody tr').first().waitFor()
    await p.keyboard.press('t')
    await rows(p).first().waitFor()
  })
  for (const f of ['tcp dst port 443', 'vxlan 5001 and host 10.0.0.5', 'inner tcp port 5432', 'geneve and not arp', 'vlan 100 and udp port 53']) {
    await step('packet filter ' + f, 'filters?v=1&q=' + encodeURIComponent(f), async (p) => p.getByRole('region', { name: 'Program: Matcher' }).waitFor())
  }
  await step('every question in SQL', 'sql?from=now-15m', async (p) => {
    const names = await p.locator('section.none li button').allInnerTexts()
    assert(names.length > 2, 'questions to take')
    for (const name of names) {
      await p.goto(base + 'sql?from=now-15m')
      await p.getByRole('button', { name }).click()
      await p.locator('section[aria-labelledby=rows] [role=status]').getByText('rows in').waitFor()
    }
  })
  await step('taps', 'taps', async (p) => p.getByRole('button', { name: 'New tap' }).waitFor())
  await step('exporters', 'exporters', async (p) => p.locator('section[aria-labelledby=exporters] tbody tr').first().waitFor())
  await close()
}

await contract()
await walk()
