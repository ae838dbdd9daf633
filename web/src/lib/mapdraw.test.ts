import { expect, test } from 'vitest'
import type { DependencyMap, MapEdge, MapNode } from '../api'
import { drawn, edgePath, tenantOf, thickness } from './mapdraw'

const node = (id: string, x: number, y: number, more: Partial<MapNode> = {}): MapNode => ({ id, kind: 'group', label: id, group: id.split('/'), members: 1, octets: 1, layer: 0, x, y, ...more })
const edge = (src: string, dst: string, octets: number): MapEdge => ({
  src, dst, services: [], services_total: 0, octets_fwd: octets, octets_rev: 0, octets, packets: 1, octets_before: 0, links: 1, new_links: 0, gone_links: 0, cross_tenant: false, state: 'active', first_seen: '', last_seen: '',
})
const [a, b] = [node('blue/web', 120, 92), node('blue/db', 410, 158)]

test('an edge goes from the right side of the client to the left side of the server', () => expect(edgePath(a, b)).toBe('M210 92C261.5 92 268.5 158 313 158'))
test('an edge does not go through a box between', () => {
  const far = node('blue/far', 700, 92)
  expect(edgePath(a, far)).toBe('M210 92C406.5 92 413.5 92 603 92')
  expect(edgePath(a, far, [a, node('blue/mid', 410, 92), far])).toMatch(/^M210 92C341 46 /)
  expect(edgePath(a, far, [a, node('blue/mid', 410, 400), far])).toMatch(/^M210 92C341 92 /)
})
test('an edge back goes around', () => expect(edgePath(b, a)).toMatch(/^M410 136C410 54 120 54 120 63$/))
test('a group with itself is a loop', () => expect(edgePath(a, a)).toMatch(/^M210 84c/))
test('the greatest edge is drawn last, and edges without a box not at all', () => {
  const map = { nodes: [a, b], edges: [edge('blue/web', 'blue/db', 1000), edge('blue/db', 'blue/web', 10), edge('gone', 'blue/db', 5)] } as unknown as DependencyMap
  expect(drawn(map).map((d) => d.edge.octets)).toEqual([10, 1000])
})
test('width grows, slowly', () => expect(thickness(edge('', '', 1e9)) / thickness(edge('', '', 1e3))).toBeLessThan(3))
test('colour is the tenant’s, outside has none', () => {
  expect(tenantOf(node('web/blue', 0, 0), ['tier', 'tenant'])).toBe('blue')
  expect(tenantOf(node('blue/~', 0, 0, { kind: 'outside' }), ['tenant', 'tier'])).toBe('')
  expect(tenantOf(node('~/web', 0, 0), ['tenant', 'tier'])).toBe('')
})
