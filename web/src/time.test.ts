import { describe, expect, test } from 'vitest'
import { before, bounds, firstRange, instant, last, parseRange, parseSpan, parseTime, relativeSpan, scale, shift, spanText, type Range, ticks } from './time'

const now = Date.UTC(2026, 8, 21, 12, 0, 0)
const at = (h: number, min = 0) => new Date(now).setHours(h, min, 0, 0) // local, as people write it

describe('spans', () => {
  test.each<[string, number]>([
    ['90s', 90e3], ['15 min', 900e3], ['1h30m', 5400e3], ['2 days', 2 * 864e5], ['1.5 h', 5400e3], ['1 week', 7 * 864e5], ['', NaN], ['h', NaN], ['5 parsecs', NaN], ['5m x', NaN],
  ])('%s', (text, ms) => expect(parseSpan(text)).toBe(ms))
  test.each<[number, string]>([[90e3, '90s'], [900e3, '15m'], [36e5, '1h'], [864e5, '24h'], [7 * 864e5, '7d'], [1, '1s']])('%d is %s', (ms, text) => expect(spanText(ms)).toBe(text))
})

describe('times that the server understands', () => {
  test.each<[string, number]>([
    ['now', now], ['now-1h', now - 36e5], ['now-1h30m', now - 54e5], ['now+5m', now + 3e5], ['2026-09-21T12:00:00Z', now], ['1790000000', 1790000000e3], ['soon', NaN], ['now-', NaN], ['2026', NaN],
  ])('%s', (text, ms) => expect(parseTime(text, now)).toBe(ms))
})

describe('ranges that people write', () => {
  const f = (text: string, from: string, to = 'now') => expect(parseRange(text, now)).toEqual({ from, to })
  test('last 15 min', () => f('last 15 min', 'now-15m'))
  test('past hour', () => f('past hour', 'now-1h'))
  test('the last 2 hours', () => f('the last 2 hours', 'now-2h'))
  test('a bare span', () => f('90m', 'now-90m'))
  test('an hour ago', () => f('an hour ago', instant(now - 36e5)))
  test('since two hours ago', () => f('since 2 hours ago', instant(now - 72e5)))
  test('today', () => f('today', instant(at(0))))
  test('yesterday', () => f('Yesterday', instant(at(-24)), instant(at(0))))
  test('clock times', () => f('1:00 to 2:30', instant(at(1)), instant(at(2, 30))))
  test('yesterday at', () => f('yesterday 10:00 - yesterday 11:00', instant(at(-14)), instant(at(-13))))
  test('relative ends', () => f('now-3h..now-1h', 'now-3h', 'now-1h'))
  test('fixed ends', () => f('2026-09-20T00:00:00Z to 2026-09-21T00:00:00Z', '2026-09-20T00:00:00Z', '2026-09-21T00:00:00Z'))
  test.each(['', 'soon', 'last', '12:00 to 11:00', '99:99', 'now..now-1h', 'last -5 min'])('%s is none', (text) => expect(parseRange(text, now)).toBeNull())
})

describe('moving', () => {
  const f = (got: Range, from: string, to: string) => expect(got).toEqual({ from, to })
  test('earlier makes it fixed', () => f(shift(last(36e5), -1, now), '2026-09-21T10:00:00Z', '2026-09-21T11:00:00Z'))
  test('back to now makes it relative', () => f(shift({ from: '2026-09-21T10:00:00Z', to: '2026-09-21T11:00:00Z' }, 1, now), 'now-1h', 'now'))
  test('wider towards the past', () => f(scale(last(36e5), 2, now), 'now-2h', 'now'))
  test('narrower around the middle', () => f(scale({ from: '2026-09-21T08:00:00Z', to: '2026-09-21T10:00:00Z' }, 0.5, now), '2026-09-21T08:30:00Z', '2026-09-21T09:30:00Z'))
  test('never into the future', () => expect(bounds(scale({ from: '2026-09-21T10:00:00Z', to: '2026-09-21T11:59:00Z' }, 4, now), now).to).toBe(now))
  test('the week before', () => f(before({ from: 'now-1h', to: 'now' }, 7 * 864e5, now), 'now-169h', 'now-1h'))
  test('the hour before a fixed time', () => f(before({ from: '2026-09-21T10:00:00Z', to: 'now' }, 36e5, now), '2026-09-21T09:00:00Z', '2026-09-21T10:00:00Z'))
  test('the span of what ends now', () => expect([relativeSpan(last(36e5)), relativeSpan({ from: 'now-1h', to: 'now-5m' })]).toEqual([36e5, 0]))
})

test.each<[number, string]>([[10e3, 'now-5m'], [400e3, 'now-15m'], [1800e3, 'now-1h'], [36e5, 'now-1h']])('a store of %d ms', (age, from) => expect(firstRange(now - age, now).from).toBe(from))

test('ticks stand at full times of the zone', () => {
  const at = (list: number[]) => list.map((t) => new Date(t).toISOString().slice(11, 19))
  const t = Date.parse('2026-03-01T10:07:31Z')
  expect(at(ticks(t, t + 5 * 60e3, 6))).toEqual(['10:08:00', '10:09:00', '10:10:00', '10:11:00', '10:12:00'])
  expect(at(ticks(t, t + 3600e3, 8))).toEqual(['10:10:00', '10:20:00', '10:30:00', '10:40:00', '10:50:00', '11:00:00'])
  expect(ticks(t, t + 30 * 86400e3, 8, 3600e3).map((x) => new Date(x).toISOString().slice(5, 16))).toEqual(['03-03T23:00', '03-07T23:00', '03-11T23:00', '03-15T23:00', '03-19T23:00', '03-23T23:00', '03-27T23:00'])
})
