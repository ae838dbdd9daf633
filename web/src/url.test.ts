import { describe, expect, test } from 'vitest'
import { decode, defaults, encode, type View } from './url'

describe('a view survives the way through its URL', () => {
  const f = (view: Partial<View>, want: string) => {
    const full = { ...defaults, ...view }
    expect(encode(full)).toBe(want)
    const [path, search] = want.split('?')
    expect(decode(path!, search!)).toEqual({ view: full, newer: false, missing: '' })
  }
  test('defaults', () => f({}, '?v=1&from=now-1h&to=now'))
  test('a page', () => f({ page: 'tenants/pairs' }, 'tenants/pairs?v=1&from=now-1h&to=now'))
  test('a filter is readable', () => f({ page: 'flows', f: 'vni = 5001' }, 'flows?v=1&from=now-1h&to=now&f=vni%20%3D%205001'))
  test('text that means something in URLs', () => f({ f: 'vm like "a&b=c#d%?+é"' }, '?v=1&from=now-1h&to=now&f=vm%20like%20%22a%26b%3Dc%23d%25%3F%2B%C3%A9%22'))
  test('fixed times stay readable', () => f({ from: '2026-01-02T15:04:05Z', to: '2026-01-02T16:04:05Z' }, '?v=1&from=2026-01-02T15:04:05Z&to=2026-01-02T16:04:05Z'))
  test('a selection with IPv6 and two levels', () =>
    f({ page: 'tenants/pairs', sel: 'vxlan:5001,fd00::1,fd00::2>vxlan:5001,fd00::1,fd00::2,tcp,1,2' }, 'tenants/pairs?v=1&from=now-1h&to=now&sel=vxlan:5001,fd00::1,fd00::2>vxlan:5001,fd00::1,fd00::2,tcp,1,2'))
  test('everything', () =>
    f({ page: 'tenants/conversations', sort: '-octets', by: ['src_vm', 'app'], metric: 'packets', as: 'table', live: true }, 'tenants/conversations?v=1&from=now-1h&to=now&by=src_vm,app&metric=packets&sort=-octets&as=table&live=1'))
  test('a machine', () => f({ page: 'vm', name: 'web-1', from: 'now-24h' }, 'vm?v=1&from=now-24h&to=now&name=web-1'))
  test('an exploration', () =>
    f({ page: 'explore', by: ['src.vm', 'dst.port'], metric: 'rtt', per: 'observer', having: 'bytes > 1 MB', n: 50, prev: true }, 'explore?v=1&from=now-1h&to=now&by=src.vm,dst.port&metric=rtt&per=observer&having=bytes%20>%201%20MB&n=50&prev=1'))
  test('a map', () =>
    f({ page: 'map', by: ['tenant'], base: '7d', expand: ['blue/web', 'blue/a,b'], focus: 'blue/db', hops: 2 }, 'map?v=1&from=now-1h&to=now&by=tenant&base=7d&expand=blue/web&expand=blue/a,b&focus=blue/db&hops=2'))
})

// Links that were ever handed out, and what they mean today. Lines are only added.
describe('old and hand-written links', () => {
  const f = (link: string, want: Partial<View>) => {
    const [path, search] = link.split('?')
    expect(decode(path!, search ?? '').view).toEqual({ ...defaults, ...want })
  }
  test.each<[string, Partial<View>]>([
    ['', {}],
    ['tenants', { page: 'tenants/pairs' }],
    ['/tenants/pairs/', { page: 'tenants/pairs' }],
    ['pairs', { page: 'tenants/pairs' }],
    ['conversations?since=now-15m', { page: 'tenants/conversations', from: 'now-15m' }],
    ['flows?since=now-2h&until=now-1h&filter=port+443', { page: 'flows', from: 'now-2h', to: 'now-1h', f: 'port 443' }],
    ['pairs?sort=-bytes&metric=bits', { page: 'tenants/pairs', sort: '-octets' }],
    ['tenants/pairs?v=1&from=now-1h&to=now&f=vni%20%3D%205001&by=vni&sort=-octets', { page: 'tenants/pairs', f: 'vni = 5001', by: ['vni'], sort: '-octets' }],
    ['exporters?v=1', { page: 'exporters' }],
    ['tenants/networks?v=1&sort=-vms', { page: 'tenants/networks', sort: '-vms' }],
    ['vm?name=db-1', { page: 'vm', name: 'db-1', from: 'now-24h' }],
    ['map?v=1&from=now-24h&to=now&by=tenant,tier&base=7d&expand=blue/web&focus=blue/db&hops=2', { page: 'map', from: 'now-24h', by: ['tenant', 'tier'], base: '7d', expand: ['blue/web'], focus: 'blue/db', hops: 2 }],
    ['explore?v=1&by=src.vm,dst.port&n=20&prev=1', { page: 'explore', by: ['src.vm', 'dst.port'], n: 20, prev: true }],
    ['irregular?v=1&by=beacon&base=30d', { page: 'irregular', by: ['beacon'], base: '30d' }],
    ['coverage?v=1&by=host', { page: 'coverage', by: ['host'] }],
    ['inventory?v=1&from=now-24h&name=web-1', { page: 'inventory', from: 'now-24h', name: 'web-1' }],
    ['topology?v=1&expand=h1&as=table', { page: 'topology', expand: ['h1'], as: 'table' }],
    ['taps?v=1&step=select&q=vm%20%3D%20%22web-1%22', { page: 'taps', step: 'select', q: 'vm = "web-1"' }],
    ['filters?v=1&q=vxlan%205001&link=linux-sll2', { page: 'filters', q: 'vxlan 5001', link: 'linux-sll2' }],
    ['filters?q=tcp', { page: 'filters', q: 'tcp' }],
    ['sql?v=1&q=SELECT%201', { page: 'sql', q: 'SELECT 1' }],
    ['explore?v=1&vis=heat', { page: 'explore', vis: 'heat' }],
  ])('%s', f)
})

describe('what nobody meant is dropped', () => {
  const f = (search: string, want: Partial<View>, newer = false) => expect(decode('', search)).toEqual({ view: { ...defaults, ...want }, newer, missing: '' })
  test('a page that there is not is said', () => expect(['nowhere', 'tenants/none', 'explore', 'tenants', '', 'pairs'].map((p) => decode(p, '').missing)).toEqual(['nowhere', 'tenants/none', '', '', '', '']))
  test('bad sort, metric, view', () => f('v=1&sort=a;b&metric=x&as=pie', {}))
  test('bad numbers and base', () => f('v=1&hops=-1&n=x&base=yesterday&per=a;b', {}))
  test('a metric of another page', () => f('v=1&metric=rtt', {}))
  test('an unknown step, picture and link type', () => f('v=1&step=x&vis=pie&link=A;B', {}))
  test('too many splits', () => f('v=1&by=a,b,c,d,e', { by: ['a', 'b', 'c', 'd'] }))
  test('a later version', () => f('v=9&from=now-2h', { from: 'now-2h' }, true))
  test('no version at all', () => f('v=x', {}))
})
