import { describe, expect, test } from 'vitest'
import { both, bytes, count, cut, duration, percent, rate, shortened, signed, within } from './format'

const plain = (s: string) => s.replaceAll('\u202f', ' ')

// The same figures as the command line writes them (internal/answer).
test.each<[number, string]>([[0, '0 B'], [999, '999 B'], [1000, '1.00 kB'], [1234, '1.23 kB'], [9994, '9.99 kB'], [9996, '10.0 kB'], [99_960, '100 kB'], [999_600, '1.00 MB'], [3.15e9, '3.15 GB'], [527e9, '527 GB'], [2e18, '2.00 EB'], [-1500, '−1.50 kB']])('%d B', (n, want) => expect(plain(bytes(n))).toBe(want))

test.each<[number, string, string]>([[12.3e6, 'bit/s', '12.3 Mb/s'], [0, 'bit/s', '0 b/s'], [0.31, 'packet/s', '0.31 p/s'], [47.2, 'flow/s', '47 f/s']])('%d %s', (n, unit, want) => expect(plain(rate(n, unit))).toBe(want))

test.each<[number, string]>([[0, '0 %'], [1, '100 %'], [0.00001, '< 0.01 %'], [0.99999, '> 99.99 %'], [0.0002, '0.02 %'], [0.0577, '5.77 %'], [0.941, '94.1 %'], [0.9998, '99.98 %']])('%d', (r, want) => expect(plain(percent(r))).toBe(want))

test.each<[number, string]>([[0, '0 ms'], [850, '850 ms'], [12e3, '12 s'], [200e3, '3 min 20 s'], [3600e3, '1 h'], [187.2e6, '2 d 4 h'], [86_401e3, '1 d']])('%d ms', (ms, want) => expect(duration(ms)).toBe(want))

describe('others', () => {
  test('count', () => expect(count(1234567)).toBe('1,234,567'))
  test('signed', () => expect([signed(3, String), signed(0, String), signed(-3, String)]).toEqual(['+3', '0', '-3']))
  test('both zones', () => expect(both(Date.UTC(2026, 8, 21, 12), 'utc')).toMatch(/^21 Sept? 2026, 12:00:00 UTC/))
})

test('a part within bounds', () => {
  expect(within(0.31, 0.31)).toBe('31.0\u202f%')
  expect(within(0.84, 0.9)).toBe('84.0\u202f% to 90.0\u202f%')
})

test('a long name is cut before its end and its domain', () => {
  expect(cut('prd-west-worker-node-0466.tenant-6.example.internal')).toEqual(['prd-west-worker-', 'node-0466', '.tenant-6.example.internal'])
  expect(cut('esx-104.rack-5.example.internal')).toEqual(['', 'esx-104', '.rack-5.example.internal'])
  expect(cut('10.200.100.100')).toEqual(['10.20', '0.100.100', ''])
  expect(cut('Green & Co. KG v1.2.3')).toEqual(['Green & Co. ', 'KG v1.2.3', ''])
})

test('long labels keep both ends, without their domain', () => {
  expect(shortened('abcdefgh', 5)).toBe('ab…gh')
  expect(shortened('abcdefgh', 8)).toBe('abcdefgh')
  expect(shortened('esx-007.rack-1.example.internal', 24)).toBe('esx-007…')
  expect(shortened('prd-west-kubernetes-worker-node-0466.tenant-6.example', 17)).toBe('prd-west…ode-0466')
  expect(shortened('tenant with a long name (production) / web', 24)).toBe('tenant with …tion) / web')
  expect(shortened('10.200.100.100 · 10.200.100.101', 24)).toBe('10.200.100.1…200.100.101')
})
