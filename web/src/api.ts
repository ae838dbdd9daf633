// The shapes of internal/collect/report and of the endpoints below /api/v1, and one function that asks.
// Hand-typed, field for field; test/real.mjs compares the names with what a real server answers.

export interface Gap { from: string; to: string; scope: string; who: string; reason: string; lost_records: number }

export interface Completeness {
  ratio: number | null
  lost_records: number
  dropped_records: number
  sampled_rows: number
  ambiguous_rows: number
  gaps: Gap[] | null
}

export interface Empty { cause: string; text: string; action: string }

export interface Meta {
  schema: number
  report: string
  since: string
  until: string
  filter: string
  sort: string
  limit: number
  total: { rows: number; octets: number; packets: number; flows: number }
  data_from: string | null
  data_until: string | null
  resolution: string
  completeness: Completeness
  empty: Empty | null
}

export interface Ends {
  segment: string
  vni: number
  fabric: string
  tenant: string
  src_vtep: string
  src_host: string
  src_vm: string
  src_vm_id: string
  src_addr: string
  dst_addr: string
  dst_vm: string
  dst_vm_id: string
  dst_host: string
  dst_vtep: string
  same_host: boolean
}

export interface Counts {
  octets_fwd: number
  octets_rev: number
  packets_fwd: number
  packets_rev: number
  octets: number
  octets_error: number
  packets: number
  flows: number
  share: number
  first_seen: string
  last_seen: string
  seen_by: string[] | null
  duplicates: number
  marks: string[] | null
}

export interface Pair extends Ends, Counts { conversations: number; apps: string[] | null; spark: number[] | null }

export interface Conversation extends Ends, Counts {
  proto: string
  src_port: number
  dst_port: number
  app: string
  tcp_flags: string
}

export interface Flow {
  start: string
  end: string
  received: string
  exporter: string
  domain: number
  observer: string
  role: string
  direction: string
  canonical: boolean
  segment: string
  vni: number
  fabric: string
  tenant: string
  src_vtep: string
  dst_vtep: string
  src_host: string
  dst_host: string
  src_vm: string
  dst_vm: string
  src_vm_id: string
  dst_vm_id: string
  src_addr: string
  dst_addr: string
  src_port: number
  dst_port: number
  proto: string
  app: string
  src_mac: string
  dst_mac: string
  vlan: number
  ethertype: number
  tos: number
  min_ttl: number
  max_ttl: number
  tcp_flags: string
  icmp: string
  in_if: number
  out_if: number
  packets: number
  octets: number
  l2_octets: number
  sampling: number
  end_reason: string
  flow_id: string
  marks: string[] | null
}

export interface Answer<Row> { meta: Meta; rows: Row[] | null }

export interface Line { key: string[]; values: number[]; total: number; min: number; max: number; avg: number; p95: number; last: number }

export interface Series { meta: Meta; by: string[] | null; metric: string; unit: string; step_ms: number; times: string[] | null; lines: Line[] | null }

export interface Link { src_vtep: string; segment: string; tenant: string; dst_vtep: string; octets: number; packets: number }

export interface Sankey { meta: Meta; links: Link[] | null }

export interface ObserverRow {
  observer: string
  role: string
  host: string
  exporter: string
  domain: number
  rows: number
  octets: number
  canonical: number
  last_seen: string
  lost_records: number
}

export interface SegmentTotal { segment: string; vni: number; tenant: string; octets: number; packets: number }

export interface Overview {
  meta: Meta
  pairs: number
  new_pairs: number
  tenants: number
  segments: number
  vms: number
  bits_per_second: number
  same_host_ratio: number | null
  unknown_ratio: number | null
  coverage_ratio: number | null
  coverage_reason: string
  observers: ObserverRow[] | null
  top_pairs: Pair[] | null
  top_segments: SegmentTotal[] | null
}

export interface Exporter {
  address: string
  domain: number
  name: string
  protocol: string
  state: string
  first_seen: string
  last_seen: string
  datagrams: number
  records: number
  option_records: number
  lost_records: number
  templates: number
  template_missing_records: number
  unknown_fields: number
  errors: number
  clock_skew_seconds: number | null
}

export interface Exporters { schema: number; now: string; rows: Exporter[] | null }

export interface Statement { stage: string; unit: string; in: number; out: number; held: number; dropped: { reason: string; n: number }[] | null }

export interface Finding { level: string; what: string; why: string; action: string }

export interface Listener { name: string; address: string; network: string; datagrams: number; dropped_datagrams: number; buffer_bytes: number }

export interface Status {
  schema: number
  version: string
  healthy: boolean
  now: string
  started_at: string
  process: { pid: number; resident_bytes: number; cpu_seconds: number; goroutines: number }
  listeners: Listener[] | null
  stages: Statement[] | null
  store: { dir: string; rows: number; pending_rows: number; segments: number; size_bytes: number; data_from: string | null; data_until: string | null }
  inventory: { path: string; loaded_at: string; vnics: number; hosts: number; observers: number; tenants: number; error: string } | null
  exporters: Exporter[] | null
  findings: Finding[] | null
}

/** Fault is one mistake in a question; pos and len are bytes of a filter expression. */
export interface Fault { message: string; location?: string; value?: unknown; pos?: number; len?: number; suggestion?: string }

export interface FilterCheck { ok: boolean; error: Fault | null }

export interface Completion { text: string; kind: string; detail: string; from: number; to: number }

export interface Completions { completions: Completion[] | null }

/** Tick is the data of a live event. */
export interface Tick { now: string; data_until: string | null; rows: number; records: number; lost_records: number }

/** Params are the query parameters; empty values are left out, arrays repeat. */
export type Params = Record<string, string | number | string[] | undefined>

/** root is where the console is mounted: the base element says so, and it stays what it was at the start. */
export const root = new URL('.', document.baseURI)

/** url gives the absolute address of a report, the same one that a script would use. */
export function url(path: string, params: Params = {}): string {
  const u = new URL('api/v1/' + path, root)
  for (const [name, value] of Object.entries(params)) {
    for (const v of Array.isArray(value) ? value : [value]) {
      if (v !== undefined && v !== '') u.searchParams.append(name, String(v))
    }
  }
  return u.href
}

export interface Problem { title?: string; status?: number; detail?: string; errors?: Fault[] | null }

/** Failure is an answer that did not come: an RFC 9457 problem (status > 0) or no connection (status 0). */
export class Failure extends Error {
  constructor(readonly status: number, readonly problem: Problem, readonly request: string) {
    super(problem.detail || problem.title || `HTTP ${status}`)
    this.name = 'Failure'
  }
}

/** get asks for one document. It throws Failure, or an AbortError when signal ends it. */
export async function get<T>(path: string, params: Params = {}, signal?: AbortSignal): Promise<T> {
  const address = url(path, params)
  let response: Response
  try {
    response = await fetch(address, { signal: signal ?? null, headers: { accept: 'application/json, application/problem+json' } })
  } catch (e) {
    if (signal?.aborted) throw e
    throw new Failure(0, {}, address)
  }
  const kind = response.headers.get('content-type') ?? ''
  if (response.ok && kind.includes('json')) return (await response.json()) as T
  const problem: Problem = kind.includes('json') ? await response.json() : { title: response.statusText }
  throw new Failure(response.ok ? 502 : response.status, problem, address)
}
