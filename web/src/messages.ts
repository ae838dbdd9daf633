// Every sentence that the console says, in one place. English; another language is another object of this type.
import { bytes, count, duration, percent } from './format'

const plural = (n: number, one: string, many = one + 's') => `${count(n)} ${n === 1 ? one : many}`

export const m = {
  product: 'crosstap',
  skip: 'Skip to content',
  close: 'Close',
  back: 'Back',
  find: 'Find',
  none: '–',

  nav: { label: 'Pages', overview: 'Overview', tenants: 'Tenants', map: 'Map', explore: 'Explore', vms: 'VMs', flows: 'Flows', coverage: 'Coverage', irregular: 'Irregular', exporters: 'Exporters', topology: 'Topology', inventory: 'Inventory', taps: 'Taps', filters: 'Filters', sql: 'SQL' },
  tabs: { label: 'Tenant reports', pairs: 'Pairs', conversations: 'Conversations', networks: 'Networks', underlay: 'Underlay', overlay: 'Overlay' },

  theme: { toDark: 'Dark colours', toLight: 'Light colours' },
  zone: { title: 'Times are shown in', local: 'local', utc: 'UTC' },

  time: {
    range: 'Time range',
    earlier: 'Earlier by one span',
    later: 'Later by one span',
    last: (ms: number) => 'last ' + duration(ms).replace(/^1 (min|h|d)$/, (_, u: string) => ({ min: 'minute', h: 'hour', d: 'day' })[u]!),
    type: 'Or type a range',
    hint: 'last 15 min · 2h · yesterday · 10:00 to 11:30 · now-3h..now-1h',
    bad: 'Not a time range. Try “last 15 min”, “10:00 to 11:30” or “now-3h..now-1h”.',
    apply: 'Apply',
    wider: 'Wider',
    narrower: 'Narrower',
    freeze: 'Freeze',
    freezeTitle: 'Write the range as fixed times, so that a shared link always shows the same',
  },

  live: {
    on: 'live',
    title: 'Follow new flows (key l)',
    held: (n: number) => (n === 0 ? 'paused while you read' : `paused while you read · ${plural(n, 'update')}`),
    resume: 'show now',
    polling: (s: number) => `no event stream: asking every ${s} s`,
  },

  filter: {
    label: 'Flow filter',
    placeholder: 'vni = 5001 and src.vm like "web-%"',
    unused: 'This page is not filtered',
    run: 'Run',
    clear: 'Clear the filter',
    suggestions: 'Completions',
    fix: 'Use',
    at: (column: number) => `column ${column}`,
    count: (n: number) => plural(n, 'completion'),
  },

  status: {
    label: 'Data quality',
    age: 'data age',
    noData: 'no data yet',
    complete: 'complete',
    completeUnknown: 'unknown',
    completeUnknownWhy: 'no exporter numbers its records, so loss cannot be seen',
    lost: 'lost',
    lostRecords: (n: number) => plural(n, 'record'),
    dropped: (n: number) => `${plural(n, 'record')} received but not stored`,
    gaps: 'gaps',
    coverage: 'coverage',
    coverageUnknown: 'unknown',
    resolution: 'from',
    raw: 'raw rows',
    rollup: (r: string) => `${r} roll-up`,
    gapList: 'Gaps in this range',
    gapNone: 'No gaps in this range.',
    gapFrom: 'From', gapTo: 'To', gapScope: 'Where', gapWho: 'Who', gapReason: 'Why', gapLost: 'Lost records',
    collector: 'collector',
  },

  tile: {
    coverage: 'VM-to-VM traffic seen',
    coverageOf: 'of what the vNICs counted',
    pairs: 'Tenant pairs',
    newPairs: (n: number) => `${count(n)} new`,
    now: 'East-west now',
    sameHost: (r: number) => `${percent(r)} never leaves its host`,
    sameHostUnknown: 'nothing counted yet',
    unknown: 'Unknown workloads',
    unknownOf: 'of octets, an end without a name',
    unknownNone: 'every end has a name',
    loss: 'Export loss',
    lossOf: (lost: number) => `${plural(lost, 'record')} lost`,
    lossNone: 'no record lost',
    inventory: (t: number, v: number) => `${plural(t, 'tenant')} · ${plural(v, 'VM')}`,
  },

  panel: {
    vm: 'Virtual machine',
    overTime: 'Over time',
    before: 'all, one period before',
    scrolls: (what: string) => `${what}, scrolls`,
    traffic: 'Tenant traffic',
    by: 'split by',
    unit: 'unit',
    step: (n: number, points: number, step: number) => `${count(n)} series × ${count(points)} points, ${duration(step)}`,
    sankey: 'VTEP → VNI → VTEP',
    sankeyNote: (n: number, b: number) => `greatest ${plural(n, 'link')} of ${bytes(b)}`,
    pairs: 'Pairs with tenants',
    conversations: 'Tenant conversations',
    flows: 'Flow rows',
    flowsNote: 'what each observer said, newest first',
    topPairs: 'Top pairs',
    topSegments: 'Top segments',
    observers: 'Observers',
    observersNote: 'one row per place that saw packets; only canonical rows are summed',
    rows: (shown: number, all: number, what: string) => (shown < all ? `${count(shown)} of ${count(all)} ${what}` : `${count(all)} ${all === 1 ? what.replace(/s$/, '') : what}`),
    more: (shown: number) => `The first ${count(shown)} are shown. Narrow the filter or the range, or export all.`,
    all: 'All pairs',
    chart: 'Chart',
    table: 'Table',
    heat: 'Heat map',
    png: 'PNG',
    pngNone: 'There is no picture to save',
    pngTitle: (what: string) => `${what} as PNG`,
    view: 'Show as',
    loading: 'Loading', longer: (s: number, most: number) => `for ${s} s; after ${most} s it is given up`,
    stale: 'Loading…',
    zoom: 'Drag to zoom',
    avg: 'avg',
  },

  by: {
    tenant: 'tenant', segment: 'segment', vni: 'VNI', app: 'application', proto: 'protocol',
    src_vtep: 'source VTEP', dst_vtep: 'destination VTEP', src_vm: 'source VM', dst_vm: 'destination VM', observer: 'observer', same_host: 'same host',
  } as Record<string, string>,
  metric: { octets: 'bit/s', packets: 'packet/s', flows: 'flow/s', l2_octets: 'layer-2 bit/s', retransmits: 'retransmits', zero_windows: 'zero windows', fragments: 'fragments', rtt: 'round-trip time', rows: 'rows' } as Record<string, string>,

  col: {
    open: 'Details', vni: 'VNI', tenant: 'Tenant', segment: 'Segment',
    srcVTEP: 'Source VTEP', dstVTEP: 'Dest. VTEP', src: 'Source VM', dst: 'Destination VM',
    app: 'App', proto: 'Proto', ports: 'Ports', srcPort: 'Src port', dstPort: 'Dst port', flags: 'Flags',
    fwd: 'Bytes →', rev: '← Bytes', octets: 'Bytes', octetsTitle: 'both ways; the bar is the share of all', packets: 'Packets', flows: 'Flows', share: 'Share', spark: 'Trend', last: 'Last seen', seen: 'Seen by',
    end: 'End', observer: 'Observer', dir: 'Dir.', counted: 'Counted', marks: 'Marks', reason: 'Ended', sampling: 'Sampling',
    role: 'Role', host: 'Host', exporter: 'Exporter', domain: 'Domain', domainShort: 'Dom.', rows: 'Rows', lost: 'Lost records', lostShort: 'Lost', diff: 'Difference',
    series: 'Series', min: 'Min', max: 'Max', avg: 'Average', p95: 'p95', lastValue: 'Last', total: 'Total', previous: 'Previous', previousTitle: 'total of the period of equal length before',
    ascending: 'sorted ascending', descending: 'sorted descending',
  },

  sameHost: 'same host',
  others: (n: number) => `${count(n)} others`,
  notKnown: 'not known',
  unknownTenant: 'no tenant',
  other: 'other',
  allTraffic: 'all traffic',

  row: {
    details: (a: string, b: string) => `Details of ${a} to ${b}`,
    detail: (what: string) => `Details of ${what}`,
    trend: (values: number[]) => `Trend over the range, peak ${bytes(Math.max(0, ...values))} per part`,
    more: (n: number) => `+${n}`,
  },

  mark: {
    sampled: ['sampled', 'Counters are estimates: the exporter sees one packet in N.'],
    assumed: ['assumed', 'A value was assumed, because the exporter did not tell it.'],
    ambiguous: ['ambiguous', 'Some rows fitted two segments or flows, so they were not merged.'],
    truncated: ['truncated', 'Headers were cut by the snap length.'],
    fragments: ['fragments', 'Part of the traffic was IP fragments, which carry no ports.'],
    guess: ['guess', 'Who opened the conversation is a guess: its first packets were not seen.'],
    gap: ['gap', 'Records may be missing: the time range has gaps.'],
    estimate: ['±', 'Half width of the 95 % interval.'],
    new: ['new', 'First seen in the last 24 h.'],
    gone: ['gone', 'Seen in the period to compare with, and not in the range.'],
  } as Record<string, [string, string]>,

  menu: {
    label: (v: string) => `Filter by ${v}`,
    vm: 'Open the page of this VM',
    more: (v: string) => `What to do with ${v}`,
    only: 'Only this',
    not: 'Not this',
    open: 'Open its pairs',
    copy: 'Copy',
    copied: (v: string) => `Copied: ${v}`,
  },

  file: { csv: 'CSV', json: 'JSON', title: (what: string, format: string) => `${what} as ${format}` },

  share: {
    button: 'Share', export: 'Export',
    link: 'Copy link', cli: 'Copy as CLI', curl: 'Copy as curl', formats: { csv: 'CSV', json: 'JSON', jsonl: 'JSON lines', parquet: 'Parquet', svg: 'SVG', dot: 'DOT (Graphviz)', mermaid: 'Mermaid', nft: 'nftables' } as Record<string, string>,
    linkDone: 'Link copied', cliDone: 'Command copied', curlDone: 'curl command copied', failed: 'The browser does not let this page copy; the text is selected here:',
  },

  details: {
    pair: 'Pair', conversation: 'Conversation', flow: 'Flow row',
    forward: 'Source to destination', reverse: 'Destination to source', total: 'Both ways',
    counted: 'what the sums use',
    path: 'Path', segment: 'Segment', tenant: 'Tenant', first: 'First seen', last: 'Last seen', share: 'Share of the answer', flows: 'Flows', apps: 'Applications', duplicates: 'Duplicates',
    duplicatesText: (n: number) => (n === 0 ? 'none seen twice' : `${plural(n, 'packet')} seen again by other observers, counted once`),
    observers: 'The same traffic at each observer',
    observersNote: 'A difference means that packets were lost between two places, or that an observer sees only part of the path.',
    conversations: 'Conversations', flowRows: 'Flow rows per observer',
    openPair: 'Only this pair', openConversation: 'Only this conversation', openConversations: 'All its conversations', openFlows: 'Its flow rows',
    sights: 'The same conversation at each observer', sightsNote: 'In the order in which packets pass them. A difference within the error of sampling, or at the edges of the range, is no loss.',
    noLoss: 'No loss between the observers.', lossAt: 'Lost:', forwardWay: '→', reverseWay: '←', way: 'Way', place: 'Place', missing: 'Lost', missingTitle: 'packets that the observer before on the way saw more than this one', rtt: 'RTT', rttTitle: 'greatest round-trip time that it measured', retransmits: 'Retr.', retransmitsTitle: 'retransmitted segments',
    carriers: 'The underlay flows that carried it', carriersNote: 'by the outer ports where the tunnel told them, else by its two endpoints', carriersNone: 'No tunnel carried it.', carried: 'What this flow carried', underlay: 'Underlay flows',
    gone: 'This row is not in the answer for the time range and filter above.',
    equal: 'equal',
    notCounted: 'also seen',
  },

  exporters: {
    note: (n: number, silent: number) => plural(n, 'exporter') + (silent ? `, ${count(silent)} silent` : ''),
    send: (where: string) => `Send IPFIX to ${where || 'a listener of crosstap serve'}, or run “crosstap demo”.`,
    ago: (d: string) => d + ' ago',
    protocol: 'Protocol', state: 'State', records: 'Records', rate: 'Rec./s', rateTitle: 'flow records a second, as of late', recordsTitle: (d: number, o: number, c: number) => `${plural(d, 'datagram')}, ${plural(o, 'option record')}, ${plural(c, 'counter sample')}`,
    loss: 'Lost', lostTitle: 'share that never arrived, by sequence numbers', lossText: (n: number, unit: string) => `${count(n)} ${unit || 'records'} lost`,
    templates: 'Tmpl.', templatesTitle: 'templates known', missing: 'Missing', missingTitle: 'templates that data came for and that are not known', conflicts: 'Conflict', conflictsTitle: 'templates that were told again with other fields',
    sampling: 'Sampling', unsampled: 'every packet', sources: { 'in-record': 'in each record', announced: 'announced', platform: 'by platform', config: 'by config', assumed: 'assumed', unknown: 'unknown', 'self-scaled': 'scaled by itself' } as Record<string, string>,
    skew: 'Clock skew', unknown: 'Unknown', unknownTitle: 'elements that are not known', errors: 'Errors', errorsTitle: 'datagrams that could not be decoded, or were shed',
    errorsText: (e: number, shed: number, notSent: number, borrowed: number, waiting: number) => `${count(e)} not decoded, ${count(shed)} shed; ${plural(waiting, 'record')} without a template, ${count(borrowed)} decoded by another session’s; ${count(notSent)} that the exporter says it did not send`,
    feeds: 'Feeds', feedsTitle: 'the reports that its fields can feed', feedsNone: 'no flows yet', feedsNoneTitle: 'It has sent no template of flows in this domain.',
    books: 'Books', booksNote: 'in = out + dropped + held, at every stage', stage: 'Stage', in: 'In', out: 'Out', held: 'Held', dropped: 'Dropped, by reason',
    server: 'Server', up: 'Up for', memory: 'Memory', cpu: (s: number) => `${duration(s * 1000)} of CPU time`,
    store: 'Store', storeText: (rows: number, pending: number, segments: number, size: string) => `${plural(rows, 'row')} in ${plural(segments, 'segment')}, ${size}${pending ? `; ${count(pending)} not yet durable` : ''}`,
    listeners: 'Listeners', kernelDrops: (n: number) => `${plural(n, 'datagram')} dropped by the kernel: the receive buffer was full`,
    connections: (n: number) => plural(n, 'connection'), refused: (n: number) => `${count(n)} refused: not allowed to send, or beyond a bound`,
    inventory: 'Inventory', noInventory: 'none: addresses have no names', inventoryText: (h: number, t: number, v: number, o: number) => [plural(h, 'host'), plural(t, 'tenant'), plural(v, 'vNIC'), plural(o, 'observer')].join(', '),
  },

  empty: {
    title: {
      no_exporter: 'No exporter has ever sent', exporter_silent: 'The exporters are silent', template_missing: 'Records wait for their template',
      unknown_machine: 'No such machine in this range', not_counted: 'Only repeats lie in this range', no_underlay: 'Nobody observes the underlay', no_tunnel: 'No tunnels in this range', filter_excludes: 'The filter excludes everything', before_first_data: 'The range ends before the first data', not_yet_stored: 'Not stored yet',
    } as Record<string, string>,
    other: 'Nothing here',
    showExporters: 'Show the exporters', clearFilter: 'Clear the filter', toData: 'Go to the first data', toLatest: 'Go to the newest data', retry: 'Ask again', widen: 'Widen the range',
  },

  error: {
    offline: 'The server does not answer',
    late: (s: number) => `No answer came within ${s} s.`,
    offlineText: 'The connection failed. What is shown may be old. The server is asked again every few seconds.',
    try: 'What to try',
    retry: 'Try again',
    id: 'request',
    tips: (status: number): string[] =>
      status === 0 ? ['Is crosstap still running? See its terminal or journal.', 'crosstap status']
      : status === 400 || status === 422 ? ['Change the part that is named above.', 'Clear the filter or choose a preset time range.']
      : status === 401 || status === 403 ? ['Ask on the server’s own machine, such as through ssh -L 8474:127.0.0.1:8474 SERVER.']
      : status === 404 ? ['This server may be older than this page: reload.']
      : status === 504 ? ['Choose a shorter range or a narrower filter.', 'Export to a file instead.']
      : status === 408 ? ['Is crosstap busy or stopped? See its terminal or journal.', 'Choose a shorter range or a narrower filter.']
      : status === 429 || status === 503 ? ['The server is busy: it will be asked again shortly.']
      : ['Try again.', 'If it stays, “crosstap doctor” says more, and the server’s log has the request.'],
    filter: 'The filter has a mistake',
    chunk: 'This part of the console did not load. The table has the same numbers.',
    part: 'This part of the console did not load: the server does not answer, or is another version than this page.',
    page: 'This page of the console did not load. Reload it; “Share, Copy as CLI” has the same report.',
    missing: 'There is no such page',
    missingText: (path: string) => `This console has no page at “${path}”. A link may be cut off, or come from another version.`,
    missingBack: 'Go to the overview',
    newer: 'This link comes from a newer version. Parts of it may not be shown.',
    partial: 'Shown is an older answer.',
  },

  help: { title: 'Keys' },
}
