// What the mock knows of taps, in the shapes of internal/serve/controlapi and internal/serve/agent. Applying changes its list.
const iso = (ms) => new Date(ms).toISOString()

const first = {
  'blue-db': { owner: 'dba', reason: 'INC-7', select: 'tenant = "blue" and vm like "db-%"', method: 'auto', paused: false },
  'green-web': { owner: 'net', reason: '', select: 'tenant = "green"', method: 'remote-mirror', paused: true },
}

const yaml = (name, t) => `apiVersion: crosstap/v1\nkind: Tap\nmetadata:\n  name: ${name}\n${t.owner ? `  owner: ${t.owner}\n` : ''}${t.reason ? `  reason: ${t.reason}\n` : ''}spec:\n  select: '${t.select}'\n${t.method !== 'auto' ? `  method: ${t.method}\n` : ''}  destinations: [ids-1]\n  budget:\n    mirror: 200Mbit/s\n  ttl: 4h\n${t.paused ? '  paused: true\n' : ''}`
const destination = 'apiVersion: crosstap/v1\nkind: Destination\nmetadata:\n  name: ids-1\nspec:\n  url: vxlan://10.0.0.9?vni=9001\n'

/** fresh is the control line before a test. */
export const fresh = () => ({ taps: structuredClone(first), changes: [{ id: 1, at: iso(Date.now() - 36e5), end: iso(Date.now() - 36e5 + 900), who: 'ana', why: 'INC-7', action: 'apply', state: 'done', resources: ['Tap blue-db', 'Destination ids-1'] }], started: Date.now() - 36e5, requests: [] })

function planned(name, t, now) {
  const paused = t.paused
  return {
    name, owner: t.owner, reason: t.reason, state: paused ? 'paused' : 'active', select: t.select, ports: paused ? 0 : 17, vms: paused ? 0 : 16, expires: iso(now + 2.5 * 36e5), method: t.method,
    places: paused ? [] : [1, 2, 3].map((n) => ({ platform: 'kvm', host: `kvm-0${n}`, switch: 'br-int', method: 'remote-mirror', ports: [`vnet${n}`, `vnet${n + 20}`], count: n === 3 ? 13 : 2, session: `${name}/kvm-0${n}`, to: ['ids-1'] })),
    copies: { once: true, same_switch: 1, other_switch: 1, to_outside: 1, from_outside: 1 },
    cost: { known: true, rate: { bps: 52e6, peak: 61e6, pps: 9000, of: 'flows of the last 24 h' }, mirror_bps: 56e6, mirror_peak_bps: 65e6, cpu: 0.013, budget_bps: 200e6 },
    mtu: [{ host: 'kvm-01', destination: 'ids-1', longest: 1550, path_mtu: 1500, fits: 1450 }], warnings: ['copies of packets beyond 1,450 bytes do not fit the path of 1,500'],
  }
}

function plan(control, body, now) {
  const text = (body.files ?? []).map((f) => f.text).join('\n---\n')
  const name = /kind: Tap[\s\S]*?name: ['"]?([\w.-]+)/.exec(text)?.[1] ?? ''
  const select = /select: '(.*)'/.exec(text)?.[1] ?? ''
  if (/tenent/.test(text)) return { status: 422, detail: 'policy: console:6:11: select: unknown field "tenent"; did you mean "tenant"?' }
  const taps = { ...control.taps, ...(name && { [name]: { owner: '', reason: '', select, method: 'auto', paused: false } }) }
  for (const d of body.delete ?? []) delete taps[d.name]
  const before = control.taps[name]
  return {
    name, taps,
    doc: {
      taps: Object.entries(taps).map(([n, t]) => planned(n, t, now)), coverage: { ports: 480, before: 0.62, after: 0.71, hosts: [] }, removed: (body.delete ?? []).map((d) => d.name),
      edits: name ? [{ kind: 'Tap', name, before: before ? yaml(name, before) : '', after: text }] : [],
      refusals: name ? [{ policy: name, host: 'kvm-04', port: 'vmk0', reason: 'kernel-port', message: 'vmk0 is the host’s own port', fix: 'leave it out of select' }] : [],
      steps: name ? ['kvm-01', 'kvm-02', 'kvm-03'].map((host, i) => ({ platform: 'kvm', host, switch: 'br-int', policy: name, session: `${name}/${host}`, phase: i ? 2 : 1, action: 'create', object: `Mirror crosstap-${name}`, summary: `mirror vnet${i + 1}, vnet${i + 21} > vxlan 10.0.0.9`, commands: [`ovs-vsctl -- --id=@m create Mirror name=crosstap-${name} -- add Bridge br-int mirrors @m`] })) : [],
    },
  }
}

function agentTap(name, seconds, dropped) {
  const n = Math.round(seconds * 812)
  const book = (stage, i, o, reasons = []) => ({ stage, unit: 'frames', in: i, out: o, held: 0, dropped: reasons })
  const kept = Math.round(n * 0.31)
  return {
    name, state: 'running', since: iso(Date.now() - seconds * 1000), level: dropped ? 'sliced' : 'full', steps: dropped ? [{ time: iso(Date.now() - 6e5), from: 'full', to: 'sliced', why: 'CPU 6.1 %, the budget is 5 %' }] : [], cpu: 0.031, memory_bytes: 41e6, mirror_bits_per_second: 3.8e6, frames_per_second: 812,
    books: [book('capture', n, n - dropped, dropped ? [{ reason: 'kernel_dropped', n: dropped }] : []), book('sift', n - dropped, kept, [{ reason: 'filtered', n: n - dropped - kept }]), book('groom', kept, kept - 40, [{ reason: 'duplicate', n: 40 }]), book('deliver', kept - 40, kept - 40)],
    to: [{ url: 'vxlan://10.0.0.9?vni=9001', unit: 'frames', sent: kept - 40, queued: 0, shed: dropped, errors: 0 }], warnings: [],
  }
}

const agents = (control) => {
  const seconds = (Date.now() - control.started) / 1000
  const one = (name, state, taps, findings = []) => ({ name, state, last_seen: iso(Date.now() - 900), started_at: iso(control.started), host: name, system: 'linux', software: '0.1', payload: true, current: true, cpu: 0.04, resident_bytes: 5e7, budget: '5%', interfaces: [], given: taps.map((t) => ({ name: t.name, labels: { policy: t.name }, budget: { cpu: '5%', mirror: '10Mbit/s' }, ttl: '4h', source: { interfaces: ['eth0'] } })), taps, findings })
  return { schema: 1, rows: [one('db-blue-01', 'online', [agentTap('in-vm', seconds, 0)]), one('kvm-09', 'online', [agentTap('uplink', seconds, 977)], ['kvm-09: the clock is 3 s behind']), one('kvm-17', 'offline', [])] }
}

/** control answers a question about taps. */
export function control(state, path, method, q, body) {
  const line = (state.control ??= fresh())
  if (method === 'POST') line.requests.push([path, body])
  const now = Date.now()
  const seconds = (now - line.started) / 1000
  if (state.scenario === 'nocontrol') return { status: 404, detail: 'no such path' }
  switch (path) {
    case 'agents': return { doc: agents(line) }
    case 'control/resources': {
      const all = [{ kind: 'Destination', name: 'ids-1', owner: '', reason: '', text: destination }, ...Object.entries(line.taps).map(([name, t]) => ({ kind: 'Tap', name, owner: t.owner, reason: t.reason, text: yaml(name, t) }))]
      return { doc: { rows: all.filter((r) => (!q.get('kind') || r.kind === q.get('kind')) && (!q.get('name') || r.name === q.get('name'))).map((r) => ({ ...r, applied: iso(line.started), by: 'ana', generation: 1, change: 1 })) } }
    }
    case 'control/taps': {
      const rows = Object.entries(line.taps).map(([name, t]) => ({ ...planned(name, t, now), applied: iso(line.started), by: 'ana', pending_steps: 0, counters: {}, copied: t.paused ? { packets: 0, bytes: 0, drops: 0, at: iso(now) } : { packets: Math.round(seconds * 900), bytes: Math.round(seconds * 650000), drops: 12, at: iso(now) } }))
      return { doc: { rows, pending_steps: 0, refusals: [], findings: line.taps['blue-db'] ? [{ platform: 'kvm', policy: 'blue-db', object: 'Mirror crosstap-blue-db', what: 'select_dst_port differs', by: '', since: iso(now - 4e4) }] : [], coverage: { ports: 480, before: 0.62, after: 0.62, hosts: [] } } }
    }
    case 'control/history': return { doc: { rows: line.changes } }
    case 'control/plan': {
      const p = plan(line, body, now)
      return p.doc ? { doc: p.doc } : p
    }
  }
  const did = { 'control/apply': 'apply', 'control/stop': 'stop', 'control/pause': 'pause', 'control/resume': 'resume', 'control/rollback': 'rollback' }[path]
  if (!did) return { status: 404, detail: 'no such path' }
  const p = plan(line, did === 'apply' ? body : {}, now)
  if (!p.doc) return p
  line.taps = did === 'rollback' ? structuredClone(first) : p.taps
  for (const [name, t] of Object.entries(line.taps)) {
    if (did === 'stop') delete line.taps[name]
    if (did === 'pause' && body.names?.includes(name)) t.paused = true
    if (did === 'resume' && (!body.names || body.names.includes(name))) t.paused = false
  }
  const id = line.changes[0].id + 1
  line.changes.unshift({ id, at: iso(now), end: iso(now + 40), who: body.who ?? 'unknown', why: body.why ?? '', action: did, state: 'done', resources: p.name ? ['Tap ' + p.name] : [] })
  return { doc: { plan: p.doc, outcome: { change: id, state: 'done', steps: p.doc.steps.length || 3, platforms: [{ platform: 'kvm', steps: 3, state: 'done' }], refusals: [] } } }
}
