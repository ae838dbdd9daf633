import { expect, test } from 'vitest'
import { addDestination, put, read, write, type TapForm } from './tapyaml'

const owner = (text: string) => /owner: (.*)/.exec(put(write({ name: 'a' }), 'owner', text))?.[1]

test('texts that YAML would read as something else are quoted', () => {
  expect(['blue-db', '4h', '200Mbit/s', '3%', 'no', '10', 'a: b', "it's", 'tenant = "blue"'].map(owner)).toEqual(['blue-db', '4h', '200Mbit/s', '3%', "'no'", "'10'", "'a: b'", "'it''s'", `'tenant = "blue"'`])
  for (const text of ['no', '10', 'a: b', "it's", 'x # y', '  spaces ', '[1]', '{a}', '- b', '"', '\\']) expect(read(put(write({ name: 'a' }), 'owner', text)).form.owner).toBe(text)
})

const whole: TapForm = {
  name: 'blue-db', owner: 'dba', reason: 'INC-7', select: 'tenant = "blue"', exclude: '', method: 'remote-mirror', direction: 'ingress', filter: 'tcp port 5432', slice: '128', sample: '', groom: ['dedup'], destinations: ['ids-1'], mirror: '200Mbit/s', cpu: '', onExceed: 'sample',
  ttl: '4h', lease: '', tenant: '', drift: 'enforce', allow: ['uplinks'], paused: true,
}

test('a tap with everything, in whatever order it is filled in', () => {
  const text = `apiVersion: crosstap/v1
kind: Tap
metadata:
  name: blue-db
  owner: dba
  reason: INC-7
spec:
  select: 'tenant = "blue"'
  method: remote-mirror
  direction: ingress
  filter: 'tcp port 5432'
  slice: 128
  groom: [dedup]
  destinations: [ids-1]
  budget:
    mirror: 200Mbit/s
    onExceed: sample
  ttl: 4h
  allow: [uplinks]
  paused: true
`
  expect(write(whole)).toBe(text)
  expect(write(Object.fromEntries(Object.entries(whole).reverse()))).toBe(text)
  expect(read(text)).toEqual({ form: whole, made: [], beyond: [], fault: '' })
})

test('what goes back to its usual value is not written any more', () => {
  let text = write(whole)
  for (const [key, value] of Object.entries({ mirror: '', onExceed: 'refuse', method: 'auto', direction: 'both', slice: '', groom: [], allow: [], paused: false, owner: '', reason: '', filter: '', ttl: '' })) text = put(text, key as keyof TapForm, value)
  expect(text).toBe(`apiVersion: crosstap/v1\nkind: Tap\nmetadata:\n  name: blue-db\nspec:\n  select: 'tenant = "blue"'\n  destinations: [ids-1]\n`)
})

test('another hand’s comments, order, indent and keys stay', () => {
  const text = `# for the auditors
apiVersion: crosstap/v1
kind: Tap
metadata:
    name: "a" # short
    labels: {team: dba}
spec:
    ttl: 4h

    # all of them
    select: {vms: ["web-*", db-1], tags: {env: prod}}
    destinations:
        - ids-1
        - ids-2
    vlans: [1, 2]
    budget: {cpu: 3%}
`
  const r = read(text)
  expect([r.form.name, r.form.ttl, r.form.cpu, r.form.destinations, r.form.select, r.beyond, r.fault]).toEqual(['a', '4h', '3%', ['ids-1', 'ids-2'], '(vm ~ "web-*" or vm = "db-1") and tag.env = "prod"', ['metadata.labels', 'vlans'], ''])
  expect(put(text, 'ttl', '8h')).toBe(text.replace('4h', '8h'))
  expect(put(text, 'name', 'b')).toContain('    name: b # short\n')
  expect(put(text, 'destinations', ['ids-2'])).toContain('    destinations:\n        - ids-2\n')
  expect(put(text, 'filter', 'arp')).toContain('    filter: arp\n    destinations:')
  expect(put(text, 'select', 'vm = "x"')).toContain(`    # all of them\n    select: 'vm = "x"'\n`)
})

test('a new destination is a document of its own', () => {
  const text = addDestination(write({ name: 'a', destinations: ['ids'] }), { name: 'ids', url: 'vxlan://10.0.0.9?vni=9001' })
  expect(text).toContain("---\napiVersion: crosstap/v1\nkind: Destination\nmetadata:\n  name: ids\nspec:\n  url: 'vxlan://10.0.0.9?vni=9001'\n")
  expect(read(text).made).toEqual([{ name: 'ids', url: 'vxlan://10.0.0.9?vni=9001' }])
  const other = addDestination(text, { name: 'ids', url: 'gre://10.0.0.8?key=1' })
  expect([read(other).made, read(other).form.name]).toEqual([[{ name: 'ids', url: 'gre://10.0.0.8?key=1' }], 'a'])
  expect(put(other, 'ttl', '1h')).toContain('---\napiVersion')
})

test('a text that cannot be read is left alone, and says why', () => {
  const text = 'kind: Tap\nspec:\n  select: [a\n'
  expect(read(text).fault).toMatch(/line \d+, column \d+/)
  expect(put(text, 'name', 'b')).toBe(text)
  expect(read('').fault).toBe('kind: Tap')
  expect(read('just words').fault).toBe('kind: Tap')
  expect(put('kind: Tap\n', 'name', 'b')).toContain('metadata:\n  name: b\n')
})
