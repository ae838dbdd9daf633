import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { addTool, blank, fromMachines, fromVLAN, put, read, split, tools, write, type TapForm } from './tapyaml'

const owner = (text: string) => /owner: (.*)/.exec(put(write({ name: 'a' }), 'owner', text))?.[1]

test('texts that YAML would read as something else are quoted', () => {
  expect(['blue-db', '4h', '200Mbit/s', '3%', 'no', '10', 'a: b', "it's", 'tenant = "blue"'].map(owner)).toEqual(['blue-db', '4h', '200Mbit/s', '3%', "'no'", "'10'", "'a: b'", "'it''s'", `'tenant = "blue"'`])
  for (const text of ['no', '10', 'a: b', "it's", 'x # y', '  spaces ', '[1]', '{a}', '- b', '"', '\\']) expect(read(put(write({ name: 'a' }), 'owner', text)).form.owner).toBe(text)
})

const whole: TapForm = {
  name: 'blue-db', owner: 'dba', reason: 'INC-7', labels: ['team=dba', 'tier=1'], select: 'tenant = "blue"', from: '', exclude: 'vm = "db-9"', method: 'flows-only', direction: 'ingress', filter: 'tcp port 5432', vlans: ['100', '200'], slice: '128', sample: '10', groom: ['dedup', 'mask="regex:a,b"'], destinations: ['ids-1'],
  protocol: 'ipfix', sampling: '64', active: '60s', idle: '15s', domain: '7', mirror: '200Mbit/s', cpu: '3%', onExceed: 'sample', ttl: '4h', lease: '5m', tenant: 'blue', drift: 'report', allow: ['uplinks'], paused: true, captureVM: 'cap', captureImage: 'template-1', captureGroup: 'span',
}
const wholeText = `apiVersion: crosstap/v1
kind: Tap
metadata:
  name: blue-db
  labels: {team: dba, tier: '1'}
  owner: dba
  reason: INC-7
spec:
  select: 'tenant = "blue"'
  exclude: 'vm = "db-9"'
  method: flows-only
  direction: ingress
  filter: 'tcp port 5432'
  vlans: [100, 200]
  slice: 128
  sample: 10
  groom: [dedup, 'mask="regex:a,b"']
  destinations: [ids-1]
  flows:
    protocol: ipfix
    sampling: 64
    active: 60s
    idle: 15s
    domain: 7
  budget:
    mirror: 200Mbit/s
    cpu: 3%
    onExceed: sample
  ttl: 4h
  lease: 5m
  tenant: blue
  drift: report
  allow: [uplinks]
  paused: true
  capture:
    vm: cap
    image: template-1
    group: span
`

test('a tap with everything, in whatever order it is filled in', () => {
  expect(write(whole)).toBe(wholeText)
  expect(write(Object.fromEntries(Object.entries(whole).reverse()))).toBe(wholeText)
  expect(read(wholeText)).toEqual({ form: whole, made: [], beyond: [], fault: '' })
})

test('the form has a field for each key of the schema', () => {
  const schema = JSON.parse(readFileSync(new URL('../../internal/control/policy/schema.json', import.meta.url), 'utf8'))
  const tap = schema.oneOf.find((x: { properties: { kind: { const: string } } }) => x.properties.kind.const === 'Tap').properties
  type Node = { type?: string; properties?: Record<string, Node>; enum?: string[]; items?: Node; oneOf?: unknown; examples?: unknown[] }
  const example = (key: string, n: Node): unknown => (n.properties && !n.oneOf ? Object.fromEntries(Object.entries(n.properties).map(([k, v]) => [k, example(k, v)])) : key === 'labels' ? { a: 'b' } : n.enum ? n.enum.at(-1) : n.type === 'array' ? [n.items?.enum?.[0] ?? (n.items?.type === 'integer' ? 7 : 'x')] : n.type === 'integer' ? 77 : n.type === 'boolean' ? true : 'x')
  const metadata = schema.$defs.metadata.properties
  const of = (props: Record<string, Node>) => Object.fromEntries(Object.entries(props).map(([k, v]) => [k, example(k, v)]))
  const text = JSON.stringify({ apiVersion: 'crosstap/v1', kind: 'Tap', metadata: of(metadata), spec: of(tap.spec.properties) })
  const { form, beyond, fault } = read(text)
  expect([beyond, fault]).toEqual([[], ''])
  const none = blank()
  expect((Object.keys(none) as (keyof TapForm)[]).filter((k) => JSON.stringify(form[k]) === JSON.stringify(none[k]))).toEqual([]) // each field has read something
  let out = text
  for (const [key, value] of Object.entries(form)) out = put(out, key as keyof TapForm, value)
  expect(read(out).form).toEqual(form)
})

test('what goes back to its usual value is not written any more', () => {
  let text = write(whole)
  for (const [key, value] of Object.entries(blank())) if (!['name', 'select', 'destinations'].includes(key)) text = put(text, key as keyof TapForm, value)
  expect(text).toBe(`apiVersion: crosstap/v1\nkind: Tap\nmetadata:\n  name: blue-db\nspec:\n  select: 'tenant = "blue"'\n  destinations: [ids-1]\n`)
})

test('what comes in on a VLAN stands in place of machines, and the way back loses nothing', () => {
  const before = write({ ...whole, method: 'auto' })
  const vlan = fromVLAN(before)
  expect(put(vlan.text, 'from', 'rspan:99')).toContain("spec:\n  from: rspan:99\n  filter: 'tcp port 5432'\n  slice: 128\n  sample: 10\n  destinations: [ids-1]\n  ttl: 4h\n")
  expect(read(vlan.text).form.select).toBe('')
  expect(fromMachines(put(vlan.text, 'from', 'rspan:99'), vlan.was)).toBe(before)
  expect(fromMachines('kind: Tap\nspec: {from: rspan:9}\n', {})).toBe("kind: Tap\nspec: {select: ''}\n")
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
    vlans: [1, 2] # the old ones
    budget: {cpu: 3%}
    flows: {protocol: sflow, other: 1}
`
  const r = read(text)
  expect([r.form.name, r.form.ttl, r.form.cpu, r.form.destinations, r.form.select, r.beyond, r.fault]).toEqual(['a', '4h', '3%', ['ids-1', 'ids-2'], '(vm ~ "web-*" or vm = "db-1") and tag.env = "prod"', ['flows.other'], ''])
  expect([r.form.labels, r.form.vlans, r.form.protocol]).toEqual([['team=dba'], ['1', '2'], 'sflow'])
  expect(put(text, 'ttl', '8h')).toBe(text.replace('4h', '8h'))
  expect(put(text, 'name', 'b')).toContain('    name: b # short\n')
  expect(put(text, 'destinations', ['ids-2'])).toContain('    destinations:\n        - ids-2\n')
  expect(put(text, 'vlans', ['2', '30'])).toContain('    vlans: [2, 30] # the old ones\n')
  expect(put(text, 'labels', ['team=net', 'site=a b'])).toContain("    labels: {team: net, site: 'a b'}\n")
  expect(put(text, 'protocol', '')).toContain('    flows: {other: 1}\n')
  expect(put(text, 'filter', 'arp')).toContain('    filter: arp\n    destinations:')
  expect(put(text, 'select', 'vm = "x"')).toContain(`    # all of them\n    select: 'vm = "x"'\n`)
})

test('labels that a list cannot say stay in the YAML', () => {
  const text = `kind: Tap\nmetadata:\n  labels: {note: 'a, b'}\n`
  expect([read(text).form.labels, read(text).beyond]).toEqual([[], ['metadata.labels']])
})

test('a list is cut at its commas, and not within quotes', () => {
  expect([split('a, b,,c '), split('mask="regex:a,b", dedup'), split('')]).toEqual([['a', 'b', 'c'], ['mask="regex:a,b"', 'dedup'], []])
})

test('a new destination is a document of its own', () => {
  const text = addTool(write({ name: 'a', destinations: ['ids'] }), { name: 'ids', url: 'vxlan://10.0.0.9?vni=9001', vm: '' })
  expect(text).toContain("---\napiVersion: crosstap/v1\nkind: Destination\nmetadata:\n  name: ids\nspec:\n  url: 'vxlan://10.0.0.9?vni=9001'\n")
  expect(read(text).made).toEqual([{ name: 'ids', url: 'vxlan://10.0.0.9?vni=9001', vm: '' }])
  const other = addTool(text, { name: 'ids', url: 'gre://10.0.0.8?key=1', vm: '' })
  expect([read(other).made, read(other).form.name]).toEqual([[{ name: 'ids', url: 'gre://10.0.0.8?key=1', vm: '' }], 'a'])
  expect(put(other, 'ttl', '1h')).toContain('---\napiVersion')
  const port = addTool(other, { name: 'ids', url: '', vm: 'ids-1' })
  expect(port).toContain('  name: ids\nspec:\n  port:\n    vm: ids-1\n')
  expect(tools(port)).toEqual([{ name: 'ids', url: '', vm: 'ids-1' }])
  expect(tools('kind: Destination\nmetadata: {name: b}\nspec: {port: {port: eth3, host: kvm-1}}\n')).toEqual([{ name: 'b', url: '', vm: 'eth3' }])
})

test('a text that cannot be read is left alone, and says why', () => {
  const text = 'kind: Tap\nspec:\n  select: [a\n'
  expect(read(text).fault).toMatch(/line \d+, column \d+/)
  expect(put(text, 'name', 'b')).toBe(text)
  expect(read('').fault).toBe('kind: Tap')
  expect(read('just words').fault).toBe('kind: Tap')
  expect(put('kind: Tap\n', 'name', 'b')).toContain('metadata:\n  name: b\n')
})
