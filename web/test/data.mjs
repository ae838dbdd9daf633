// A made-up data centre for development and tests: six tenants with overlapping addresses on 24 hosts, always the
// same. The shapes are those of internal/collect/report.

function random(seed) {
  let s = seed
  return () => {
    s = (s + 0x6d2b79f5) | 0
    let t = Math.imul(s ^ (s >>> 15), 1 | s)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}

export const tenants = ['blue', 'green', 'orange', 'violet', 'teal', 'rose']
export const tiers = ['web', 'api', 'mq', 'cache', 'db']
const calls = [['web', 'api', 'http-alt', 8080, 'tcp'], ['api', 'db', 'postgres', 5432, 'tcp'], ['api', 'mq', 'amqp', 5672, 'tcp'], ['api', 'cache', 'redis', 6379, 'tcp'], ['mq', 'db', 'postgres', 5432, 'tcp'], ['web', 'cache', 'dns', 53, 'udp']]
export const host = (i) => `kvm-${String(i + 1).padStart(2, '0')}`

export function workload(tenant, tier, n) {
  const t = tenants.indexOf(tenant)
  const h = (t * 7 + tiers.indexOf(tier) * 5 + n * 3) % 24
  return { vm: `${tier}-${tenant}-${String(n).padStart(2, '0')}`, addr: `10.${tiers.indexOf(tier)}.0.${n + 10}`, host: host(h), vtep: `172.16.0.${h + 1}` }
}

/** pairs gives n pairs, greatest first. */
export function pairs(n, now, span) {
  const rnd = random(7)
  const out = []
  for (let i = 0; out.length < n; i++) {
    const tenant = tenants[i % tenants.length]
    const [a, b, app, port, proto] = calls[Math.floor(rnd() * calls.length)]
    const src = workload(tenant, a, 1 + Math.floor(rnd() * 16))
    const dst = workload(tenant, b, 1 + Math.floor(rnd() * 16))
    out.push(pair(tenant, src, dst, app, port, proto, rnd, now, span, i))
  }
  out.sort((x, y) => y.octets - x.octets)
  const seen = new Set()
  const unique = out.filter((p) => !seen.has(p._key) && seen.add(p._key))
  const all = unique.reduce((s, p) => s + p.octets, 0)
  for (const p of unique) p.share = p.octets / all
  return unique
}

function pair(tenant, src, dst, app, port, proto, rnd, now, span, i) {
  const vni = 5001 + tenants.indexOf(tenant)
  const fwd = Math.round(3.2e9 * rnd() ** 3 + 2000)
  const rev = Math.round(fwd * (0.1 + rnd() * 0.6))
  const same = src.host === dst.host
  const stranger = i % 97 === 13
  const marks = i % 41 === 5 ? ['sampled'] : i % 59 === 3 ? ['guess'] : i % 83 === 9 ? ['gap'] : []
  const packets = Math.round((fwd + rev) / 1100)
  return {
    segment: `vxlan:${vni}`, vni, fabric: 'default', tenant,
    src_vtep: src.vtep, src_host: src.host, src_vm: src.vm, src_vm_id: src.vm && `id-${src.vm}`, src_addr: i % 50 === 7 ? `fd00:${vni.toString(16)}::${(i % 4000).toString(16)}` : src.addr,
    dst_addr: i % 50 === 7 ? `fd00:${vni.toString(16)}::1:5` : dst.addr, dst_vm: stranger ? '' : dst.vm, dst_vm_id: stranger ? '' : `id-${dst.vm}`, dst_host: stranger ? '' : dst.host, dst_vtep: same ? '' : dst.vtep, same_host: same,
    octets_fwd: fwd, octets_rev: rev, packets_fwd: Math.round(packets * 0.6), packets_rev: packets - Math.round(packets * 0.6),
    octets: fwd + rev, octets_error: marks[0] === 'sampled' ? Math.round((fwd + rev) * 0.03) : 0, packets, flows: 1 + Math.floor(rnd() * 900), share: 0,
    first_seen: new Date(now - span * (0.5 + rnd() / 2)).toISOString(), last_seen: new Date(now - rnd() * 20000).toISOString(),
    seen_by: same ? [`${src.host} mirror`] : [`${src.host} vtep`, `${dst.host} vtep`, ...(i % 9 === 0 ? [`${src.vm} agent`] : [])],
    duplicates: same ? 0 : packets, marks, conversations: 1 + Math.floor(rnd() * 5), apps: [app],
    spark: Array.from({ length: 24 }, (_, k) => Math.round((fwd / 24) * (0.5 + 0.4 * Math.sin(k / 4 + i) + rnd() * 0.5))),
    _key: [vni, src.addr, dst.addr].join(), _port: port, _proto: proto, _ports: Array.from({ length: 5 }, (_, k) => 32768 + ((i * 131 + k * 977) % 28000)),
  }
}

/** conversations splits pairs into 5-tuples. */
export function conversations(list) {
  return list.flatMap((p) => Array.from({ length: p.conversations }, (_, k) => {
    const part = (x) => Math.floor(x / p.conversations) + (k === 0 ? x % p.conversations : 0)
    const { conversations, apps, spark, ...rest } = { ...p, _ports: [] }
    return {
      ...rest, proto: p._proto, src_port: p._ports[k], dst_port: p._port, app: apps[0], tcp_flags: p._proto === 'tcp' ? 'SAPF' : '',
      octets_fwd: part(p.octets_fwd), octets_rev: part(p.octets_rev), octets: part(p.octets_fwd) + part(p.octets_rev), octets_error: part(p.octets_error),
      packets_fwd: part(p.packets_fwd), packets_rev: part(p.packets_rev), packets: part(p.packets_fwd) + part(p.packets_rev), flows: 1, share: p.share / p.conversations,
    }
  }))
}

/** flows gives the rows that the observers of some conversations sent: every observer of each, both directions. */
export function flows(list, now) {
  return list.flatMap((c, i) => c.seen_by.flatMap((observer, o) => ['ingress', 'egress'].map((direction, d) => flow(c, i, observer, o, d, direction, now))))
}

function flow(c, i, observer, o, d, direction, now) {
  const end = now - i * 1900 - o * 120
  const mac = (n) => `02:00:00:00:${(n >> 8 & 255).toString(16).padStart(2, '0')}:${(n & 255).toString(16).padStart(2, '0')}`
  const [a, b] = d ? ['dst', 'src'] : ['src', 'dst']
  return {
    start: new Date(end - 60000).toISOString(), end: new Date(end).toISOString(), received: new Date(end + 800).toISOString(),
    exporter: '10.201.0.' + (1 + (i % 24)), domain: o + 1, observer, role: observer.split(' ')[1], direction, canonical: o === 0,
    segment: o === 1 ? c.segment : c.segment, vni: c.vni, fabric: c.fabric, tenant: c.tenant,
    src_vtep: o ? c[a + '_vtep'] : '', dst_vtep: o ? c[b + '_vtep'] : '', src_host: c[a + '_host'], dst_host: c[b + '_host'], src_vm: c[a + '_vm'], dst_vm: c[b + '_vm'], src_vm_id: c[a + '_vm_id'], dst_vm_id: c[b + '_vm_id'],
    src_addr: c[a + '_addr'], dst_addr: c[b + '_addr'], src_port: c[a + '_port'], dst_port: c[b + '_port'], proto: c.proto, app: c.app, src_mac: mac(i * 2 + d), dst_mac: mac(i * 2 + 1 - d),
    vlan: 0, ethertype: c.src_addr.includes(':') ? 0x86dd : 0x0800, tos: 0, min_ttl: 63, max_ttl: 64, tcp_flags: c.tcp_flags, icmp: '', in_if: 3, out_if: 4,
    packets: d ? c.packets_rev : c.packets_fwd, octets: Math.round((d ? c.octets_rev : c.octets_fwd) * (o === 1 && i % 7 === 0 ? 0.98 : 1)), l2_octets: (d ? c.octets_rev : c.octets_fwd) + 14 * (d ? c.packets_rev : c.packets_fwd),
    sampling: 1, end_reason: i % 3 ? 'active' : 'idle', flow_id: (0x1f3a5b7c00000000n + BigInt(i * 2 + d)).toString(16), marks: [],
  }
}

/** observers gives one row per place that saw packets of these pairs. */
export function observers(list, now) {
  const all = new Map()
  for (const p of list) {
    p.seen_by.forEach((name, o) => {
      const [where, role] = name.split(' ')
      const row = all.get(name) ?? { observer: name, role, host: role === 'agent' ? '' : where, exporter: '10.201.0.' + (1 + (all.size % 24)), domain: 1, rows: 0, octets: 0, canonical: 0, last_seen: new Date(now - 1200).toISOString(), lost_records: 0 }
      row.rows += p.flows
      row.octets += o === 1 && list.length < 4 ? Math.round(p.octets * 0.987) : p.octets
      if (o === 0) row.canonical += p.octets
      if (name === 'kvm-17 vtep') row.lost_records = 312
      all.set(name, row)
    })
  }
  return [...all.values()].sort((a, b) => b.octets - a.octets)
}
