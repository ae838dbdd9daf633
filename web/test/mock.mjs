// A server with made-up answers in exactly the shapes of the real one: for development ("npm run mock", then
// "npm run dev") and for the browser tests. POST /_mock {"scenario": …} chooses what goes wrong.
import { createReadStream, existsSync, readFileSync, statSync } from 'node:fs'
import { createServer, request } from 'node:http'
import { extname, join, normalize } from 'node:path'
import { fileURLToPath } from 'node:url'
import * as data from './data.mjs'
import * as taps from './mockcontrol.mjs'
import * as places from './mockplaces.mjs'
import * as more from './mockreports.mjs'
import { FilterError, check, compile, complete } from './mockfilter.mjs'

const dist = fileURLToPath(new URL('../dist/', import.meta.url))
const kinds = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript; charset=utf-8', '.css': 'text/css; charset=utf-8', '.svg': 'image/svg+xml' }
const policy = "default-src 'self'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'; object-src 'none'; img-src 'self' blob:"
const DAY = 86400_000

/** start listens on a loopback port (0 = any) below a path prefix such as "/net/". With an upstream, a real server's
 * address, that one answers, and only the console's files come from here. */
export function start({ port = 0, prefix = '/', pairs = 1500, upstream = '' } = {}) {
  const state = { scenario: 'normal', requests: [], streams: new Set(), pairs, bump: 0 }
  const server = createServer((req, res) => {
    const u = new URL(req.url, 'http://mock')
    if (!u.pathname.startsWith(prefix)) return void res.writeHead(404).end()
    const path = '/' + u.pathname.slice(prefix.length)
    if (path === '/_mock') return control(state, req, res)
    if (upstream && path === '/openapi.json') return pass(upstream + 'openapi.json', req, res)
    if (!path.startsWith('/api/v1/')) return page(path, res)
    state.requests.push(req.url)
    if (upstream) return pass(upstream + path.slice(1) + u.search, req, res)
    if (path === '/api/v1/events') return events(state, req, res)
    const report = path.slice('/api/v1/'.length)
    if (report === 'agents' || report.startsWith('control/')) return controlled(state, report, req, u.searchParams, res)
    answer(state, report, u.searchParams, res)
  })
  return new Promise((done) => server.listen(port, '127.0.0.1', () => {
    done({ state, url: `http://127.0.0.1:${server.address().port}${prefix}`, stop: () => (state.streams.forEach((s) => s.destroy()), server.closeAllConnections(), server.close()) })
  }))
}

function pass(address, req, res) {
  const headers = { accept: req.headers.accept ?? '*/*', ...(req.headers['content-type'] && { 'content-type': req.headers['content-type'] }) }
  const from = request(address, { method: req.method, headers }, (r) => (res.writeHead(r.statusCode, r.headers), r.pipe(res)))
  from.on('error', () => res.destroy())
  req.pipe(from)
  res.on('close', () => from.destroy())
}

function control(state, req, res) {
  let body = ''
  req.on('data', (b) => (body += b)).on('end', () => {
    Object.assign(state, JSON.parse(body || '{}'))
    if (JSON.parse(body || '{}').tick) tell(state)
    res.end()
  })
}

function controlled(state, path, req, q, res) {
  let body = ''
  req.on('data', (b) => (body += b)).on('end', async () => {
    if (state.scenario === 'offline') return res.destroy()
    if (state.scenario === 'denied' && req.method === 'POST') return problem(res, 403, 'Forbidden', 'changes are taken on a loopback address only, because there is no login: ask from the server\'s own machine, such as through ssh -L')
    const { doc, status, detail, later } = await taps.control(state, path, req.method, q, JSON.parse(body || '{}'))
    if (doc) json(res, doc)
    else problem(res, status, status === 404 ? 'Not Found' : 'Unprocessable Entity', detail, [], later)
  })
}

function page(path, res) {
  const file = join(dist, normalize(path))
  const headers = { 'content-security-policy': policy }
  if (extname(path) && existsSync(file) && statSync(file).isFile()) {
    res.writeHead(200, { ...headers, 'content-type': kinds[extname(path)] ?? 'application/octet-stream' })
    return createReadStream(file).pipe(res)
  }
  if (extname(path)) return res.writeHead(404).end('no such file')
  const depth = path.slice(1).split('/').length - 1
  const html = readFileSync(join(dist, 'index.html'), 'utf8').replace('<base href="./" />', `<base href="${depth ? '../'.repeat(depth) : './'}" />`)
  res.writeHead(200, { ...headers, 'content-type': kinds['.html'] }).end(html)
}

function events(state, req, res) {
  if (state.scenario === 'nostream') return res.writeHead(404).end()
  res.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' })
  res.write('retry: 1000\n\n')
  state.streams.add(res)
  const timer = setInterval(() => tell(state), 1000)
  req.on('close', () => (clearInterval(timer), state.streams.delete(res)))
}

function tell(state) {
  state.bump++
  const tick = { time: new Date().toISOString(), rows: 42, data_until: new Date(Date.now() - 900).toISOString() }
  for (const s of state.streams) s.write(`event: tick\ndata: ${JSON.stringify(tick)}\n\n`)
}

function time(text, now) {
  if (text === 'now') return now
  const rel = /^now-(.+)$/.exec(text)
  if (!rel) return /^\d+$/.test(text) ? Number(text) * 1000 : Date.parse(text)
  const size = { s: 1e3, m: 6e4, h: 36e5, d: DAY, w: 7 * DAY }
  return now - [...rel[1].matchAll(/(\d+)([smhdw])/g)].reduce((sum, [, n, u]) => sum + n * size[u], 0)
}

function problem(res, status, title, detail, errors = [], later = undefined) {
  res.writeHead(status, { 'content-type': 'application/problem+json', 'x-request-id': 'mock-1' })
  res.end(JSON.stringify({ title, status, detail, errors, later }))
}

function answer(state, report, q, res) {
  if (state.scenario === 'offline') return res.destroy()
  if (state.scenario === 'slow') return setTimeout(() => answer(state, report, q, res), 100) // until it is another
  if (report === 'filter/check') return json(res, check(q.get('f') ?? ''))
  if (report === 'filter/complete') return json(res, complete(q.get('f') ?? '', Number(q.get('pos') ?? (q.get('f') ?? '').length)))
  if (state.scenario === 'error' || state.scenario === 'error:' + report) return problem(res, 500, 'Internal Server Error', 'store: query: segment 01J9: read: input/output error')
  if (state.scenario === 'busy') return problem(res, 503, 'Service Unavailable', 'query: 4 questions are being answered and 32 wait')
  if (state.scenario === 'timeout') return problem(res, 504, 'Gateway Timeout', 'query: stopped after 30 s; choose a shorter range')
  if (report === 'filter/explain') {
    const { doc, fault } = places.explain(q)
    return fault ? problem(res, 422, 'Unprocessable Entity', 'the question has a mistake', [fault]) : json(res, doc)
  }
  if (report === 'filter/packets') return json(res, { expr: q.get('inner') ? 'inner port 443' : 'port 443', unsaid: [{ pos: 0, len: 15, text: 'tenant = "blue"', why: 'packets do not tell their tenant' }] })
  if (report === 'sql') {
    const { doc, status, detail } = places.sql(state, q)
    return doc ? json(res, doc) : problem(res, status, status === 403 ? 'Forbidden' : 'Unprocessable Entity', detail)
  }
  const now = Date.now()
  const since = time(q.get('from') ?? 'now-1h', now)
  const until = time(q.get('to') ?? 'now', now)
  if (!(since < until)) return problem(res, 422, 'Unprocessable Entity', 'validation failed', [{ message: 'from must be before to', location: 'query.from', value: q.get('from') }])
  try {
    const c = { ...context(state, q, since, until, now), report }
    if (!reports[report]) return problem(res, 404, 'Not Found', `no report "${report}"`)
    const body = reports[report](c)
    if (q.get('format') === 'csv') return csv(res, body.rows)
    json(res, body)
  } catch (e) {
    if (!(e instanceof FilterError)) throw e
    problem(res, 422, 'Unprocessable Entity', 'filter: column ' + (e.pos + 1) + ': ' + e.message, [{ message: e.message, location: 'query.f', value: q.get('f'), pos: e.pos, len: e.len, suggestion: e.suggestion }])
  }
}

function context(state, q, since, until, now) {
  const match = compile(q.get('f') ?? '')
  const empty = state.scenario.startsWith('empty:') ? state.scenario.slice(6) : ''
  const all = empty ? [] : data.pairs(state.pairs, now, until - since).filter(match)
  if (state.bump) for (const [i, p] of all.entries()) if ((i + state.bump) % 5 === 0) (p.octets_fwd += state.bump * 1e6), (p.octets += state.bump * 1e6)
  const conversations = () => data.conversations(all).filter(match)
  return { q, since, until, now, all, conversations, empty, sort: q.get('sort') ?? '', limit: Number(q.get('limit') || 1000), counters: state.scenario !== 'nocounters', few: state.few, each: state.many ? 336 : 16, unknown: state.scenario === 'noinventory' }
}

function sorted(rows, sort, fallback) {
  const name = (sort || fallback).replace(/^-/, '')
  const sign = (sort || fallback).startsWith('-') ? -1 : 1
  return [...rows].sort((a, b) => sign * (typeof a[name] === 'number' ? a[name] - b[name] : String(a[name]).localeCompare(String(b[name]))))
}

const causes = {
  no_exporter: ['No exporter has sent a record since this store was made.', 'Send IPFIX to 127.0.0.1:4739, or run "crosstap demo".'],
  exporter_silent: ['3 exporters have sent before; the last record came 2 h ago.', 'See which exporters are silent.'],
  template_missing: ['12,400 records of 10.201.0.3 wait for template 256.', 'Wait for the next template (600 s), or restart the exporter.'],
  filter_excludes: ['1,500 pairs are in this range; "vni = 1" excludes all of them.', 'Clear the filter.'],
  before_first_data: ['The first record is of today, 10:00.', 'Choose a later range.'],
  no_underlay: ['No observer tells of packets between tunnel endpoints in the time range.', 'Meter the network between the hosts.'],
  not_yet_stored: ['Records of this range are received but not flushed yet.', 'Ask again in 2 s.'],
}

const until24 = (c) => c.until - c.since >= 3 * 36e5 && !['pairs', 'conversations', 'flows'].includes(c.report)

function meta(c, report, rows, fallback) {
  const sum = (n) => c.all.reduce((s, p) => s + p[n], 0)
  const cause = c.empty || (rows === 0 ? 'filter_excludes' : '')
  const gap = { from: new Date(c.until - (c.until - c.since) * 0.42).toISOString(), to: new Date(c.until - (c.until - c.since) * 0.39).toISOString(), scope: 'exporter', who: 'kvm-17 vtep', reason: 'sequence numbers jumped', lost_records: 312 }
  return {
    schema: 1, report, since: new Date(c.since).toISOString(), until: new Date(c.until).toISOString(), filter: c.q.get('f') ?? '', sort: c.sort || fallback, limit: c.limit,
    total: { rows, octets: sum('octets'), packets: sum('packets'), flows: sum('flows') },
    data_from: c.empty === 'no_exporter' ? null : new Date(c.now - 3 * DAY).toISOString(), data_until: c.empty === 'no_exporter' ? null : new Date(c.now - 1400).toISOString(), resolution: until24(c) ? '1h' : 'raw', notes: [],
    completeness: { ratio: c.empty === 'no_exporter' ? null : 0.9998, lost_records: c.empty ? 0 : 312, dropped_records: 0, sampled_rows: 36, ambiguous_rows: 0, uncertain_rows: 0, uncertain_packets: 0, uncertain_octets: 0, gaps: c.empty ? [] : [gap] },
    empty: cause ? { cause, text: causes[cause][0], action: causes[cause][1] } : null,
  }
}

const clean = (rows) => rows.map((r) => Object.fromEntries(Object.entries(r).filter(([k]) => !k.startsWith('_'))))

function list(report, rowsOf, fallback) {
  return (c) => {
    const rows = sorted(rowsOf(c), c.sort, fallback)
    return { meta: meta(c, report, rows.length, fallback), rows: clean(rows.slice(0, c.limit)) }
  }
}

const reports = {
  pairs: list('pairs', (c) => c.all, '-octets'),
  conversations: list('conversations', (c) => c.conversations(), '-octets'),
  flows: list('flows', (c) => data.flows(c.conversations().slice(0, 400), c.now), '-end'),
  networks: list('networks', more.networks, '-octets'),
  vms: list('vms', more.vms, '-octets'),
  observers: list('observers', more.observed, '-octets'),
  underlay: list('underlay', more.carriers, '-overlay_octets'),
  overlay: list('overlay', (c) => more.carriers(c).filter((r) => r.match !== 'none'), '-underlay_octets'),
  'allow-list': list('allow-list', more.allow, 'segment'),
  vm: (c) => more.vm(c, (rows) => meta(c, 'vm', rows, '')),
  top: (c) => more.top(c, (rows) => meta(c, 'top', rows, '-octets')),
  map: (c) => more.map(c, (rows) => meta(c, 'map', rows, '-octets')),
  adapters: places.adapters,
  topology: places.topology,
  coverage: (c) => more.coverage(c, (rows) => meta(c, 'coverage', rows, ''), c.counters),
  irregular: (c) => more.irregular(c, (rows) => meta(c, 'irregular', rows, '-score')),
  sankey: (c) => ({ meta: meta(c, 'sankey', c.all.length, '-octets'), links: links(c).slice(0, c.limit) }),
  series,
  overview,
  exporters: (c) => ({ schema: 1, now: new Date(c.now).toISOString(), rows: exporters(c) }),
  status,
}

function links(c) {
  const all = new Map()
  for (const p of c.all) {
    const a = p.same_host ? 'same host' : `${p.src_vtep} (${p.src_host})`
    const b = p.same_host ? 'same host' : `${p.dst_vtep} (${p.dst_host || '?'})`
    const l = all.get(a + p.segment + b) ?? { src_vtep: a, segment: p.segment, tenant: p.tenant, dst_vtep: b, octets: 0, packets: 0 }
    l.octets += p.octets
    l.packets += p.packets
    all.set(a + p.segment + b, l)
  }
  return [...all.values()].sort((a, b) => b.octets - a.octets)
}

function series(c) {
  const by = c.q.getAll('by').flatMap((b) => b.split(','))
  const metric = c.q.get('metric') || 'octets'
  const span = c.until - c.since
  const step = [1, 2, 5, 10, 30, 60, 300, 600, 1800, 3600, 7200, 21600].map((s) => s * 1000).find((s) => span / s <= 200) ?? 86400_000
  const times = []
  for (let t = Math.ceil(c.since / step) * step; t < c.until; t += step) times.push(t)
  const groups = new Map()
  for (const p of c.all) {
    const key = by.map((f) => f.replace('dst.port', '_port').replace('.', '_')).map((b) => String(b === 'app' ? p.apps[0] : b === 'observer' ? p.seen_by[0] : (p[b] ?? '')))
    groups.set(key.join(' '), { key, total: (groups.get(key.join(' '))?.total ?? 0) + (p[metric] ?? 0) })
  }
  const top = [...groups.values()].sort((a, b) => b.total - a.total)
  const kept = top.slice(0, 9)
  if (top.length > 9) kept.push({ key: ['other'], total: top.slice(9).reduce((s, g) => s + g.total, 0) })
  const lines = kept.map((g, i) => line(g, i, times, span, metric, c.q.get('previous') === 'true'))
  return { meta: meta(c, 'series', c.all.length, ''), by, metric, unit: { octets: 'bit/s', packets: 'packet/s', flows: 'flow/s' }[metric] ?? metric + '/s', step_ms: step, times: times.map((t) => new Date(t).toISOString()), lines, ...(c.q.get('previous') === 'true' && { previous_since: new Date(c.since - span).toISOString(), previous_until: new Date(c.since).toISOString() }) }
}

function line(g, i, times, span, metric, previous) {
  const mean = (g.total / span) * 1000 * (metric === 'octets' ? 8 : 1)
  const values = times.map((t) => mean * (1 + 0.35 * Math.sin(t / (span / 6) + i / 3) + 0.06 * Math.sin(t / 7919 + i)) * (i === 1 && Math.sin(t / (span / 5)) > 0.94 ? 2.2 : 1))
  const up = [...values].sort((a, b) => a - b)
  return { key: g.key, values, total: g.total, min: up[0] ?? 0, max: up.at(-1) ?? 0, avg: mean, p95: up[Math.floor(up.length * 0.95)] ?? 0, last: values.at(-1) ?? 0, ...(previous && { previous: values.map((v, k) => v * (0.8 + 0.1 * Math.sin(k / 9))), previous_total: Math.round(g.total * 0.8) }) }
}

function overview(c) {
  const sum = (f) => c.all.filter(f).reduce((s, p) => s + p.octets, 0)
  const all = sum(() => true)
  const segments = new Map()
  for (const p of c.all) {
    const s = segments.get(p.segment) ?? { segment: p.segment, vni: p.vni, tenant: p.tenant, octets: 0, packets: 0 }
    s.octets += p.octets
    s.packets += p.packets
    segments.set(p.segment, s)
  }
  return {
    meta: meta(c, 'overview', c.all.length, ''), pairs: c.all.length, new_pairs: c.empty ? 0 : 31, tenants: segments.size, segments: segments.size, vms: new Set(c.all.flatMap((p) => [p.src_vm, p.dst_vm])).size,
    bits_per_second: (all * 8000) / (c.until - c.since), same_host_ratio: all ? sum((p) => p.same_host) / all : null, unknown_ratio: all ? sum((p) => !p.dst_vm) / all : null,
    coverage_ratio: null, coverage_reason: 'no platform reports vNIC counters', observers: data.observers(c.all, c.now), top_pairs: clean(c.all.slice(0, 10)), top_segments: [...segments.values()].sort((a, b) => b.octets - a.octets),
  }
}

function exporters(c) {
  if (c.empty === 'no_exporter') return []
  return data.observers(data.pairs(300, c.now, 36e5), c.now).slice(0, 30).map((o, i) => ({
    address: o.exporter, domain: o.domain, name: o.observer, protocol: 'IPFIX', state: i === 5 || c.empty === 'exporter_silent' ? 'silent' : 'active', first_seen: new Date(c.now - DAY).toISOString(),
    last_seen: new Date(c.now - (i === 5 ? 2 * 36e5 : 900 + i * 40)).toISOString(), datagrams: 5200 + i * 311, records: 61000 + i * 2911, option_records: 0, lost_records: o.lost_records, templates: 4,
    template_missing_records: i === 8 ? 120 : 0, unknown_fields: 0, errors: i === 11 ? 3 : 0, clock_skew_seconds: i % 4 ? 0.02 * i : null,
    records_per_second: 3.7 * i, loss_ratio: o.lost_records ? 0.0051 : 0, loss_unit: 'records', shed_datagrams: 0, not_sent: 0, templates_missing: i === 8 ? 1 : 0, template_conflicts: i === 9 ? 2 : 0, borrowed_records: 0, sampling: i % 6 === 2 ? 64 : 1,
    sampling_source: i % 6 === 2 ? ['announced', 'assumed', 'config'][(i / 6) % 3 | 0] : 'none', sampling_note: i === 14 ? 'announced 1:100, the inventory says 1:64' : '', unknown_elements: i === 7 ? '6876:991, 9:4000' : '', feeds: i === 10 ? '' : 'pairs, conversations, series, tenants, vteps, tcp', counter_samples: 0,
  }))
}

function status(c) {
  const now = new Date(c.now).toISOString()
  const book = (stage, unit, n, dropped) => ({ stage, unit, in: n, out: n - dropped.reduce((s, d) => s + d.n, 0), held: 0, dropped })
  return {
    schema: 1, version: '0.1.0-mock', healthy: true, now, started_at: new Date(c.now - 3 * 36e5).toISOString(), process: { pid: 4711, resident_bytes: 231e6, cpu_seconds: 812, goroutines: 41 },
    listeners: [{ name: 'flows', address: '127.0.0.1:4739', network: 'udp', datagrams: 171234, dropped_datagrams: 12, buffer_bytes: 4194304, sockets: 2, connections: 0, refused: 3, error: '' }, { name: 'http', address: '127.0.0.1:8474', network: 'tcp', datagrams: 0, dropped_datagrams: 0, buffer_bytes: 0, sockets: 1, connections: 0, refused: 0, error: '' }],
    flows: { known: 48211, forgotten: 0, ambiguous: 0 },
    stages: [book('listen', 'datagrams', 171234, [{ reason: 'queue_full', n: 0 }]), book('session', 'datagrams', 171234, [{ reason: 'truncated', n: 3 }]), book('enrich', 'records', 2104112, []), book('store', 'records', 2104112, [{ reason: 'too_old', n: 17 }])],
    store: { dir: '/var/lib/crosstap', rows: 2104095, pending_rows: 211, segments: 38, size_bytes: 47e6, data_from: new Date(c.now - 3 * DAY).toISOString(), data_until: now },
    inventory: { path: 'inventory.yaml', loaded_at: now, vnics: 480, hosts: 24, observers: 48, tenants: 6, error: '' }, exporters: exporters(c),
    outputs: [{ name: 'siem', to: 'kafka://10.0.0.7:9092/flows', unit: 'records', in: 2104112, sent: 2104000, held: 95, dropped: [{ reason: 'queue_full', n: 17 }], lag_seconds: 0.4, messages: 2100, bytes: 52e6, retries: 2, error: '', error_at: null, note: '' }, { name: 'old', to: 'udp://10.0.0.8:2055', unit: 'datagrams', in: 171234, sent: 171234, held: 0, dropped: [], lag_seconds: 0, messages: 171234, bytes: 2e8, retries: 0, error: 'connection refused', error_at: now, note: '' }],
    findings: [{ level: 'warn', what: 'exporter kvm-09 vtep', why: 'silent for 2 h', action: 'Check its export process' }],
  }
}

function json(res, body) {
  res.writeHead(200, { 'content-type': 'application/json', 'cache-control': 'no-store' })
  res.end(JSON.stringify(body))
}

function csv(res, rows) {
  const names = Object.keys(rows[0] ?? {})
  res.writeHead(200, { 'content-type': 'text/csv; charset=utf-8', 'content-disposition': 'attachment; filename="crosstap.csv"' })
  res.end([names.join(), ...rows.map((r) => names.map((n) => JSON.stringify(r[n] ?? '')).join())].join('\n') + '\n')
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const server = await start({ port: Number(process.env.PORT ?? 8475), upstream: process.env.CROSSTAP ?? '' })
  console.log(server.url)
}
