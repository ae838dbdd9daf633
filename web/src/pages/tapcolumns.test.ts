import { expect, test } from 'vitest'
import { errorPart } from './tapcolumns'

test('an error is bad while it lasts', () => {
  expect(errorPart({}, 'utc')).toEqual([])
  expect(errorPart({ error: 'no space left', error_at: '2026-11-23T01:02:03Z' }, 'utc')).toEqual([{ text: 'no space left', bad: true }])
})

test('an error that is over is told as past, with both times', () => {
  const [part] = errorPart({ error: 'no space left', error_at: '2026-11-23T01:02:03Z', recovered: '2026-11-23T01:05:00Z' }, 'utc')
  expect(part!.bad).toBeUndefined()
  expect(part!.faint).toBe(true)
  expect(part!.text).toMatch(/^over since .*01:05:00.*last error at .*01:02:03.*: no space left$/)
})
