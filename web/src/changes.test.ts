import { expect, test } from 'vitest'
import type { ChangeDoc, PlanStep, PlannedTap } from './api'
import { outcomeOf, progress } from './changes'

const step = (host: string, summary: string): PlanStep => ({ platform: 'dc', host, policy: 'a', session: 'a/' + host, phase: 1, action: 'create', object: 'Mirror a', summary, commands: [] })
const journal = (n: number, s: PlanStep, state: string, error = '') => ({ change: 3, n, platform: s.platform, policy: 'a', step: JSON.stringify(s), state, at: new Date(1000 * n).toISOString(), error })
const change = (steps: ReturnType<typeof journal>[], more: Partial<ChangeDoc> = {}): ChangeDoc => ({ id: 3, at: '', who: 'ana', action: 'apply', state: 'running', steps, ...more })
const plan = [step('h1', 'one'), step('h1', 'two'), step('h2', 'three')]
const short = (c: ChangeDoc | null, ended = false, taps: PlannedTap[] | null = null) => progress(c, plan, taps, ended).map((h) => `${h.host} ${h.state} ${h.done}/${h.all} ${h.error || h.what}`.trim())

test('before anything is done all hosts wait', () => expect(short(null)).toEqual(['h1 waiting 0/2', 'h2 waiting 0/1']))
test('each host goes its own way', () => {
  expect(short(change([journal(1, plan[0]!, 'done'), journal(2, plan[1]!, 'doing')]))).toEqual(['h1 doing 1/2 two', 'h2 waiting 0/1'])
  expect(short(change([journal(1, plan[0]!, 'done'), journal(2, plan[1]!, 'done'), journal(3, plan[2]!, 'failed', 'h2: no room')]))).toEqual(['h1 done 2/2 two', 'h2 failed 0/1 h2: no room'])
  expect(short(change([journal(1, plan[0]!, 'undone'), journal(2, plan[1]!, 'failed', 'gone')]))).toEqual(['h1 failed 0/2 gone', 'h2 waiting 0/1'])
})
test('steps that no plan foresaw count, and names come from the places', () => {
  const taps = [{ places: [{ platform: 'dc', session: 'a/h1', host: 'esx1' }] }] as unknown as PlannedTap[]
  expect(short(change([journal(1, step('h3', 'x'), 'done')]), true, taps)).toEqual(['esx1 waiting 0/2', 'h2 waiting 0/1', 'h3 done 1/1 x'])
})
test('a report is read, and one that is not JSON is none', () => {
  expect(outcomeOf(change([], { report: '{"state":"partly","steps":2,"took_ms":41,"platforms":[],"refusals":[]}' }))?.took_ms).toBe(41)
  expect([outcomeOf(change([], { report: 'x' })), outcomeOf(change([])), outcomeOf(null)]).toEqual([null, null, null])
})
test('a session of a switch that several hosts have is one', () => {
  const taps = [{ places: ['a', 'b', 'c'].map((host) => ({ platform: 'dc', session: 'a/h1', host, switch: 'DVS0' })) }] as unknown as PlannedTap[]
  expect(short(null, false, taps)).toEqual(['DVS0, 3 hosts waiting 0/2', 'h2 waiting 0/1'])
})
