import { expect, test } from 'vitest'
import type { Line } from './api'
import { SLOTS } from './colour'
import { looks } from './lines'

const line = (...key: string[]): Line => ({ key, total: 0, min: 0, max: 0, avg: 0, p95: 0, last: 0, values: [] }) as unknown as Line
const many = (n: number) => Array.from({ length: n }, (_, i) => line(`vm-${i}`))

test.each([1, 7, 8, 9, 15, 22])('%d lines and the rest: no two look the same', (n) => {
  const all = looks([...many(n), line('other')], ['src_vm'])
  expect(new Set(all.map((l) => `${l.slot}/${l.round}`)).size).toBe(n + 1)
  expect(all.at(-1)).toMatchObject({ slot: SLOTS - 1, round: 0 })
  expect(Math.max(...all.map((l) => l.round))).toBe(Math.ceil(n / (SLOTS - 1)) - 1) // stripes only where colours are used up
})

test('tenants keep their colour, and those that share one are told apart', () => {
  const [blue, navy, green] = looks([line('blue'), line('deep blue'), line('green')], ['tenant'])
  expect([blue!.slot, navy!.slot, green!.slot]).toEqual([0, 0, 2])
  expect([blue!.round, navy!.round].sort()).toEqual([0, 1])
  expect(green!.round).toBe(0)
})
