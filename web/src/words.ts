// The sentences of the pages that are loaded when first opened. The rest is in messages.ts.
import { bytes, count, percent } from './format'

const plural = (n: number, one: string, many = one + 's') => `${count(n)} ${n === 1 ? one : many}`

export const w = {
  help: {
    groups: [
      ['Go', [['g o', 'Overview'], ['g t', 'Tenants: pairs'], ['g c', 'Tenants: conversations'], ['g n', 'Tenants: networks'], ['g m', 'Map'], ['g e', 'Explore'], ['g v', 'VMs'], ['g f', 'Flows'], ['g b', 'Coverage (blind spots)'], ['g r', 'What is irregular'], ['g x', 'Exporters'], ['g p', 'Topology'], ['g i', 'Inventory'], ['g a', 'Taps'], ['g k', 'Packet filters'], ['g q', 'SQL']]],
      ['Ask', [['/', 'Filter'], ['Enter', 'Run the filter'], ['Ctrl Space', 'Completions'], ['[ ]', 'Earlier, later'], ['- =', 'Wider, narrower'], ['l', 'Live on or off'], ['r', 'Ask again']]],
      ['Rows', [['j k', 'Next, previous row'], ['Enter', 'Details'], ['← →', 'Values of the row'], ['i', 'Only this value'], ['x', 'Not this value'], ['Esc', 'Back']]],
      ['View', [['t', 'Chart or table'], ['d', 'Dark or light'], ['u', 'UTC or local time'], ['e', 'Export'], ['y', 'Copy link'], ['Ctrl K', 'Find: pages, machines, hosts, tenants, taps'], ['?', 'This help']]],
    ] as [string, [string, string][]][],
    language: 'Filter',
    examples: ['vni = 5001', 'vm = "web-1"', 'ip in 10.1.0.0/16 and not port in (53, 123)', 'octets > 10 MB and seen_by = agent', 'host 10.0.0.1 and port 443'],
  },

  answer: {
    from: 'from', raw: 'raw rows', rollup: (r: string) => `${r} roll-ups`, complete: (r: number) => `${percent(r)} complete`, unknown: 'completeness unknown: no exporter numbers its records',
    lost: (n: number) => `${plural(n, 'record')} lost`, dropped: (n: number) => `${plural(n, 'record')} not stored`, sampled: (n: number) => `${plural(n, 'sampled row')}`, ambiguous: (n: number) => `${plural(n, 'ambiguous row')}`, gaps: (n: number) => plural(n, 'gap'), uncertain: (b: string) => `${b} uncertain at the ends of gaps`,
  },
  networks: {
    title: 'Networks', what: 'networks', fragments: (n: number) => `${plural(n, 'fragment')} seen.`,
    vteps: 'VTEPs', hosts: 'Hosts', vms: 'VMs', unknown: 'Unknown', unknownTitle: 'addresses that no inventory knows', pairs: 'Pairs', sameHost: 'Same host', sameHostTitle: 'bytes that never left their host',
    longest: 'Longest', longestTitle: 'IP length of the longest packet', needs: 'Needs', needsTitle: 'MTU of the underlay for the longest packet, with Ethernet and tunnel headers', risk: 'MTU risk', notTold: 'not told', noTenant: 'no tenant',
    risks: {
      none: ['none', 'The longest packet fits.'], exceeds: ['exceeds', 'The longest packet does not fit into the underlay’s MTU: it is cut or dropped.'],
      fragments: ['fragments', 'Fragments were seen: some packets are too long for the path.'], unknown: ['unknown', 'No exporter told the length of a packet.'],
    } as Record<string, [string, string]>,
  },

  carrier: {
    underlay: 'Underlay flows that carried what the filter selects', overlay: 'What the underlay flows that the filter selects carried', what: 'carriers',
    src: 'Source VTEP', dst: 'Dest. VTEP', outer: 'Outer ports', match: 'Matched', conversations: 'Convers.', pairs: 'Pairs', overlayBytes: 'Overlay', expected: 'Expected', expectedTitle: 'underlay bytes that the overlay makes, with its headers', underlayBytes: 'Underlay', lost: 'Lost', lostTitle: 'overlay packets less underlay packets', unknown: 'not known',
    carried: 'Inside', carriedTitle: 'the pairs that it carried', flows: 'Flows', packets: 'Packets',
    matches: { port: ['outer ports', 'The outer 5-tuple of the tunnel is that of the underlay’s flow.'], vteps: ['endpoints', 'The tunnel did not tell its outer source port: all that the two endpoints shared.'], none: ['not seen', 'No observer of the underlay saw it.'] } as Record<string, [string, string]>,
  },

  vms: { title: 'Virtual machines', what: 'machines', name: 'VM', tenants: 'Tenants', segments: 'Segments', hosts: 'Hosts', addrs: 'Addresses', sent: 'Sent', received: 'Received', packetsSent: 'Packets sent', packetsReceived: 'Packets rec.', peers: 'Peers', first: 'First seen' },

  vm: {
    choose: 'Which machine?', chooseText: 'Name one, by its name, id or address.', open: 'Open', all: 'All machines',
    id: 'Id', host: 'Host', tenants: 'Tenant', segments: 'Segment', addrs: 'Addresses', fabric: 'Fabric',
    sent: (span: string) => `Sent in ${span}`, received: (span: string) => `Received in ${span}`, past: (span: string) => `the past ${span}`, range: 'the range', before: (v: string, d: string) => `${v} before (${d})`, beforeNone: 'none before', packets: (n: number) => plural(n, 'packet'),
    eastWest: 'East-west', eastWestNote: (b: number) => `${bytes(b)} north-south`, sameHost: 'Same host', sameHostNote: 'never left the host', tcp: 'TCP retransmits', tcpNote: (n: number) => plural(n, 'zero window'),
    series: 'Bytes sent and received', seriesBefore: 'both ways, one period before', from: 'From', sentShort: 'Sent', receivedShort: 'Received', beforeShort: 'Before, both',
    peers: 'Peers', peersNote: (shown: number, all: number) => (shown < all ? `the greatest ${count(shown)} of ${count(all)}` : count(all)), pairs: 'All its pairs', explore: 'Explore its traffic', peer: 'Peer', outside: 'north-south', known: 'east-west', kind: 'Kind', state: 'Change',
    served: 'Services it serves', used: 'Services it uses', service: 'Service', clients: 'Clients', servers: 'Servers', servedNone: 'It serves nobody in this range.', usedNone: 'It uses nothing in this range.', peersNone: 'Nobody talked to it in this range.',
    changes: 'Changes', changesNote: (from: string, to: string) => `against ${from} to ${to}`, changesNone: 'Nothing changed against the period before.', what: 'What', when: 'When', kindOf: 'Kind',
    kinds: { new_peer: 'new peer', gone_peer: 'peer gone', new_service: 'new service', gone_service: 'service gone', new_use: 'new use', gone_use: 'use gone', moved: 'moved', renamed: 'renamed', volume: 'volume' } as Record<string, string>,
    places: 'Where it is and was', placesNote: 'newest first', placesNone: 'No place is known.',
    states: { new: 'new', gone: 'gone' } as Record<string, string>,
  },

  explore: {
    title: 'Top', by: 'Group by', add: 'Add a field', remove: (f: string) => `Do not group by ${f}`, per: 'A list per', perNone: 'one list', metric: 'Order by', limit: 'Rows', having: 'Having', havingHint: 'bytes > 1 MB', previous: 'Previous period', previousTitle: 'Also the period of equal length before, as a dashed line and in the table',
    chart: 'Over time', noSeries: 'There is no time series of this metric. The table below has it.', share: 'Share', l2: 'Layer 2', flows: 'Flows', retransmits: 'Retr.', zero: 'Zero win.', fragments: 'Fragm.', rtt: 'RTT mean', rttShort: 'RTT', rttMax: 'RTT max', rows: 'Rows', sent: 'Sent', received: 'Received',
    metrics: { octets: 'bytes', packets: 'packets', flows: 'flows', l2_octets: 'layer-2 bytes', retransmits: 'retransmits', zero_windows: 'zero windows', fragments: 'fragments', rtt: 'round-trip time', rows: 'stored rows' } as Record<string, string>,
    rest: (shown: number, all: number) => (shown < all ? `the greatest ${count(shown)} of ${count(all)}` : count(all)), none: 'none', most: 'Four fields at most.',
  },

  map: {
    title: 'Dependency map', note: (n: number, e: number) => `${plural(n, 'node')}, ${plural(e, 'dependency', 'dependencies')}`, by: 'Group by', base: 'Compare with', bases: { '': 'nothing', range: 'the period before', '1d': 'the day before', '7d': 'the week before', '30d': 'the month before' } as Record<string, string>,
    bys: { 'tenant,tier': 'tenant × tier', tenant: 'tenant', app: 'application', segment: 'segment', 'segment,tier': 'segment × tier', host: 'host', vm: 'VM' } as Record<string, string>,
    hide: 'Hide infrastructure', hideTitle: 'Leave DNS, NTP, DHCP and ICMP out, by the filter', picture: 'Picture', table: 'Table', fit: 'Fit', full: '1:1', size: 'Size', export: 'Export',
    allow: 'Allow list', focus: 'Near', hops: 'hops', unfocus: 'Show all', collapse: (n: string) => `Collapse ${n}`,
    menu: { label: (n: string) => `What to do with ${n}`, expand: 'Show its members', focus: 'Only what is near', only: 'Only its traffic', vm: 'Open the page of this VM', collapse: 'Collapse the group' },
    hidden: (n: number, o: number, x: number) => `${plural(n, 'dependency', 'dependencies')} with ${bytes(o)} not drawn, ${count(x)} of them between tenants: narrow the filter, or focus a node.`,
    legend: { active: 'active', idle: 'idle', new: 'new', gone: 'gone', cross: 'between tenants', idleTitle: 'not seen in the newest quarter of the range' },
    client: 'Client', server: 'Server', services: 'Services', state: 'State', links: 'Links', before: 'Before', members: (n: number) => plural(n, 'machine'), more: (n: number) => `+${n}`, fwd: 'Bytes →', rev: '← Bytes', cross: 'between tenants',
    edge: (a: string, b: string, o: number) => `${a} to ${b}, ${bytes(o)}`, edges: 'Dependencies',
  },

  coverage: {
    title: 'Coverage', headline: 'VM traffic observed', unknown: 'unknown', of: (found: number, counted: number, seen: number) => `${bytes(found)} of ${bytes(counted)} that virtual adapters counted${bytes(seen) === bytes(found) ? '' : `; ${bytes(seen)} observed in all, also where no adapter counted as much`}`, only: (o: number) => `${bytes(o)} observed; nobody counted what there was`, source: 'Counters from', by: 'By', bys: { vm: 'machine', host: 'host' } as Record<string, string>,
    what: 'What observers reported of each machine, divided by what the hypervisor’s counters of its virtual adapter say. Without a counter the share is unknown, and never 100 %.',
    how: 'How to know: let the virtual switch send sFlow interface counters to this collector (Open vSwitch: ovs-vsctl … create sflow … polling=30).',
    machine: 'Machine', counted: 'Counted', observed: 'Observed', missing: 'Missing', ratio: 'Observed share', why: 'Why', port: 'Port', fix: 'Reasons of what is missing', unknownShort: 'unknown', rows: (n: number, known: number) => `${count(n)}, ${count(known)} with counters`, all: 'nothing is missing',
  },

  irregular: {
    title: 'What is irregular', rows: (n: number, all: number) => (n < all ? `${count(n)} of ${count(all)}` : count(n)), all: 'all', kind: 'Kind', base: 'Compared with', bases: { '1d': 'day before', '7d': '7 days before', '30d': '30 days before' } as Record<string, string>, against: (from: string, to: string) => `${from} to ${to}`,
    kinds: {
      host_scan: ['host scan', 'A client tried many addresses at one service that gave nothing.'], port_scan: ['port scan', 'A client tried many ports of one machine that gave nothing.'], beacon: ['beacon', 'Conversations begin again and again after the same time.'],
      new_pair: ['new pair', 'A client speaks to a service for the first time.'], volume: ['volume', 'A machine sent and received three times as much as usual, or a third, beyond what its volume varies by.'],
      silent: ['silent machine', 'A machine that was heard all the time before is not.'], observer_silent: ['silent observer', 'An observer tells nothing any more: what it saw is missing from every number since.'],
    } as Record<string, [string, string]>,
    score: 'Score', scoreTitle: 'how far beyond what is noticed; 1 is just noticed', what: 'What', client: 'Who', server: 'With whom', service: 'Service', first: 'First', look: 'Look', conversations: 'Conversations', flows: 'Flows', lookTitle: 'The traffic that this is about', none: 'Nothing irregular was found in this range.',
  },
}

export const v = {
  outputs: { title: 'Outputs', note: 'who gets records and datagrams beside the store; in = sent + dropped + held', name: 'Output', to: 'To', in: 'Offered', sent: 'Sent', held: 'Held', dropped: 'Dropped', lag: 'Lag', lagTitle: 'how long the oldest of those held has waited', error: 'State', well: 'well', retries: (n: number) => plural(n, 'retry', 'retries') },

  palette: {
    title: 'Find', hint: 'A page, machine, address, host, tenant, tap, range or filter', none: 'Nothing is called that.', page: 'Page', action: 'Do', machine: 'Machine', host: 'Host', tenant: 'Tenant', segment: 'Segment', tap: 'Tap', filter: 'Filter by', range: 'Time range', only: 'only its traffic',
    newTap: 'New tap', zone: 'UTC or local time', live: 'Follow new flows, or stop', again: 'Ask again',
  },

  tapThis: 'Tap this',
  fix: 'Fix', fixTitle: 'Plan a tap for it; nothing is changed before you apply',
  search: 'Search', searchHint: 'name, address, host, tenant…',

  inventory: {
    title: 'Where machines are and were', what: 'rows', note: (n: number, moved: number) => `${plural(n, 'machine')}${moved ? `, ${count(moved)} moved in this range` : ''}`,
    vm: 'Machine', host: 'Host', sw: 'Switch', port: 'Port', segment: 'Segment', tenant: 'Tenant', addrs: 'Addresses', mac: 'MAC', from: 'From', until: 'Until', source: 'Told by', change: 'What changed', still: 'still', ever: 'before anybody looked',
    changes: { moved: 'moved', renamed: 'renamed', segment: 'other segment', port: 'other port', addresses: 'other addresses', back: 'came back' } as Record<string, string>,
    picture: 'Timeline', table: 'Table', bar: (vm: string, host: string, from: string, until: string) => `${vm} on ${host || 'an unknown host'}, ${from} to ${until}`,
    openLeft: 'An open left end: since before anybody looked', more: (shown: number, all: number) => `The first ${count(shown)} of ${count(all)} adapters are drawn; the table has the rest.`, rest: (shown: number, all: number) => `${count(shown)} of ${count(all)} rows. Search for less, or export all.`,
    none: 'No inventory is known', noneText: 'Nobody has told this server which machines there are. Start it with --inventory FILE, or give it platforms to watch.', noMatch: 'Nothing matches', noMatchText: 'No machine in this range has that in its name, address, host or tenant.', clear: 'Clear the search',
  },

  topology: {
    title: 'Topology', note: (h: number, s: number, p: number) => `${plural(h, 'host')}, ${plural(s, 'switch', 'switches')}, ${plural(p, 'port')}`, told: 'told by',
    picture: 'Picture', table: 'Table', hosts: 'Hosts', ports: 'Ports', tunnels: 'Tunnels between hosts', tunnelsNote: 'what each pair of endpoints carried in the range, both ways', tunnelsNone: 'No tunnel carried anything in this range.', unknownHost: 'host not known', noSwitch: 'switch not told', down: 'does not answer',
    host: 'Host', platform: 'Platform', sw: 'Switch', kind: 'Kind', group: 'Group', port: 'Port', behind: 'Behind it', vm: 'Machine', vlan: 'VLAN', mac: 'MAC', taps: 'Taps', state: 'State', up: 'up', isDown: 'down', a: 'One end', b: 'Other end', segments: 'Segments', observers: 'Observers', vteps: 'VTEPs', machines: 'Machines', vms: 'VMs',
    kinds: { vm: 'machine', uplink: 'uplink', tunnel: 'tunnel', kernel: 'the host’s own', patch: 'patch', mirror: 'copies', other: 'other' } as Record<string, string>, switchKinds: { ovs: 'Open vSwitch', linux: 'Linux bridge', standard: 'standard', distributed: 'distributed', none: 'no switch' } as Record<string, string>,
    expand: (h: string) => `Show the ports of ${h}`, collapse: (h: string) => `Fold ${h}`, folded: (n: number, t: number) => `${plural(n, 'port')}${t ? `, ${count(t)} tapped` : ''}`, hiddenArcs: (n: number) => `${plural(n, 'thinner tunnel')} not drawn: the table has all.`,
    hiddenHosts: (shown: number, all: number) => `The first ${count(shown)} of ${count(all)} hosts are drawn. Search for less, or take the table.`, noMatchText: 'No host, switch, port or machine has that in its name, address, tenant or segment.',
    arc: (a: string, b: string, o: number) => `${a} and ${b}: ${bytes(o)}`, tapped: (t: string[]) => `tapped by ${t.join(', ')}`, observed: (o: string[]) => `observers: ${o.join(', ')}`,
    menu: { label: (n: string) => `What to do with ${n}`, vm: 'Open the page of this VM', pairs: 'Its pairs', tap: 'Tap it', where: 'Where it was' },
    legend: { tap: 'tapped', observer: 'observer', foreign: 'copied by others', down: 'down' },
    none: 'Nothing is known of hosts and ports', noneText: 'Start the server with --inventory FILE, or give it platforms to watch.',
  },

  filters: {
    title: 'Packet filter', label: 'Packet filter', hint: 'vxlan 5001 and tcp port 443', explain: 'Explain', link: 'Link type', live: 'Live capture', liveTitle: 'Programs for packet sockets and tc hooks, where the outermost VLAN tag stands beside the frame', fromFlow: 'From the flow filter', fromFlowTitle: 'Say the flow filter above in the language of packet filters', inner: 'inside tunnels',
    what: 'What each back end makes of an expression. What a back end cannot look into is residual: it lets more through, and the matcher looks again.', wrong: (column: number) => `column ${column}`, use: 'Use', rest: 'What is not said by it:',
    verdict: { exact: 'The kernel decides alone.', residual: (deep: string) => `The kernel lets more through; the matcher looks again at ${deep}.`, none: (why: string) => `No program for the kernel: ${why}. The matcher decides alone.` },
    backends: 'Back ends', backend: 'Back end', place: 'Where it runs', size: 'Size', exact: 'Decides', note: 'Note', yes: 'alone', no: 'lets more through', never: 'not possible',
    names: { matcher: 'Matcher', bpf: 'Classic BPF', ebpf: 'eBPF', openflow: 'OpenFlow' } as Record<string, string>, places: { matcher: 'in the tap, on every frame that got so far', bpf: 'packet sockets', ebpf: 'tc and TCX hooks', openflow: 'tables of an Open vSwitch' } as Record<string, string>,
    instructions: (n: number) => plural(n, 'instruction'), entries: (n: number) => plural(n, 'entry', 'entries'), tests: 'Tests', copy: 'Copy', copied: (what: string) => `${what} copied`, program: (what: string) => `Program: ${what}`, examples: 'Examples',
    start: 'Write an expression, or take an example.',
    list: ['tcp dst port 443', 'vxlan 5001 and host 10.0.0.5', 'inner tcp port 5432', 'geneve and not arp', 'vlan 100 and udp port 53'],
  },

  sql: {
    title: 'Ask in SQL', label: 'One SELECT', run: 'Run', hint: 'Ctrl-Enter runs it', what: 'One SELECT over the stored flows of the range above. It cannot change anything, and reads nothing but the views.', views: 'Views',
    list: { flows: 'every observer’s record', canonical: 'the one record of each packet that sums read', pairs_1h: 'roll-ups between workloads by the hour: small, and kept longer than the records' } as Record<string, string>,
    functions: 'addr(’10.0.0.1’) gives an address to compare with, vni(segment) the number of a segment, mac(src_mac) an address of layer 2 as text.', answer: 'Answer', rows: (n: number, took: number) => `${plural(n, 'row')} in ${took < 10 ? took.toFixed(1) : count(took)} ms`, truncated: (n: number) => `There are more rows: the first ${count(n)} are shown. Add a LIMIT, sum up, or ask with the command line.`, none: 'The answer has no rows.', columns: 'Show the columns of', start: 'Nothing is asked yet. Take an example, or write a question.', examples: 'Examples',
    questions: [
      ['Bytes by VNI', 'SELECT vni(segment) AS vni, sum(octets) AS octets FROM canonical GROUP BY ALL ORDER BY octets DESC'],
      ['Top pairs by the hour', 'SELECT src_vm, dst_vm, sum(octets) AS octets FROM pairs_1h GROUP BY ALL ORDER BY octets DESC LIMIT 20'],
      ['What each observer saw', 'SELECT observer, count(*) AS records, sum(octets) AS octets FROM flows GROUP BY ALL ORDER BY records DESC'],
      ['A few records', 'SELECT * FROM flows LIMIT 5'],
    ] as [string, string][],
  },

  reasons: {
    'no tap': 'Nothing copies or meters this machine.', 'tap filter excludes': 'A tap is there, but its filter leaves traffic out.', sampling: 'The observer sees one packet in N.', 'mirror or capture drops': 'Copies were lost on their way into the tap.', 'export loss': 'Flow records were lost on their way here.', 'not yet inventoried': 'The inventory does not know the machine yet.',
  } as Record<string, string>,
}
