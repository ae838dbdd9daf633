import { expect, test } from 'vitest'
import type { Meta } from './api'
import { csv } from './file'

const meta = { schema: 1, report: 'vm', since: '2026-01-02T00:00:00Z', until: '2026-01-03T00:00:00Z', filter: 'vm = "a"\nand b = 1', resolution: 'raw', notes: ['a\nnote'], completeness: { ratio: null, lost_records: 3, dropped_records: 4, sampled_rows: 0, ambiguous_rows: 5, uncertain_octets: 6, gaps: [{ from: 'A', to: 'B', scope: 'collector', who: '', reason: 'killed' }] } } as unknown as Meta

test('a file says what its figures are, and quotes what needs it', () => {
  expect(csv('peers', meta, [{ name: 'a,"b"', octets: 12345678901, tenants: ['x', 'y'], none: null }])).toBe(
    '# crosstap vm: peers, schema 1\n# range 2026-01-02T00:00:00Z to 2026-01-03T00:00:00Z\n# filter vm = "a" and b = 1\n# resolution raw, complete unknown, lost records 3, not stored records 4, sampled rows 0, ambiguous rows 5\n# uncertain octets 6\n# gap A to B: collector  killed\n# note a note\nname,octets,tenants,none\n"a,""b""",12345678901,x;y,\n',
  )
})

test('a name is no formula', () => expect(csv('x', null, [{ a: '=1+1', b: '-5', c: -5, d: '@x', e: ['+1x', 'y'], f: 'a=b' }])).toBe("a,b,c,d,e,f\n'=1+1,-5,-5,'@x,'+1x;y,a=b\n"))

test('no rows, no meta', () => expect(csv('x', null, [])).toBe('\n'))
