import { describe, expect, test } from 'vitest'
import { add, clause, conjuncts, fromBytes, replaceClause, toBytes, tokens } from './filter'
import { parseSelection, selectionFilter } from './drill'

test.each<[string, string | number, boolean, string]>([
  ['vni', 5001, false, 'vni = 5001'], ['vm', 'web-1', true, 'vm != "web-1"'], ['ip', '10.0.0.1', false, 'ip = 10.0.0.1'], ['ip', 'fd00::1', false, 'ip = fd00::1'],
  ['segment', 'vxlan:5001', false, 'segment = "vxlan:5001"'], ['vm', 'a "b" \\c', false, 'vm = "a \\"b\\" \\\\c"'], ['port', '443', false, 'port = 443'],
])('%s %s', (field, value, not, want) => expect(clause(field, value, not)).toBe(want))

describe('joining', () => {
  const f = (filter: string, more: string, want: string) => expect(add(filter, more)).toBe(want)
  test('to nothing', () => f(' ', 'a = 1', 'a = 1'))
  test('with and', () => f('a = 1', 'b = 2', 'a = 1 and b = 2'))
  test('twice is once', () => f('a = 1 and b = 2', 'b = 2', 'a = 1 and b = 2'))
  test('or needs brackets', () => f('a = 1 or b = 2', 'c = 3', '(a = 1 or b = 2) and c = 3'))
  test('or in brackets or text does not', () => f('(a = 1 or b = 2) and vm = "x or y"', 'c = 3', '(a = 1 or b = 2) and vm = "x or y" and c = 3'))
  test('the opposite goes', () => expect(replaceClause('a = 1 and b != 2', 'b = 2', 'b != 2')).toBe('a = 1 and b = 2'))
  test('conjuncts', () => expect(conjuncts('a = 1 and (b = 2 and c = 3) and d = "x and y"')).toEqual(['a = 1', '(b = 2 and c = 3)', 'd = "x and y"']))
})

test('colouring covers every letter, whatever is typed', () => {
  for (const text of ['vni = 5001 and src.vm like "web-%"', '"open', "it's", '((', 'é☃ = 𝒳', 'ip in fd00::/8 -- why', '/* a', '', ' ']) {
    expect(tokens(text).map((t) => t.text).join('')).toBe(text)
  }
  expect(tokens('vni = 5001 and not x').map((t) => t.kind).filter((k) => k !== 'space')).toEqual(['field', 'op', 'number', 'logic', 'logic', 'word'])
})

test('positions count bytes there and letters here', () => {
  const text = 'vm = "é𝒳" and'
  for (let i = 0; i <= text.length; i++) if (i !== 8) expect(fromBytes(text, toBytes(text, i))).toBe(i) // 8 is inside 𝒳
})

describe('selections', () => {
  const f = (key: string, want: string) => expect(selectionFilter(parseSelection(key)!)).toBe(want)
  test('pair', () => f('vxlan:5001,web-1@10.0.0.1,10.0.0.2', 'segment = "vxlan:5001" and vm = "web-1" and ip = 10.0.0.1 and ip = 10.0.0.2'))
  test('conversation', () => f('vxlan:5001,10.0.0.1,10.0.0.2,tcp,40000,443', 'segment = "vxlan:5001" and ip = 10.0.0.1 and ip = 10.0.0.2 and proto = "tcp" and port = 40000 and port = 443'))
  test('no ports', () => f('vlan:7,10.0.0.1,10.0.0.2,icmp,0,0', 'segment = "vlan:7" and ip = 10.0.0.1 and ip = 10.0.0.2 and proto = "icmp"'))
  test('another fabric', () => f('east@vxlan:1,10.0.0.1,10.0.0.2', 'fabric = "east" and segment = "vxlan:1" and ip = 10.0.0.1 and ip = 10.0.0.2'))
  test('odd names', () => f('vxlan:1,a%2Cb%40c@10.0.0.1,10.0.0.2', 'segment = "vxlan:1" and vm = "a,b@c" and ip = 10.0.0.1 and ip = 10.0.0.2'))
  test.each(['', 'a', 'a,b', 'a,%zz@b,c'])('%s is none', (key) => expect(parseSelection(key)).toBeNull())
})
