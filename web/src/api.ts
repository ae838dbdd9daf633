// The shapes of internal/collect/report and of the endpoints below /api/v1, and one function that asks.
// Hand-typed, field for field; TestConsoleTypes of internal/serve compares them with the OpenAPI document that the server gives.
import { m } from './messages'

export interface Gap { from: string; to: string; scope: string; who: string; reason: string; lost_records: number }

export interface Completeness {
  ratio: number | null
  lost_records: number
  dropped_records: number
  sampled_rows: number
  ambiguous_rows: number
  uncertain_rows: number
  uncertain_packets: number
  uncertain_octets: number
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
  total: { rows: number; octets: number; packets: number; flows: number | null }
  data_from: string | null
  data_until: string | null
  resolution: string
  notes: string[] | null
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
  in_if_name: string
  out_if_name: string
  vrf: string
  src_tenant: string
  dst_tenant: string
  app_how: string
  app_name: string
  min_len: number
  max_len: number
  rtt_us: number
  retransmits: number
  zero_windows: number
  fragments: number
  inner_vlan: number
  src_vif: number
  dst_vif: number
  mpls: number
  extra: string[] | null
}

export interface Answer<Row> { meta: Meta; rows: Row[] | null }

export interface Line { key: string[]; values: number[]; total: number; min: number; max: number; avg: number; p95: number; last: number; previous?: number[] | null; previous_total?: number }

export interface Series { meta: Meta; by: string[] | null; metric: string; unit: string; step_ms: number; times: string[] | null; lines: Line[] | null; previous_since?: string | null; previous_until?: string | null }

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
  records_per_second: number
  loss_ratio: number
  loss_unit: string
  shed_datagrams: number
  not_sent: number
  templates_missing: number
  template_conflicts: number
  borrowed_records: number
  sampling: number
  sampling_source: string
  sampling_note: string
  unknown_elements: string
  feeds: string
  counter_samples: number
}

export interface Exporters { schema: number; now: string; rows: Exporter[] | null }

export interface Statement { stage: string; unit: string; in: number; made?: number; out: number; held: number; dropped: { reason: string; n: number }[] | null }

export interface Finding { level: string; what: string; why: string; action: string }

export interface Listener { name: string; address: string; network: string; datagrams: number; dropped_datagrams: number; buffer_bytes: number; sockets: number; connections: number; refused: number; error: string }

/** Output is a receiver of records, or of datagrams as they came, beside the store. */
export interface Output {
  name: string
  to: string
  unit: string
  in: number
  sent: number
  held: number
  dropped: { reason: string; n: number }[] | null
  lag_seconds: number
  messages: number
  bytes: number
  retries: number
  error: string
  error_at: string | null
  note: string
}

export interface Status {
  schema: number
  version: string
  healthy: boolean
  now: string
  started_at: string
  process: { pid: number; resident_bytes: number; cpu_seconds: number; goroutines: number }
  listeners: Listener[] | null
  stages: Statement[] | null
  flows: { known: number; forgotten: number; ambiguous: number; retimed: number }
  store: { dir: string; rows: number; pending_rows: number; segments: number; size_bytes: number; data_from: string | null; data_until: string | null }
  inventory: { path: string; loaded_at: string; vnics: number; hosts: number; observers: number; tenants: number; error: string } | null
  exporters: Exporter[] | null
  outputs: Output[] | null
  findings: Finding[] | null
}

export interface Network {
  segment: string
  vni: number
  fabric: string
  tenant: string
  known: boolean
  vteps: string[] | null
  hosts: string[] | null
  vms: number
  unknown_addrs: number
  pairs: number
  octets: number
  packets: number
  octets_same_host: number
  max_packet: number
  needed_mtu: number
  mtu_risk: string
  fragments: number
  first_seen: string
  last_seen: string
}

export interface Networks { meta: Meta; mtu: number; rows: Network[] | null }

export interface Thing {
  name: string
  id: string
  fabric: string
  tenants: string[] | null
  segments: string[] | null
  hosts: string[] | null
  addrs: string[] | null
  octets_sent: number
  octets_received: number
  packets_sent: number
  packets_received: number
  peers: number
  first_seen: string
  last_seen: string
}

export interface Side { octets: number; octets_error: number; packets: number }

export interface Placement { host: string; segment: string; tenant: string; addr: string; name: string; first_seen: string; last_seen: string }

export interface Peer {
  segment: string
  name: string
  id: string
  addr: string
  tenant: string
  host: string
  same_host: boolean
  known: boolean
  octets_sent: number
  octets_received: number
  packets: number
  octets_before: number
  state: string
  first_seen: string
  last_seen: string
}

export interface Service { proto: string; port: number; app: string; peers: number; octets: number; packets: number; octets_before: number; state: string }

export interface Change { kind: string; at: string; text: string }

export interface VMPage {
  meta: Meta
  name: string
  id: string
  fabric: string
  tenants: string[] | null
  segments: string[] | null
  addrs: string[] | null
  host: string
  places: Placement[] | null
  sent: Side
  received: Side
  sent_before: Side
  received_before: Side
  before_from: string
  before_to: string
  octets_east_west: number
  octets_north_south: number
  octets_same_host: number
  retransmits: number
  zero_windows: number
  step_ms: number
  times: string[] | null
  sent_series: number[] | null
  received_series: number[] | null
  before_series: number[] | null
  peers_total: number
  peers: Peer[] | null
  served: Service[] | null
  used: Service[] | null
  changes: Change[] | null
}

export interface TopRow {
  period: string | null
  key: string[] | null
  octets: number
  octets_error: number
  octets_sent: number | null
  octets_received: number | null
  l2_octets: number
  packets: number
  flows: number | null
  rows: number
  retransmits: number
  zero_windows: number
  fragments: number
  rtt_avg_us: number | null
  rtt_max_us: number | null
  rtt_p50_us: number | null
  rtt_p95_us: number | null
  rtt_p99_us: number | null
  share: number
  first_seen: string
  last_seen: string
  marks: string[] | null
}

export interface Top { meta: Meta; by: string[] | null; per: string[] | null; period_ms: number; metric: string; rows: TopRow[] | null }

export interface MapNode { id: string; kind: string; label: string; group: string[] | null; members: number; octets: number; layer: number; x: number; y: number }

export interface MapService { proto: string; port: number; app: string; octets: number; state: string }

export interface MapEdge {
  src: string
  dst: string
  services: MapService[] | null
  services_total: number
  octets_fwd: number
  octets_rev: number
  octets: number
  packets: number
  octets_before: number
  links: number
  new_links: number
  gone_links: number
  cross_tenant: boolean
  state: string
  first_seen: string
  last_seen: string
}

export interface Hidden { nodes: number; edges: number; octets: number; cross_tenant: number }

export interface DependencyMap {
  meta: Meta
  by: string[] | null
  expanded: string[] | null
  focus: string
  hops: number
  base_since: string | null
  base_until: string | null
  width: number
  height: number
  hidden: Hidden
  nodes: MapNode[] | null
  edges: MapEdge[] | null
}

export interface Sight {
  observer: string
  role: string
  host: string
  way: string
  side: string
  octets: number
  octets_error: number
  packets: number
  lost: number
  lost_ratio: number | null
  rtt_us: number
  retransmits: number
  canonical: boolean
  first_seen: string
  last_seen: string
  marks: string[] | null
}

export interface Observed extends Conversation { sights: Sight[] | null; loss: string }

export interface Carrier {
  src_vtep: string
  dst_vtep: string
  src_host: string
  dst_host: string
  outer_src_port: number
  outer_dst_port: number
  outer_proto: string
  match: string
  conversations: number
  pairs: number
  segments: string[] | null
  tenants: string[] | null
  overlay_octets: number
  overlay_packets: number
  expected_octets: number
  underlay_octets: number
  underlay_packets: number
  underlay_flows: number
  lost: number | null
  seen_by: string[] | null
  flow_ids: string[] | null
  first_seen: string
  last_seen: string
}

export interface CoverageRow {
  fabric: string
  host: string
  vm: string
  vm_id: string
  port: string
  counted_octets: number | null
  observed_octets: number
  ratio: number | null
  missing_octets: number | null
  reasons: string[] | null
}

export interface Irregularity {
  kind: string
  score: number
  fabric: string
  segment: string
  tenant: string
  src_vm: string
  src_addr: string
  dst_vm: string
  dst_addr: string
  proto: string
  port: number
  app: string
  octets: number
  octets_before: number
  targets: number
  period_ms: number
  first_seen: string
  last_seen: string
  text: string
}

export interface Irregular { meta: Meta; kinds: string[] | null; base_since: string; base_until: string; rows: Irregularity[] | null }

export interface Coverage { meta: Meta; by: string; source: string; counted_octets: number | null; observed_octets: number; ratio: number | null; reason: string; rows: CoverageRow[] | null }

export interface Adapter {
  vm: string
  vm_id: string
  tenant: string
  host: string
  switch: string
  port: string
  segment: string
  fabric: string
  mac: string
  addrs: string[] | null
  from: string | null
  until: string | null
  source: string
  change: string
}

export interface Adapters { schema: number; now: string; since: string; until: string; machines: number; moved: number; total: number; rows: Adapter[] | null }

export interface TopologyObserver { name: string; role: string }

export interface TopologyHost { name: string; platform: string; vteps: string[] | null; down: boolean; observers: TopologyObserver[] | null }

export interface TopologyPort {
  host: string
  platform: string
  switch: string
  switch_kind: string
  group: string
  port: string
  kind: string
  vm: string
  vm_id: string
  tenant: string
  segment: string
  fabric: string
  mac: string
  addrs: string[] | null
  vlan: number
  up: boolean | null
  taps: string[] | null
  octets: number | null
}

export interface TopologyArc { a_vtep: string; a_host: string; b_vtep: string; b_host: string; segments: string[] | null; octets: number; packets: number }

export interface Topology { schema: number; now: string; since: string; until: string; sources: string[] | null; hosts: TopologyHost[] | null; rows: TopologyPort[] | null; arcs: TopologyArc[] | null }

/** Explanation is what each back end makes of a packet filter. */
export interface Explanation {
  expr: string
  link: string
  tests: string
  bpf: string
  bpf_len: number
  ebpf: string
  ebpf_len: number
  openflow: string[] | null
  openflow_residual: boolean
  openflow_note: string
  kernel_note: string
  residual: boolean
  deep: string
}

/** SQLAnswer is what a question in SQL gives; it is not in openapi.json, as its columns are the question's. */
export interface SQLAnswer { columns: { name: string; type: string }[] | null; rows: unknown[][] | null; truncated: boolean; took_ns: number }

/** Session copies of a switch, as it counts them. */
export interface CopyCounter { packets: number; bytes: number; drops: number; at: string }

export interface Refusal { policy: string; host?: string; switch?: string; port?: string; vm?: string; reason: string; message: string; fix?: string; kept?: boolean }

export interface TapPlace { platform: string; host: string; switch: string; method: string; ports: string[] | null; count: number; session: string; to: string[] | null }

export interface TapCost { known: boolean; rate: { bps: number; peak: number; pps: number; of: string }; mirror_bps: number; mirror_peak_bps: number; cpu: number; budget_bps?: number; sample?: number; slice?: number }

/** PlannedTap is what a plan makes of a tap. */
export interface PlannedTap {
  name: string
  owner?: string
  reason?: string
  state: string
  select: string
  from?: string
  ports: number
  vms: number
  expires?: string
  places: TapPlace[] | null
  copies: { once: boolean; same_switch: number; other_switch: number; to_outside: number; from_outside: number; about?: string }
  cost: TapCost
  mtu?: { host: string; destination: string; longest: number; path_mtu: number; fits: number }[] | null
  warnings?: string[] | null
  method: string
}

export interface PlanStep { platform: string; host?: string; switch?: string; policy: string; session: string; phase: number; action: string; object: string; summary: string; commands: string[] | null; why?: string }

/** CoverageSeen is a part of all bytes: at least, and at most, with what taps leave out and why there are bounds. */
export interface CoverageSeen { ports: number; one_way: number; before: number; before_most: number; before_why?: string[] | null; after: number; after_most: number; after_why?: string[] | null }
export interface PlanCoverage extends CoverageSeen { hosts: HostCoverage[] | null; left_out_ports?: number; left_out?: LeftOut[] | null }
export interface HostCoverage extends CoverageSeen { platform: string; host: string }

/** LeftOut is a port of a machine that coverage does not weigh: taps never copy it. */
export interface LeftOut { platform: string; host: string; vm: string; port: string; reason: string; why: string }

export interface TapPlan { taps: PlannedTap[] | null; refusals: Refusal[] | null; coverage: PlanCoverage; steps: PlanStep[] | null; edits: { kind: string; name: string; before?: string; after?: string; text_only?: boolean }[] | null; removed?: string[] | null; undoes?: LaterEdit[] | null }

/** LaterEdit is an edit that a rollback of an earlier change undoes, too. */
export interface LaterEdit { change: number; resource: string; at?: string; who?: string; why?: string; action?: string }

export interface Outcome { change?: number; state: string; steps: number; took_ms: number; platforms: { platform: string; steps: number; state: string; error?: string }[] | null; refusals: Refusal[] | null }

export interface Applied { plan: TapPlan; outcome: Outcome }

/** ControlledTap is a tap in force, with what switches have copied for it. */
export interface ControlledTap extends PlannedTap { applied: string; by: string; pending_steps: number; counters?: Record<string, CopyCounter>; copied: CopyCounter }

export interface ControlledTaps { rows: ControlledTap[] | null; pending_steps: number; refusals: Refusal[] | null; findings: { platform: string; policy: string; object: string; what: string; by?: string; since: string }[] | null; coverage: PlanCoverage; gaps: MoveGap[] | null }

/** MoveGap is what was not seen of a machine that has moved; packets is what it is at most, -1 when nobody counts them, which why explains. */
export interface MoveGap { platform: string; policy?: string; vm?: string; port: string; at: string; after_ns: number; packets: number; packets_least?: number; why?: string }

export interface ControlResource { kind: string; name: string; owner?: string; reason?: string; applied: string; by: string; generation: number; change: number; text: string }

export interface ControlChange { id: number; at: string; end?: string; who: string; why?: string; action: string; state: string; resources?: string[] | null }

/** JournalStep is a step of a change as its journal has it; step is the JSON of a PlanStep. */
export interface JournalStep { change: number; n: number; platform: string; policy: string; step: string; state: string; error?: string; at: string }

/** ChangeDoc is a change with its journal; report is the JSON of its Outcome, once it has ended. */
export interface ChangeDoc extends ControlChange { report?: string; steps: JournalStep[] | null }

/** TapMatch is a port that a selector finds, with the taps that copy it now; with a reason it would not be copied. */
export interface TapMatch { platform: string; host: string; switch: string; port: string; group?: string; segment?: string; vm: string; tenant?: string; mac?: string; taps?: string[] | null; reason?: string; message?: string; fix?: string }

export interface TapMatches { vms: number; ports: number; hosts: number; refused: number; known: number; hint?: string; rows: TapMatch[] | null; lost: string[] | null }

/** AgentTap is a tap of an agent as the agent reports it, with the books of its stages in the order of the data. */
export interface AgentTap {
  name: string
  state: string
  error?: string
  since: string
  level: string
  steps?: { time: string; from: string; to: string; why: string }[] | null
  cpu: number
  memory_bytes: number
  mirror_bits_per_second: number
  frames_per_second: number
  books: Statement[] | null
  to: { url: string; unit: string; sent: number; queued: number; shed: number; errors: number; error?: string; error_at?: string; recovered?: string }[] | null
  warnings?: string[] | null
}

export interface AgentSpec { name: string; labels?: Record<string, string>; ttl?: string; budget?: { cpu?: string; memory?: string; mirror?: string }; filter?: string; source?: { interfaces?: string[] | null } }

export interface Agent { name: string; state: string; last_seen: string | null; host: string; current: boolean; cpu: number; budget: string; given: AgentSpec[] | null; taps: AgentTap[] | null; findings: string[] | null }

export interface Agents { schema: number; rows: Agent[] | null }

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

export interface Problem { title?: string; status?: number; detail?: string; errors?: Fault[] | null; later?: LaterEdit[] | null }

/** Failure is an answer that did not come: an RFC 9457 problem (status > 0) or no connection (status 0). */
export class Failure extends Error {
  constructor(readonly status: number, readonly problem: Problem, readonly request: string) {
    super(problem.detail || problem.title || `HTTP ${status}`)
    this.name = 'Failure'
  }
}

/** GIVE_UP is how many milliseconds a question may take: more than the server gives one. Changes take as long as they take. */
export const GIVE_UP = 60_000

const accept = 'application/json, application/problem+json'

/** get asks for one document. It throws Failure, or an AbortError when signal ends it. */
export function get<T>(path: string, params: Params = {}, signal?: AbortSignal): Promise<T> {
  return answered<T>(url(path, params), { headers: { accept } }, signal ?? new AbortController().signal)
}

/** post wants something changed or, with a signal, worked out from more than a URL holds. It throws as get does. */
export function post<T>(path: string, body: object, signal?: AbortSignal): Promise<T> {
  return answered<T>(url(path), { method: 'POST', headers: { accept, 'content-type': 'application/json' }, body: JSON.stringify(body) }, signal)
}

async function answered<T>(address: string, request: RequestInit, signal?: AbortSignal): Promise<T> {
  const late = new AbortController()
  const timer = signal && setTimeout(() => late.abort(), GIVE_UP)
  try {
    const response = await fetch(address, { ...request, signal: signal ? AbortSignal.any([signal, late.signal]) : null })
    const kind = response.headers.get('content-type') ?? ''
    if (response.ok && kind.includes('json')) return (await response.json()) as T
    const problem: Problem = kind.includes('json') ? await response.json() : { title: response.statusText }
    throw new Failure(response.ok ? 502 : response.status, problem, address)
  } catch (e) {
    if (e instanceof Failure || signal?.aborted) throw e
    throw late.signal.aborted ? new Failure(408, { title: m.error.offline, detail: m.error.late(GIVE_UP / 1000) }, address) : new Failure(0, {}, address)
  } finally {
    clearTimeout(timer)
  }
}
