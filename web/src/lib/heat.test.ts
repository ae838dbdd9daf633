import { expect, test } from 'vitest'
import { heightOf, strength } from './heat'

test('the greatest is the strongest, nothing is nothing', () => {
  expect(strength(100, 100)).toBe(1)
  expect(strength(0, 100)).toBe(0)
  expect(strength(5, 0)).toBe(0)
})
test('a thousandth is still seen', () => expect(strength(1, 1000)).toBeCloseTo(0.1))
test('each line has its own height', () => expect(heightOf(3) - heightOf(2)).toBe(24))
