// Made-up answers of the reports about networks, machines, dependencies, observers, the underlay and coverage, in
// exactly the shapes of the real ones.

const iso = (ms) => new Date(ms).toISOString()
const sum = (rows, f) => rows.reduce((s, r) => s + f(r), 0)

function grouped(rows, keys) {
  const out = new Map()
  for (const r of rows) {
    for (const k of keys(r)) {
      if (!out.has(k)) out.set(k, [])
      out.get(k).push(r)
    }
  }
  return out
}

const unique = (list) => [...new Set(list.filter(Boolean))].sort()

export function networks(c) {
  return [...grouped(c.all, (p) => [p.segment])].map(([segment, ps], i) => {
    const known = i !== 4
    const longest = i === 3 ? 0 : i === 1 ? 8950 : 1450
    return {
      segment, vni: ps[0].vni, fabric: 'default', tenant: known ? ps[0].tenant : '', known, vteps: unique(ps.flatMap((p) => [p.src_vtep, p.dst_vtep])), hosts: unique(ps.flatMap((p) => [p.src_host, p.dst_host])),
      vms: unique(ps.flatMap((p) => [p.src_vm, p.dst_vm])).length, unknown_addrs: i, pairs: ps.length, octets: sum(ps, (p) => p.octets), packets: sum(ps, (p) => p.packets), octets_same_host: sum(ps.filter((p) => p.same_host), (p) => p.octets),
      max_packet: longest, needed_mtu: longest && longest + 50, mtu_risk: ['none', 'exceeds', 'fragments', 'unknown'][i % 4], fragments: i === 2 ? 1200 : 0, first_seen: iso(c.since), last_seen: iso(c.now - 900),
    }
  })
}

const ends = (c) => {
  const out = new Map()
  for (const p of c.all) {
    for (const [a, b] of [['src', 'dst'], ['dst', 'src']]) {
      const name = p[a + '_vm']
      if (!name) continue
      const e = out.get(name) ?? { name, id: p[a + '_vm_id'], host: p[a + '_host'], addrs: new Set(), pairs: [] }
      e.addrs.add(p[a + '_addr'])
      e.pairs.push({ p, out: a === 'src', other: b })
      out.set(name, e)
    }
  }
  return out
}

const sent = (x) => (x.out ? x.p.octets_fwd : x.p.octets_rev)
const received = (x) => (x.out ? x.p.octets_rev : x.p.octets_fwd)

export function vms(c) {
  return [...ends(c).values()].map((e) => ({
    name: e.name, id: e.id, fabric: 'default', tenants: unique(e.pairs.map((x) => x.p.tenant)), segments: unique(e.pairs.map((x) => x.p.segment)), hosts: [e.host], addrs: [...e.addrs].slice(0, 16), octets_sent: sum(e.pairs, sent), octets_received: sum(e.pairs, received),
    packets_sent: sum(e.pairs, (x) => x.p.packets_fwd), packets_received: sum(e.pairs, (x) => x.p.packets_rev), peers: e.pairs.length, first_seen: iso(c.since), last_seen: iso(c.now - 1200), octets: sum(e.pairs, (x) => x.p.octets),
  }))
}

export function vm(c, meta) {
  const name = c.q.get('name')
  const e = [...ends(c).values()].find((x) => x.name === name || x.id === name || x.addrs.has(name))
  const span = c.until - c.since
  const none = { octets: 0, octets_error: 0, packets: 0 }
  const page = {
    meta: meta(e ? e.pairs.length : 0), name: e?.name ?? '', id: e?.id ?? '', fabric: 'default', tenants: [], segments: [], addrs: [], host: '', places: [], sent: none, received: none, sent_before: none, received_before: none, before_from: iso(c.since - span), before_to: iso(c.since),
    octets_east_west: 0, octets_north_south: 0, octets_same_host: 0, retransmits: 0, zero_windows: 0, step_ms: 3600_000, times: [], sent_series: [], received_series: [], before_series: [], peers_total: 0, peers: [], served: [], used: [], changes: [],
  }
  if (!e) return { ...page, meta: { ...page.meta, empty: { cause: 'unknown_machine', text: `No flow of the range or of the period before has a machine "${name}".`, action: 'List machines with "crosstap get vms", or choose a longer range.' } } }
  const [s, r] = [sum(e.pairs, sent), sum(e.pairs, received)]
  const step = span > 864e5 ? 864e5 : 36e5
  for (let t = Math.floor(c.since / step) * step; t < c.until; t += step) page.times.push(iso(t))
  const wave = (total, phase) => page.times.map((_, i) => Math.round((total / page.times.length) * (1 + 0.6 * Math.sin(i / 3.5 + phase))))
  const side = (octets, error) => ({ octets, octets_error: error, packets: Math.round(octets / 900) })
  const peers = e.pairs.map((x, i) => ({
    segment: x.p.segment, name: x.p[x.other + '_vm'], id: x.p[x.other + '_vm_id'], addr: x.p[x.other + '_addr'], tenant: x.p.tenant, host: x.p[x.other + '_host'], same_host: x.p.same_host, known: x.p[x.other + '_vm'] !== '', octets_sent: sent(x), octets_received: received(x), packets: x.p.packets,
    octets_before: i === 1 ? 0 : Math.round(x.p.octets * 0.8), state: i === 1 ? 'new' : i === 3 ? 'gone' : '', first_seen: x.p.first_seen, last_seen: x.p.last_seen,
  })).sort((a, b) => b.octets_sent + b.octets_received - a.octets_sent - a.octets_received)
  const services = (out) => [...grouped(e.pairs.filter((x) => x.out === out), (x) => [`${x.p._proto}/${x.p._port}`])].map(([k, xs], i) => ({ proto: k.split('/')[0], port: Number(k.split('/')[1]), app: xs[0].p.apps[0], peers: xs.length, octets: sum(xs, (x) => x.p.octets), packets: sum(xs, (x) => x.p.packets), octets_before: i ? 0 : 4e8, state: i ? 'new' : '' }))
  const place = { segment: e.pairs[0].p.segment, tenant: e.pairs[0].p.tenant, addr: [...e.addrs][0], name: e.name }
  return {
    ...page, tenants: unique(e.pairs.map((x) => x.p.tenant)), segments: unique(e.pairs.map((x) => x.p.segment)), addrs: [...e.addrs], host: e.host,
    places: [{ host: e.host, ...place, first_seen: iso(c.now - 5 * 36e5), last_seen: iso(c.now - 1200) }, { host: 'kvm-02', ...place, first_seen: iso(c.since), last_seen: iso(c.now - 5 * 36e5) }],
    sent: side(s, Math.round(s * 0.01)), received: side(r, 0), sent_before: side(Math.round(s * 0.8), 0), received_before: side(Math.round(r * 1.1), 0), octets_east_west: s + r - sum(peers.filter((p) => !p.known), (p) => p.octets_sent), octets_north_south: sum(peers.filter((p) => !p.known), (p) => p.octets_sent),
    octets_same_host: sum(e.pairs.filter((x) => x.p.same_host), (x) => x.p.octets), retransmits: 214, zero_windows: 3, step_ms: step, sent_series: wave(s, 0), received_series: wave(r, 0.5), before_series: wave((s + r) * 0.9, 1), peers_total: peers.length, peers: peers.slice(0, c.limit === 1000 ? 20 : c.limit), served: services(false), used: services(true),
    changes: [{ kind: 'moved', at: iso(c.now - 5 * 36e5), text: `from kvm-02 to ${e.host}` }, { kind: 'new_peer', at: iso(c.now - 3 * 36e5), text: peers[1]?.name ?? 'nobody' }, { kind: 'volume', at: iso(c.now - 36e5), text: 'sent 3.1 times what it sent before' }],
  }
}

export function top(c, meta) {
  const [by, per] = [c.q.getAll('by'), c.q.getAll('per').filter(Boolean)]
  const values = { 'src.vm': (p) => p.src_vm, 'dst.vm': (p) => p.dst_vm, 'dst.port': (p) => String(p._port), app: (p) => p.apps[0], tenant: (p) => p.tenant, observer: (p) => p.seen_by[0], vm: (p) => p.src_vm, proto: (p) => p._proto, segment: (p) => p.segment }
  const metric = c.q.get('metric') || 'octets'
  const either = by.includes('vm')
  const limit = Number(c.q.get('limit') || 10)
  const groups = [...grouped(c.all, (p) => [JSON.stringify([...per, ...by].map((f) => values[f]?.(p) ?? ''))])].map(([k, ps], i) => ({
    period: null, key: JSON.parse(k), octets: sum(ps, (p) => p.octets), octets_error: sum(ps, (p) => p.octets_error), octets_sent: either ? sum(ps, (p) => p.octets_fwd) : null, octets_received: either ? sum(ps, (p) => p.octets_rev) : null, l2_octets: sum(ps, (p) => p.octets + 14 * p.packets), packets: sum(ps, (p) => p.packets),
    flows: metric === 'flows' ? sum(ps, (p) => p.flows) : null, rows: sum(ps, (p) => p.flows), retransmits: i % 7, zero_windows: i % 5, fragments: 0, rtt_avg_us: i % 3 ? 300 + i : null, rtt_max_us: i % 3 ? 900 + i : null, share: 0, first_seen: iso(c.since), last_seen: iso(c.now - 1500), marks: [],
  }))
  const field = metric === 'rtt' ? 'rtt_avg_us' : metric
  groups.sort((a, b) => b[field] - a[field])
  const all = sum(groups, (g) => g[field])
  for (const g of groups) g.share = all ? g[field] / all : 0
  const rows = per.length ? [...grouped(groups, (g) => [g.key[0]]).values()].flatMap((l) => l.slice(0, limit)) : groups.slice(0, limit)
  return { meta: meta(groups.length), by, per, period_ms: 0, metric, rows }
}

const tierOf = (name) => /^[a-z]+/i.exec(name)?.[0] ?? '~'

export function map(c, meta) {
  const by = c.q.getAll('by').flatMap((b) => b.split(',')).filter(Boolean)
  const names = by.length ? by : ['tenant', 'tier']
  const expand = c.q.getAll('expand')
  const base = c.q.get('base_from')
  const part = { tenant: (p) => p.tenant, tier: (p, end) => tierOf(p[end + '_vm']), app: (p) => p.apps[0], segment: (p) => p.segment, host: (p, end) => p[end + '_host'], vm: (p, end) => p[end + '_vm'] }
  const nodes = new Map()
  const node = (p, end) => {
    const group = names.map((n) => part[n](p, end) || '~')
    const id = group.join('/')
    const open = expand.includes(id)
    const key = open ? `${id}/${p[end + '_vm_id'] || '@' + p[end + '_addr']}` : id
    const n = nodes.get(key) ?? { id: key, kind: open ? 'member' : p[end + '_vm'] ? 'group' : 'outside', label: open ? p[end + '_vm'] || p[end + '_addr'] : group.join(' / '), group, members: new Set(), octets: 0, layer: 0, x: 0, y: 0 }
    n.members.add(p[end + '_vm'])
    n.octets += p.octets
    nodes.set(key, n)
    return key
  }
  const edges = new Map()
  c.all.forEach((p, i) => {
    const [src, dst] = [node(p, 'src'), i === 9 ? node(c.all.find((q) => q.tenant !== p.tenant) ?? p, 'dst') : node(p, 'dst')]
    const e = edges.get(src + dst) ?? { src, dst, services: [], services_total: 0, octets_fwd: 0, octets_rev: 0, octets: 0, packets: 0, octets_before: 0, links: 0, new_links: 0, gone_links: 0, cross_tenant: src.split('/')[0] !== dst.split('/')[0], state: 'active', first_seen: iso(c.since), last_seen: iso(c.now - 2000) }
    for (const f of ['octets_fwd', 'octets_rev', 'octets', 'packets']) e[f] += p[f]
    e.links++
    if (!e.services.some((s) => s.port === p._port)) e.services.push({ proto: p._proto, port: p._port, app: p.apps[0], octets: p.octets, state: 'active' })
    e.services_total = e.services.length
    edges.set(src + dst, e)
  })
  const list = [...edges.values()].sort((a, b) => b.octets - a.octets)
  list.forEach((e, i) => { e.state = base ? ['active', 'active', 'new', 'active', 'gone'][i % 5] : i % 6 === 5 ? 'idle' : 'active'; if (base) e.octets_before = e.state === 'new' ? 0 : e.octets })
  const focus = c.q.get('focus') ?? ''
  const shown = (focus ? list.filter((e) => e.src === focus || e.dst === focus) : list).slice(0, 300)
  const used = new Set(shown.flatMap((e) => [e.src, e.dst]))
  const placed = [...nodes.values()].filter((n) => used.has(n.id)).sort((a, b) => (a.id < b.id ? -1 : 1)).map((n) => ({ ...n, members: n.members.size }))
  const layers = { web: 0, api: 1, mq: 2, cache: 2, db: 3 }
  const heights = [0, 0, 0, 0]
  for (const n of placed) {
    n.layer = layers[n.group[names.indexOf('tier')]] ?? n.label.length % 4
    Object.assign(n, { x: 120 + n.layer * 290, y: 92 + 66 * heights[n.layer]++ })
  }
  return {
    meta: meta(list.length), by: names, expanded: expand, focus, hops: focus ? Number(c.q.get('hops') ?? 1) : 0, base_since: base ? iso(c.since - 864e5) : null, base_until: base ? iso(c.since) : null, width: 1110, height: 100 + 66 * Math.max(1, ...heights),
    hidden: { nodes: 0, edges: list.length - (focus ? list.length : shown.length), octets: 0, cross_tenant: 0 }, nodes: placed, edges: shown,
  }
}

export function observed(c) {
  return c.conversations().slice(0, c.limit).map((k, i) => {
    const loss = c.all.length < 3 && !k.same_host
    const sight = (observer, way, side, lost) => {
      const packets = (way === 'fwd' ? k.packets_fwd : k.packets_rev) - (side === 'destination' ? lost : 0)
      return { observer, role: observer.split(' ')[1] ?? '', host: observer.split(' ')[0], way, side, octets: packets * 900, octets_error: 0, packets, lost: side === 'destination' ? lost : 0, lost_ratio: side === 'destination' ? lost / Math.max(1, packets + lost) : null, rtt_us: i ? 0 : 412, retransmits: 2, canonical: side === 'source', first_seen: k.first_seen, last_seen: k.last_seen, marks: [] }
    }
    const [a, b] = [k.seen_by[0], k.seen_by[1] ?? k.seen_by[0]]
    const lost = loss ? Math.max(1, Math.round(k.packets_fwd * 0.013)) : 0
    return { ...k, sights: [sight(a, 'fwd', 'source', 0), sight(b, 'fwd', 'destination', lost), sight(b, 'rev', 'source', 0), sight(a, 'rev', 'destination', 0)], loss: loss ? `${lost} packets between ${a} and ${b}` : '' }
  })
}

export function carriers(c) {
  const over = c.all.filter((p) => !p.same_host && p.dst_vtep)
  return [...grouped(over, (p) => [`${p.src_vtep} ${p.dst_vtep}`]).values()].map((ps, i) => {
    const match = ['port', 'vteps', 'none'][i % 3]
    const [octets, packets] = [sum(ps, (p) => p.octets_fwd), sum(ps, (p) => p.packets_fwd)]
    const seen = match !== 'none'
    return {
      src_vtep: ps[0].src_vtep, dst_vtep: ps[0].dst_vtep, src_host: ps[0].src_host, dst_host: ps[0].dst_host, outer_src_port: match === 'vteps' ? 0 : 49152 + i, outer_dst_port: 4789, outer_proto: 'udp', match, conversations: sum(ps, (p) => p.conversations), pairs: ps.length, segments: unique(ps.map((p) => p.segment)),
      tenants: unique(ps.map((p) => p.tenant)), overlay_octets: octets, overlay_packets: packets, expected_octets: octets + 50 * packets, underlay_octets: seen ? octets + 50 * packets : 0, underlay_packets: seen ? packets : 0, underlay_flows: seen ? ps.length : 0, lost: match === 'port' ? (i % 9 ? 0 : 14) : null, seen_by: seen ? ['spine-1 sflow'] : [],
      flow_ids: seen ? ['1f3a5b7c'] : [], first_seen: iso(c.since), last_seen: iso(c.now - 1800),
    }
  })
}

export function irregular(c, meta) {
  const kind = c.q.get('kind')
  const ps = c.all.filter((p) => p.src_vm && p.dst_vm)
  const row = (kind, score, p, text, more = {}) => ({
    kind, score, fabric: 'default', segment: p?.segment ?? '', tenant: p?.tenant ?? '', src_vm: p?.src_vm ?? '', src_addr: p?.src_addr ?? '', dst_vm: '', dst_addr: '', proto: '', port: 0, app: '', octets: 0, octets_before: 0, targets: 0, period_ms: 0,
    first_seen: iso(c.since + 6e4), last_seen: iso(c.now - 9e4), text, ...more,
  })
  const to = (p) => ({ dst_vm: p.dst_vm, dst_addr: p.dst_addr, proto: p._proto, port: p._port, app: p.apps[0], octets: p.octets })
  const rows = ps.length < 5 ? [] : [
    row('host_scan', 8.5, ps[0], `${ps[0].src_vm} tried 255 addresses at tcp/22 that gave nothing`, { proto: 'tcp', port: 22, app: 'ssh', targets: 255, octets: 15300 }),
    row('volume', 5.2, ps[1], `${ps[1].src_vm} sent and received 2000000000 octets, 120000000 usually`, { octets: 2e9, octets_before: 12e7 }),
    row('port_scan', 3.3, ps[2], `${ps[2].src_vm} tried 100 ports of ${ps[2].dst_vm} that gave nothing`, { dst_vm: ps[2].dst_vm, dst_addr: ps[2].dst_addr, proto: 'tcp', targets: 100, octets: 6000 }),
    row('beacon', 2, ps[3], `${ps[3].src_vm} speaks to ${ps[3].dst_vm} every 60 s`, { ...to(ps[3]), targets: 58, period_ms: 60000 }),
    row('observer_silent', 1.5, null, 'observer kvm-03/br-int tells nothing any more', { src_vm: 'kvm-03/br-int', octets_before: 8e9 }),
    row('silent', 1.4, ps[4], `${ps[4].src_vm} is silent, 15000000 octets usually`, { octets_before: 15e6 }),
    row('new_pair', 1, ps[2], `${ps[2].src_vm} speaks to ${ps[2].dst_vm} for the first time`, to(ps[2])),
  ].filter((r) => !kind || r.kind === kind)
  const since = Date.parse(c.q.get('base_from') ?? '') || c.since - 7 * 864e5
  return { meta: meta(rows.length), kinds: kind ? [kind] : ['host_scan', 'port_scan', 'beacon', 'new_pair', 'volume', 'silent', 'observer_silent'], base_since: iso(since), base_until: iso(c.since), rows }
}

export function coverage(c, meta, known) {
  const by = c.q.get('by') || 'vm'
  const reasons = ['no tap', 'sampling', 'tap filter excludes', 'mirror or capture drops']
  const things = by === 'vm' ? [...ends(c).values()].map((e) => ({ host: e.host, vm: e.name, vm_id: e.id, octets: sum(e.pairs, (x) => x.p.octets) })) : [...grouped(c.all, (p) => [p.src_host]).entries()].map(([host, ps]) => ({ host, vm: '', vm_id: '', octets: sum(ps, (p) => p.octets) }))
  const rows = things.map((t, i) => {
    const counts = known && i % 7 !== 3
    const counted = counts ? Math.round(t.octets * (i % 4 ? 1 : 1.3)) : null
    return { fabric: 'default', host: t.host, vm: t.vm, vm_id: t.vm_id, port: counts ? `vnet${i}` : '', counted_octets: counted, observed_octets: t.octets, ratio: counts ? t.octets / counted : null, missing_octets: counts ? counted - t.octets : null, reasons: !counts ? ['unknown: no counter of this machine'] : i % 4 ? [] : [reasons[(i / 4) % 4]] }
  }).sort((a, b) => (a.ratio ?? 2) - (b.ratio ?? 2))
  const all = sum(rows, (r) => r.counted_octets ?? 0)
  const seen = sum(rows, (r) => r.observed_octets)
  return { meta: meta(rows.length), by, source: known ? 'sflow' : '', counted_octets: known ? all : null, observed_octets: seen, ratio: known && all ? sum(rows.filter((r) => r.ratio !== null), (r) => r.observed_octets) / all : null, reason: known ? '' : 'unknown: no vNIC counters from any source', rows: rows.slice(0, c.limit) }
}

export function allow(c) {
  return c.all.map((p) => ({ fabric: 'default', segment: p.segment, vni: p.vni, tenant: p.tenant, src_vm: p.src_vm, src_addr: p.src_addr, dst_vm: p.dst_vm, dst_addr: p.dst_addr, proto: p._proto, port: p._port, app: p.apps[0], octets: p.octets, packets: p.packets, guess: false, first_seen: p.first_seen, last_seen: p.last_seen }))
}
