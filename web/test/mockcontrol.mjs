// What the mock knows of taps, in the shapes of internal/serve/controlapi and internal/serve/agent. Applying changes its list. A change takes
// three looks at its journal in the scenario "slowapply", and one host of it fails in "partial".
import { machines } from './mockplaces.mjs'

const iso = (ms) => new Date(ms).toISOString()

const first = {
  'blue-db': { owner: 'dba', reason: 'INC-7', select: 'tenant = "blue" and vm like "db-%"', method: 'auto', paused: false },
  'green-web': { owner: 'net', reason: '', select: 'tenant = "green"', method: 'remote-mirror', paused: true },
}

const yaml = (name, t) => `apiVersion: crosstap/v1\nkind: Tap\nmetadata:\n  name: ${name}\n${t.owner ? `  owner: ${t.owner}\n` : ''}${t.reason ? `  reason: ${t.reason}\n` : ''}spec:\n  select: '${t.select}'\n${t.method !== 'auto' ? `  method: ${t.method}\n` : ''}  destinations: [ids-1]\n  budget:\n    mirror: 200Mbit/s\n  ttl: 4h\n${t.paused ? '  paused: true\n' : ''}`
const destination = 'apiVersion: crosstap/v1\nkind: Destination\nmetadata:\n  name: ids-1\nspec:\n  url: vxlan://10.0.0.9?vni=9001\n'

/** fresh is the control line before a test. */
export const fresh = () => ({ taps: structuredClone(first), changes: [{ id: 1, at: iso(Date.now() - 36e5), end: iso(Date.now() - 36e5 + 900), who: 'ana', why: 'INC-7', action: 'apply', state: 'done', resources: ['Tap blue-db', 'Destination ids-1'], report: JSON.stringify({ change: 1, state: 'done', steps: 3, took_ms: 900, platforms: [{ platform: 'kvm', steps: 3, state: 'done' }], refusals: [] }), steps: [] }], started: Date.now() - 36e5, requests: [] })

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

// A tap of a distributed switch, which cannot leave out what is copied at other switches: both ways are refused.
const twice = (name) => ({ policy: name, host: 'kvm-01', switch: 'DVS0', reason: 'capability', message: 'switch DVS0 cannot leave out what is copied at other switches: what tapped machines say to each other would be copied twice', fix: 'select machines of one switch, direction: ingress, or allow: [copied-twice] and a tool that removes duplicates' })

function plan(control, body, now, scenario) {
  const text = (body.files ?? []).map((f) => f.text).join('\n---\n')
  const name = /kind: Tap[\s\S]*?name: ['"]?([\w.-]+)/.exec(text)?.[1] ?? ''
  const select = /select: '(.*)'/.exec(text)?.[1] ?? ''
  if (/tenent/.test(text)) return { status: 422, detail: 'policy: console:6:11: select: unknown field "tenent"; did you mean "tenant"?' }
  const taps = { ...control.taps, ...(name && { [name]: { owner: '', reason: '', select, method: 'auto', paused: false } }) }
  for (const d of body.delete ?? []) delete taps[d.name]
  const before = control.taps[name]
  if (scenario === 'twice' && !/direction: (in|e)gress|copied-twice/.test(text)) {
    const none = { ports: 480, one_way: 0, before: 0.62, before_most: 0.62, after: 0.62, after_most: 0.62, hosts: [] }
    return { name, taps, doc: { taps: [{ ...planned(name, taps[name], now), state: 'refused', places: [] }], coverage: none, removed: [], edits: [{ kind: 'Tap', name, before: '', after: text }], refusals: [twice(name)], steps: [] } }
  }
  return {
    name, taps,
    doc: {
      taps: Object.entries(taps).map(([n, t]) => planned(n, t, now)), coverage: { ports: 480, one_way: 0, before: 0.62, before_most: 0.62, after: 0.71, after_most: 0.71, hosts: [{ platform: 'kvm', host: 'kvm-17', ports: 22, one_way: 0, before: 0, before_most: 0, after: 0, after_most: 0 }, { platform: 'kvm', host: 'kvm-01', ports: 19, one_way: 2, before: 0.31, before_most: 0.31, after: 0.84, after_most: 0.9 }] }, removed: (body.delete ?? []).map((d) => d.name),
      edits: name ? [{ kind: 'Tap', name, before: before ? yaml(name, before) : '', after: text }] : [],
      refusals: name ? [{ policy: name, host: 'kvm-04', port: 'vmk0', reason: 'kernel-port', message: 'vmk0 is the host’s own port', fix: 'leave it out of select' }, ...(before ? [{ policy: name, host: 'kvm-05', port: 'vnet9', vm: 'db-blue-09', reason: 'capability', message: 'the bridge cannot do it', fix: 'until then the copies that exist go on as they are', kept: true }] : [])] : [],
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
    books: [book('capture', n, n - dropped, dropped ? [{ reason: 'kernel_dropped', n: dropped }] : []), book('filter', n - dropped, kept, [{ reason: 'filtered', n: n - dropped - kept }]), book('dedup', kept, kept - 40, [{ reason: 'duplicate', n: 40 }]), book('groom', kept - 40, kept - 40), book('deliver', kept - 40, kept - 40)],
    to: [{ url: 'vxlan://10.0.0.9?vni=9001', unit: 'frames', sent: kept - 40, queued: 0, shed: dropped, errors: 0 }, { url: 'pcapng:/var/lib/crosstap/web.pcapng', unit: 'frames', sent: kept - 40, queued: 0, shed: 0, errors: 3, error: 'no space left on device', error_at: iso(Date.now() - 6e5), recovered: iso(Date.now() - 5e5) }], warnings: [],
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
      const moved = [{ platform: 'kvm', policy: 'blue-db', vm: 'db-blue-03', port: 'vnet900', at: iso(now - 25 * 6e4), after_ns: 41e6, packets: 3, packets_least: 1, why: 'the tap has a filter' }, { platform: 'kvm', policy: 'blue-db', vm: 'db-blue-05', port: 'vnet905', at: iso(now - 5 * 6e4), after_ns: 12e6, packets: -1, packets_least: -1, why: 'the bridge does not listen for OpenFlow' }]
      const rows = Object.entries(line.taps).map(([name, t]) => ({ ...planned(name, t, now), applied: iso(line.started), by: 'ana', pending_steps: 0, counters: t.paused ? {} : { [`kvm/${name}/kvm-01`]: { packets: Math.round(seconds * 400), bytes: Math.round(seconds * 290000), drops: 5, at: iso(now) } }, copied: t.paused ? { packets: 0, bytes: 0, drops: 0, at: iso(now) } : { packets: Math.round(seconds * 900), bytes: Math.round(seconds * 650000), drops: 12, at: iso(now) } }))
      return { doc: { rows, pending_steps: 0, refusals: line.taps['blue-db'] ? [{ policy: 'blue-db', host: 'kvm-05', port: 'vnet9', vm: 'db-blue-09', reason: 'capability', message: 'the bridge cannot do it', fix: 'until then the copies that exist go on as they are', kept: true }] : [], findings: line.taps['blue-db'] ? [{ platform: 'kvm', policy: 'blue-db', object: 'Mirror crosstap-blue-db', what: 'select_dst_port differs', by: '', since: iso(now - 4e4) }] : [], coverage: { ports: 480, one_way: 2, before: 0.62, before_most: 0.64, before_why: ['tap blue-db: sampled 1:4'], after: 0.62, after_most: 0.64, after_why: ['tap blue-db: sampled 1:4'], hosts: [{ platform: 'kvm', host: 'kvm-17', ports: 22, one_way: 0, before: 0, before_most: 0, after: 0, after_most: 0 }, { platform: 'kvm', host: 'kvm-01', ports: 19, one_way: 2, before: 0.31, before_most: 0.33, before_why: ['tap blue-db: sampled 1:4'], after: 0.31, after_most: 0.33 }], left_out_ports: 1, left_out: [{ platform: 'kvm', host: 'kvm-02', vm: 'ids-1', port: 'vnet99', reason: 'destination-tapped', why: 'a destination of tap blue-db: what comes to it are copies' }] }, gaps: line.taps['blue-db'] ? moved : [] } }
    }
    case 'control/history': return { doc: { rows: line.changes.slice(0, Number(q.get('limit') || 100)).map(({ steps, looks, ...c }) => c) } }
    case 'control/match': return match(state, q, now)
    case 'control/plan': {
      const p = plan(line, body, now, state.scenario)
      return p.doc ? { doc: p.doc } : p
    }
  }
  const of = /^control\/history\/(\d+)$/.exec(path)
  if (of) {
    const change = line.changes.find((c) => c.id === Number(of[1]))
    return change ? { doc: look(state, change) } : { status: 404, detail: 'there is none' }
  }
  const did = { 'control/apply': 'apply', 'control/stop': 'stop', 'control/pause': 'pause', 'control/resume': 'resume', 'control/rollback': 'rollback' }[path]
  if (!did) return { status: 404, detail: 'no such path' }
  if (did === 'rollback' && state.scenario === 'later' && !body.force) return { status: 409, detail: 'rollback of change 2 would undo later edits', later: [{ change: 7, resource: 'tap blue-db', who: 'ben', why: 'INC-7' }] }
  const p = plan(line, did === 'apply' ? body : {}, now)
  if (!p.doc) return p
  line.taps = did === 'rollback' ? structuredClone(first) : p.taps
  for (const [name, t] of Object.entries(line.taps)) {
    if (did === 'stop') delete line.taps[name]
    if (did === 'pause' && body.names?.includes(name)) t.paused = true
    if (did === 'resume' && (!body.names || body.names.includes(name))) t.paused = false
  }
  const id = line.changes[0].id + 1
  const change = { id, at: iso(now), who: body.who ?? 'unknown', why: body.why ?? '', action: did, state: 'running', resources: p.name ? ['Tap ' + p.name] : [], looks: 0, steps: [] }
  change.all = p.doc.steps.length ? p.doc.steps : ['kvm-01', 'kvm-02'].map((host) => ({ platform: 'kvm', host, switch: 'br-int', policy: 'blue-db', session: `blue-db/${host}`, phase: 3, action: 'remove', object: 'Mirror crosstap-blue-db', summary: 'remove the mirror', commands: [] }))
  line.changes.unshift(change)
  const answer = () => ({ doc: { plan: p.doc, outcome: JSON.parse(change.report) } })
  if (!state.scenario.includes('slowapply')) return finish(state, change), answer()
  return new Promise((done) => (change.over = () => done(answer())))
}

/** look tells a change with its journal. Each look at a running one finds one more host done. */
function look(state, change) {
  if (change.state === 'running') {
    const n = Math.min(change.looks++, state.hold ?? Infinity) // a test holds it at a host for as long as it looks
    change.steps = change.all.slice(0, n + 1).map((s, i) => entry(change, s, i, i < n ? 'done' : 'doing'))
    if (n >= change.all.length) finish(state, change)
  }
  const { looks, all, over, ...doc } = change
  return doc
}

const entry = (change, s, i, is, error = '') => ({ change: change.id, n: i + 1, platform: s.platform, policy: s.policy, step: JSON.stringify(s), state: is, error, at: iso(Date.parse(change.at) + 300 * (i + 1)) })

function finish(state, change) {
  const bad = state.scenario.includes('partial') ? 1 : -1
  const why = 'kvm-02: bridge br-int: no room for another mirror'
  change.steps = change.all.map((s, i) => entry(change, s, i, i === bad ? 'failed' : 'done', i === bad ? why : ''))
  change.state = bad < 0 ? 'done' : 'partly'
  change.end = iso(Date.parse(change.at) + 1240)
  const platforms = [{ platform: 'kvm', steps: change.all.length - (bad < 0 ? 0 : 1), state: 'done' }, ...(bad < 0 ? [] : [{ platform: 'kvm/kvm-02', steps: 0, state: 'rolled-back', error: why }])]
  change.report = JSON.stringify({ change: change.id, state: change.state, steps: platforms[0].steps, took_ms: 1240, platforms, refusals: [] })
  change.over?.()
}

/** match answers for "field = value", "field like pattern" and both joined by and; what it does not know is a mistake. */
function match(state, q, now) {
  const names = { vm: 'vm', host: 'host', tenant: 'tenant', segment: 'segment', switch: 'switch', port: 'port' }
  const read = (text) => text.split(/ and /).map((c) => {
    const [, field, op, value] = /^\s*\(?([\w.]+)\s*(=|!=|like)\s*"?([^"]*?)"?\)?\s*$/.exec(c) ?? []
    if (!names[field]) throw new Error(`column ${Math.max(1, text.indexOf(field ?? c) + 1)}, at "${field ?? c}": unknown field${field?.startsWith('ten') ? '; did you mean "tenant"?' : ''}`)
    const re = new RegExp('^' + value.replaceAll('%', '.*') + '$')
    return (r) => (op === '!=') !== (op === 'like' ? re.test(r[names[field]]) : r[names[field]] === value)
  })
  let select, exclude
  try {
    select = read(q.get('select') ?? '')
    exclude = q.get('exclude') ? q.get('exclude').split(/ or /).map((x) => read(x)) : []
  } catch (e) {
    return { status: 422, detail: 'select: ' + e.message }
  }
  const all = machines(now).filter((r) => r.until === null && select.every((f) => f(r)) && !exclude.some((x) => x.every((f) => f(r))))
  const rows = all.map((r, i) => ({ platform: 'kvm', host: r.host, switch: r.switch, port: r.port, segment: r.segment, vm: r.vm, tenant: r.tenant, mac: r.mac, ...(i % 7 === 3 && { reason: 'foreign-tenant', message: `machine ${r.vm} is of no known tenant`, fix: "select the tenant's machines alone, or write allow: [other-tenants]" }) }))
  rows.sort((a, b) => Number(Boolean(b.reason)) - Number(Boolean(a.reason)))
  const good = rows.filter((r) => !r.reason)
  return { doc: { vms: new Set(good.map((r) => r.vm)).size, ports: good.length, hosts: new Set(good.map((r) => r.host)).size, refused: rows.length - good.length, known: 480, rows: rows.slice(0, Number(q.get('limit') || 200)), lost: state.scenario === 'lost' ? ['vc-2'] : [] } }
}
