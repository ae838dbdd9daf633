import { expect, test } from 'vitest'
import { emptyForm, read, scalar, write } from './tapyaml'

test('texts that YAML would read as something else are quoted', () => {
  expect(['blue-db', '4h', '200Mbit/s', '3%', 'no', '10', 'a: b', "it's", 'tenant = "blue"', ''].map(scalar)).toEqual(['blue-db', '4h', '200Mbit/s', '3%', "'no'", "'10'", "'a: b'", "'it''s'", `'tenant = "blue"'`, "''"])
})
test('a tap with everything', () => {
  const f = { ...emptyForm, name: 'blue-db', owner: 'dba', reason: 'INC-7', select: 'tenant = "blue"', method: 'remote-mirror', direction: 'ingress', filter: 'tcp port 5432', slice: '128', groom: ['dedup'], destinations: ['ids-1'], mirror: '200Mbit/s', onExceed: 'sample', allow: ['uplinks'], paused: true }
  expect(write(f)).toBe(`apiVersion: crosstap/v1
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
`)
  expect(read(write(f))).toEqual(f)
})
test('a new destination is a document of its own', () => expect(write({ ...emptyForm, name: 'a', destinations: ['ids'] }, [{ name: 'ids', url: 'vxlan://10.0.0.9?vni=9001' }])).toContain(`---
apiVersion: crosstap/v1
kind: Destination
metadata:
  name: ids
spec:
  url: 'vxlan://10.0.0.9?vni=9001'
`))
test('another hand’s quotes and order are the same tap', () => expect(read('apiVersion: crosstap/v1\nkind: Tap\nmetadata:\n  name: "a"\nspec:\n  ttl: 4h\n  select: "vm = \\"x\\""\n')?.select).toBe('vm = "x"'))
test('what the form cannot hold stays as it is written', () => {
  expect(read('apiVersion: crosstap/v1\nkind: Tap\nmetadata:\n  name: a\nspec:\n  select: {vms: ["*"]}\n  vlans: [1, 2]\n')).toBe(null)
  expect(read(write(emptyForm, [{ name: 'd', url: 'udp://h:1' }]))).toBe(null)
})
