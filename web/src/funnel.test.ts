import { expect, test } from 'vitest'
import type { AgentTap, ControlledTap, Statement } from './api'
import { passage, passedBy, stagesOf } from './funnel'

const book = (stage: string, unit: string, into: number, out: number, dropped: [string, number][] = [], held = 0): Statement => ({ stage, unit, in: into, out, held, dropped: dropped.map(([reason, n]) => ({ reason, n })) })
const tap = (...books: Statement[]) => ({ books }) as AgentTap
const adds = (s: Statement) => s.out + s.held + (s.dropped ?? []).reduce((n, d) => n + d.n, 0) === s.in

test('a tap in user space: a filter, groom steps, a tool', () => {
  const p = passage(tap(book('capture', 'frames', 100, 97, [['kernel_dropped', 3]]), book('filter', 'frames', 97, 40, [['filtered', 57]]), book('dedup', 'frames', 40, 30, [['duplicate', 10]]), book('groom', 'frames', 30, 30), book('queue', 'frames', 30, 29, [['queue_full', 1]]), book('deliver', 'frames', 29, 29)))
  expect(p).toEqual({ captured: 100, filtered: 40, groomed: 30, delivered: [{ unit: 'frames', n: 29 }], unit: 'frames', dropped: [{ reason: 'filtered', n: 57 }, { reason: 'duplicate', n: 10 }, { reason: 'kernel_dropped', n: 3 }, { reason: 'queue_full', n: 1 }] })
})

test('frames to a tool and records to a collector are never one figure', () => {
  const p = passage(tap(book('capture', 'frames', 10, 10), book('meter', 'frames', 10, 10), book('flow_cache', 'records', 4, 3, [], 1), book('export', 'records', 3, 3), book('deliver', 'frames', 10, 10)))
  expect([p.captured, p.filtered, p.groomed, p.delivered]).toEqual([10, null, null, [{ unit: 'frames', n: 10 }, { unit: 'records', n: 3 }]])
})

test('copies made in the kernel have the same funnel, and it adds up', () => {
  const stages = stagesOf([book('kernel', 'frames', 100, 20, [['filtered', 70], ['sampled_out', 5], ['lost', 4], ['over_rate', 0]], 1)])
  expect(stages.map((s) => [s.stage, s.in, s.out])).toEqual([['capture', 100, 100], ['filter', 100, 30], ['sample', 30, 25], ['deliver', 25, 20]])
  expect(stages.filter((s) => !adds(s))).toEqual([])
  const p = passage(tap(book('kernel', 'frames', 100, 20, [['filtered', 70], ['sampled_out', 5], ['lost', 5]])))
  expect([p.captured, p.filtered, p.groomed, p.delivered]).toEqual([100, 30, 25, [{ unit: 'frames', n: 20 }]])
})

test('flows counted in the kernel deliver records', () => {
  const stages = stagesOf([book('kernel', 'frames', 50, 38, [['filtered', 10], ['lost', 2]]), book('kernel_flows', 'records', 7, 7), book('export', 'records', 7, 7)])
  expect(stages.map((s) => [s.stage, s.in, s.out])).toEqual([['capture', 50, 48], ['filter', 48, 38], ['kernel_flows', 7, 7], ['export', 7, 7]])
  expect(stages.filter((s) => !adds(s))).toEqual([])
})

test('a tap that ran in user space before it went into the kernel', () => {
  const p = passage(tap(book('capture', 'frames', 10, 10), book('filter', 'frames', 10, 6, [['filtered', 4]]), book('deliver', 'frames', 6, 6), book('kernel', 'frames', 5, 3, [['filtered', 2]])))
  expect([p.captured, p.filtered, p.delivered, p.dropped]).toEqual([15, 9, [{ unit: 'frames', n: 9 }], [{ reason: 'filtered', n: 6 }]])
})

test('several agents are summed, a switch tells what it counts', () => {
  const copied = { packets: 7, drops: 2, bytes: 700, at: '' }
  const policy = { copied, counters: { 'kvm/x': copied } } as unknown as ControlledTap
  expect(passedBy(policy, [], 'could not leave')).toEqual({ captured: 9, filtered: null, groomed: null, delivered: [{ unit: 'packets', n: 7 }], unit: 'packets', dropped: [{ reason: 'could not leave', n: 2 }] })
  expect(passedBy({ copied: { packets: 0, drops: 0, bytes: 0, at: '' } } as ControlledTap, [], '')).toEqual({ captured: null, filtered: null, groomed: null, delivered: [], unit: 'packets', dropped: [] })
  const one = tap(book('capture', 'frames', 4, 4), book('filter', 'frames', 4, 3, [['filtered', 1]]), book('deliver', 'frames', 3, 3))
  const other = tap(book('capture', 'frames', 5, 5), book('deliver', 'frames', 5, 5))
  expect(passedBy(policy, [one, other], '')).toEqual({ captured: 9, filtered: 3, groomed: null, delivered: [{ unit: 'frames', n: 8 }], unit: 'frames', dropped: [{ reason: 'filtered', n: 1 }] })
  expect(passage(tap())).toEqual({ captured: null, filtered: null, groomed: null, delivered: [], unit: 'frames', dropped: [] })
})
