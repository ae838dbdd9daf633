// What the mock knows of places, packet filters and questions in SQL, in the shapes of internal/serve/api.
import * as data from './data.mjs'

const iso = (ms) => new Date(ms).toISOString()

/** machines are all virtual machines with their ports; some moved, some were renamed. */
export function machines(now, each = 16) {
  const out = []
  data.tenants.forEach((tenant, t) => data.tiers.forEach((tier, k) => {
    for (let n = 1; n <= each; n++) {
      const w = data.workload(tenant, tier, n)
      const mac = `02:00:${(n >> 8).toString(16).padStart(2, '0')}:${String(t).padStart(2, '0')}:${String(k).padStart(2, '0')}:${(n & 255).toString(16).padStart(2, '0')}`
      out.push({ vm: w.vm, vm_id: `id-${w.vm}`, tenant, host: w.host, switch: 'br-int', port: `vnet${(t * 5 + k) * each + n}`, segment: `vxlan:${5001 + t}`, fabric: 'default', mac, addrs: [w.addr], from: null, until: null, source: 'inventory', change: '' })
    }
  }))
  const at = (min) => iso(now - min * 6e4)
  const split = (name, min, was, change) => {
    const i = out.findIndex((r) => r.vm === name)
    out.splice(i, 1, { ...out[i], ...was, until: at(min) }, { ...out[i], from: at(min), change })
  }
  split('db-blue-03', 25, { host: 'kvm-20', port: 'vnet900' }, 'moved')
  split('api-green-07', 41, { host: 'kvm-01', port: 'vnet901' }, 'moved')
  split('web-rose-02', 12, { vm: 'web-rose-old' }, 'renamed')
  return out
}

export function adapters(c) {
  const name = (c.q.get('name') ?? '').toLowerCase()
  const all = new Map()
  for (const r of c.unknown ? [] : machines(c.now, c.each)) {
    if ((r.from && Date.parse(r.from) >= c.until) || (r.until && Date.parse(r.until) <= c.since)) continue
    all.set(r.vm_id, [...(all.get(r.vm_id) ?? []), r])
  }
  const shown = [...all.values()].filter((rows) => rows.some((r) => [r.vm, r.vm_id, r.tenant, r.host, r.port, r.segment, r.mac, ...r.addrs].some((x) => x.toLowerCase().includes(name))))
  const moved = (rows) => new Set(rows.map((r) => r.host)).size > 1
  shown.sort((a, b) => Number(moved(b)) - Number(moved(a)) || a[0].vm.localeCompare(b[0].vm))
  const rows = shown.flat()
  return { schema: 1, now: iso(c.now), since: iso(c.since), until: iso(c.until), machines: shown.length, moved: shown.filter(moved).length, total: rows.length, rows: rows.slice(0, c.limit) }
}

export function topology(c) {
  if (c.unknown) return { schema: 1, now: iso(c.now), since: iso(c.since), until: iso(c.until), sources: [], hosts: [], rows: [], arcs: [] }
  const few = c.few ? 3 : 24
  const hosts = Array.from({ length: few }, (_, i) => ({ name: data.host(i), platform: '', vteps: [`172.16.0.${i + 1}`], down: i === 5, observers: [{ name: `${data.host(i)} mirror`, role: 'mirror' }, { name: `${data.host(i)} vtep`, role: 'tunnel' }] }))
  const rows = machines(c.now, c.each).filter((r) => r.until === null && hosts.some((h) => h.name === r.host)).map((r, i) => ({
    host: r.host, platform: '', switch: r.switch, switch_kind: 'ovs', group: '', port: r.port, kind: 'vm', vm: r.vm, vm_id: r.vm_id, tenant: r.tenant, segment: r.segment, fabric: r.fabric, mac: r.mac, addrs: r.addrs, vlan: 0, up: i % 31 !== 7,
    taps: i % 11 === 2 ? ['blue-db'] : i % 29 === 5 ? ['(ids-span)'] : [], octets: null,
  }))
  for (const h of hosts) rows.push({ ...rows[0], host: h.name, port: 'vxlan_sys', kind: 'tunnel', vm: '', vm_id: '', tenant: '', segment: '', mac: '', addrs: h.vteps, up: true, taps: [] })
  rows.sort((a, b) => a.host.localeCompare(b.host) || a.switch.localeCompare(b.switch) || a.port.localeCompare(b.port))
  const arcs = new Map()
  for (const p of c.all) {
    if (p.same_host || !p.dst_vtep) continue
    const [a, b] = [p.src_vtep, p.dst_vtep].sort()
    const arc = arcs.get(a + b) ?? { a_vtep: a, a_host: hosts.find((h) => h.vteps[0] === a)?.name ?? '', b_vtep: b, b_host: hosts.find((h) => h.vteps[0] === b)?.name ?? '', segments: [], octets: 0, packets: 0 }
    arc.octets += p.octets
    arc.packets += p.packets
    if (!arc.segments.includes(p.segment)) arc.segments.push(p.segment)
    arcs.set(a + b, arc)
  }
  return { schema: 1, now: iso(c.now), since: iso(c.since), until: iso(c.until), sources: ['inventory'], hosts, rows, arcs: [...arcs.values()].sort((a, b) => b.octets - a.octets) }
}

/** explain answers for expressions of the tests; a word that it does not know is a mistake with its place. */
export function explain(q) {
  const f = q.get('f') ?? ''
  const wrong = /\b(prot|hots|tpc)\b/.exec(f)
  if (wrong) return { fault: { message: `"${wrong[1]}" is no word of the language`, location: 'query.f', value: f, pos: wrong.index, len: wrong[1].length, suggestion: { prot: 'port', hots: 'host', tpc: 'tcp' }[wrong[1]] } }
  const inner = /inner/.test(f)
  const bpf = ['(000) ldh [12]', '(001) jeq      #0x800        jt 2\tjf 7', '(002) ldb [23]', '(003) jeq      #0x6          jt 4\tjf 7', '(004) ldh [36]', '(005) jeq      #0x1bb        jt 6\tjf 7', '(006) ret #262144', '(007) ret #0']
  return {
    doc: {
      expr: f, link: q.get('link') || 'ethernet', tests: '[12:2] = 0x800 and [23:1] = 0x6 and [36:2] = 0x1bb', bpf: bpf.join('\n') + '\n', bpf_len: bpf.length, ebpf: bpf.map((l) => l.replace('ld', 'LdXMem')).join('\n'), ebpf_len: 31,
      openflow: inner ? [] : ['priority=1,tcp,tp_dst=443,actions=output:TOOL'], openflow_residual: false, openflow_note: inner ? 'OpenFlow: a switch does not look inside of a tunnel' : '', kernel_note: '', residual: inner, deep: inner ? 'inner tcp port 5432' : '',
    },
  }
}

export function sql(state, q) {
  const text = q.get('q') ?? ''
  if (state.scenario === 'denied') return { status: 403, detail: 'questions in SQL are for administrators: ask on the server itself, over a loopback address' }
  if (!/^\s*select\b/i.test(text)) return { status: 422, detail: 'Parser Error: syntax error at or near "' + text.trim().split(/\s/)[0] + '"' }
  const rows = Array.from({ length: 12 }, (_, i) => [5001 + (i % 6), `web-${data.tenants[i % 6]}-01`, i === 3 ? null : 123456789 * (12 - i), i / 7])
  return { doc: { columns: [{ name: 'vni', type: 'UINTEGER' }, { name: 'src_vm', type: 'VARCHAR' }, { name: 'octets', type: 'UBIGINT' }, { name: 'part', type: 'DOUBLE' }], rows, truncated: /flows/.test(text), took_ns: 3_200_000 } }
}
