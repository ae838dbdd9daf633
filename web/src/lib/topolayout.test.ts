import { expect, test } from 'vitest'
import type { Topology, TopologyPort } from '../api'
import { BOX, FOLD, HOSTS, inOrder, layout, narrowed, route } from './topolayout'

const port = (host: string, sw: string, name: string): TopologyPort => ({
  host, platform: '', switch: sw, switch_kind: 'ovs', group: '', port: name, kind: 'vm', vm: 'vm-' + name, vm_id: '', tenant: '', segment: '', fabric: '', mac: '', addrs: [], vlan: 0, up: null, taps: [], octets: null,
})
const doc = (hosts: string[], ports: TopologyPort[]): Topology => ({
  schema: 1, now: '', since: '', until: '', sources: ['inventory'], hosts: hosts.map((name, i) => ({ name, platform: '', vteps: [`10.0.0.${i + 1}`], down: false, observers: [] })), rows: ports,
  arcs: [{ a_vtep: '10.0.0.1', a_host: 'h1', b_vtep: '10.0.0.2', b_host: 'h2', segments: [], octets: 100, packets: 1 }, { a_vtep: '10.0.0.1', a_host: 'h1', b_vtep: '192.0.2.1', b_host: '', segments: [], octets: 50, packets: 1 }],
})

test('hosts stand side by side while there is room', () => {
  const d = layout(doc(['h1', 'h2', 'h3'], [port('h1', 'br0', 'a'), port('h2', 'br0', 'b')]), 2 * BOX + 30, [])
  expect(d.hosts.map((h) => [h.x, h.row])).toEqual([[0, 0], [290, 0], [0, 1]])
  expect(d.hosts[2]!.y).toBeGreaterThan(d.hosts[0]!.y + d.hosts[0]!.height)
  expect(d.width).toBe(2 * BOX + 22)
})
test('each switch has its ports, none overlaps', () => {
  const d = layout(doc(['h1'], [port('h1', 'br1', 'b'), port('h1', 'br0', 'a'), port('h1', 'br1', 'c')]), 900, [])
  const [first, second] = d.hosts[0]!.switches
  expect([first!.name, first!.ports.length, second!.name, second!.ports.length]).toEqual(['br0', 1, 'br1', 2])
  expect(second!.y).toBeGreaterThanOrEqual(first!.y + first!.height)
  expect(second!.ports[1]!.y - second!.ports[0]!.y).toBe(21)
})
test('many ports fold the hosts that nobody opened', () => {
  const ports = Array.from({ length: FOLD + 1 }, (_, i) => port(i % 2 ? 'h1' : 'h2', 'br0', 'p' + i))
  const d = layout(doc(['h1', 'h2'], ports), 900, ['h2'])
  expect(d.hosts.map((h) => [h.folded, h.switches[0]!.ports.length])).toEqual([[true, 0], [false, 61]])
})
test('a tunnel to somewhere else is not drawn', () => {
  const d = layout(doc(['h1', 'h2'], []), 900, [])
  expect(d.arcs.map((a) => [a.a.id, a.b.id, a.width])).toEqual([['h1', 'h2', 7]])
})
test('tunnels rise above their row, and go beside the boxes to another', () => {
  const d = layout(doc(['h1', 'h2', 'h3'], []), 2 * BOX + 30, [])
  const [a, b, c] = d.hosts
  expect(route(a!, b!, 0)).toMatch(/^M134 74C134 \d/)
  expect(route(b!, a!, 0)).toBe(route(a!, b!, 0))
  expect(route(b!, c!, 0)).toContain('V')
})
test('what is drawn of one column, as in a narrow window, stays within the picture', () => {
  const d = layout(doc(['h1', 'h2'], []), BOX + 10, [])
  const xs = [...d.arcs[0]!.path.matchAll(/(-?[\d.]+) -?[\d.]+/g)].map((m) => Number(m[1]))
  expect([d.hosts[1]!.row, d.arcs.length]).toEqual([1, 1])
  expect(Math.max(...xs) + d.arcs[0]!.width / 2).toBeLessThanOrEqual(d.width)
  expect(layout(doc(['h1'], []), BOX + 10, []).width).toBe(BOX)
})
test('a search keeps hosts by name with all their ports, and others with the ports that it finds', () => {
  const all = doc(['h1', 'h2', 'web'], [port('h1', 'br0', 'web-a'), port('h1', 'br0', 'db-a'), port('h2', 'br0', 'db-b'), port('web', 'br0', 'x')])
  const found = narrowed(all, ' WEB ')
  expect([found.hosts!.map((h) => h.name), found.rows!.map((p) => p.port)]).toEqual([['h1', 'web'], ['web-a', 'x']])
  expect(narrowed(all, '')).toBe(all)
  expect(narrowed(all, 'nobody').hosts).toEqual([])
})
test('more hosts than a picture holds are counted', () => {
  const d = layout(doc(Array.from({ length: HOSTS + 3 }, (_, i) => 'h' + i), []), 900, [])
  expect([d.hosts.length, d.hiddenHosts]).toEqual([HOSTS, 3])
})
test('numbers in names count', () => {
  const d = inOrder(doc(['h10', 'h2', 'h1'], [port('h10', 'br0', 'p1'), port('h2', 'br0', 'p10'), port('h2', 'br0', 'p9')]))
  expect([d.hosts!.map((h) => h.name), d.rows!.map((p) => p.host + p.port)]).toEqual([['h1', 'h2', 'h10'], ['h2p9', 'h2p10', 'h10p1']])
})
