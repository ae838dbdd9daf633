// As much of the flow filter as the tests need: clauses joined by "and", with =, !=, in and like, and host.

export class FilterError extends Error {
  constructor(pos, len, message, suggestion = '') {
    super(message)
    Object.assign(this, { pos, len, suggestion })
  }
}

const either = (name) => (p) => [p['src_' + name], p['dst_' + name]]
const fields = {
  vni: (p) => [p.vni], tenant: (p) => [p.tenant], segment: (p) => [p.segment], fabric: (p) => [p.fabric], app: (p) => p.apps ?? [p.app], proto: (p) => [p._proto], observer: (p) => p.seen_by, seen_by: (p) => p.seen_by,
  vm: either('vm'), host: either('host'), ip: either('addr'), vtep: either('vtep'), port: (p) => [p._port, p.src_port, ...p._ports],
  vm_id: either('vm_id'), 'outer.port': () => [49152], 'src.vm_id': (p) => [p.src_vm_id],
  exporter: () => ['10.201.0.1'],
  'src.vm': (p) => [p.src_vm], 'dst.vm': (p) => [p.dst_vm], 'src.ip': (p) => [p.src_addr], 'dst.ip': (p) => [p.dst_addr], 'src.host': (p) => [p.src_host], 'dst.host': (p) => [p.dst_host],
  'src.vtep': (p) => [p.src_vtep], 'dst.vtep': (p) => [p.dst_vtep], 'src.port': (p) => [p.src_port], 'dst.port': (p) => [p._port],
}

export function compile(f) {
  if (f.trim() === '') return () => true
  const tests = []
  let at = 0
  for (const piece of f.split(/(\s+and\s+)/i)) {
    if (!/^\s+and\s+$/i.test(piece)) tests.push(test(piece, Buffer.byteLength(f.slice(0, at))))
    at += piece.length
  }
  return (p) => tests.every((t) => t(p))
}

function test(text, at) {
  const m = /^(\s*\(?\s*)([\w.]+)\s*(!=|=|like\b)?\s*(.*?)\)?\s*$/is.exec(text)
  if (!m || !fields[m[2].toLowerCase()]) {
    const name = m?.[2] ?? text
    const near = Object.keys(fields).find((k) => k[0] === name[0] && k.length <= name.length + 1)
    throw new FilterError(at + (m?.[1].length ?? 0), Math.max(1, Buffer.byteLength(name)), `unknown field "${name}"`, near ? `did you mean "${near}"?` : '')
  }
  if (!m[3]) throw new FilterError(at + Buffer.byteLength(text), 1, 'expected an operator', 'write = or != after the field')
  if (m[4] === '') throw new FilterError(at + Buffer.byteLength(text), 1, 'expected a value after ' + m[3])
  const value = m[4].replace(/^"|"$/g, '')
  const get = fields[m[2].toLowerCase()]
  const like = new RegExp('^' + value.replace(/[.*+?^${}()|[\]\\]/g, '\\$&').replace(/%/g, '.*') + '$')
  if (m[3] === 'like') return (p) => get(p).some((v) => like.test(String(v)))
  return (p) => get(p).some((v) => String(v) === value) === (m[3] === '=')
}

export function check(f) {
  try {
    compile(f)
    return { ok: true, error: null }
  } catch (e) {
    if (!(e instanceof FilterError)) throw e
    return { ok: false, error: { message: e.message, location: 'query.f', value: f, pos: e.pos, len: e.len, suggestion: e.suggestion } }
  }
}

export function complete(f, pos) {
  const before = Buffer.from(f).subarray(0, pos).toString()
  const word = /[\w."-]*$/.exec(before)[0]
  const after = before.slice(0, before.length - word.length)
  const values = { tenant: ['"blue"', '"green"', '"orange"', '"rose"', '"teal"', '"violet"'], vni: ['5001', '5002', '5003', '5004', '5005', '5006'], app: ['"postgres"', '"http-alt"', '"amqp"', '"redis"', '"dns"'] }
  const field = /([\w.]+)\s*(!=|=)\s*$/.exec(after)
  const kinds = field ? ['value', values[field[1]] ?? []] : /[\w.]+\s+$/.test(after) && !/\b(and|or|not)\s+$/.test(after) ? ['operator', ['=', '!=', 'in', 'like', 'and', 'or']] : ['field', Object.keys(fields)]
  const found = kinds[1].filter((t) => t.toLowerCase().startsWith(word.toLowerCase()))
  return { completions: found.map((text) => ({ text, kind: kinds[0], detail: kinds[0] === 'field' ? 'either end or one' : '', from: pos - Buffer.byteLength(word), to: pos })) }
}
