// The sentences of the pages that are loaded when first opened. The rest is in messages.ts.
import { bytes, count, percent } from './format'

const plural = (n: number, one: string, many = one + 's') => `${count(n)} ${n === 1 ? one : many}`

export const w = {
  answer: {
    from: 'from', raw: 'raw rows', rollup: (r: string) => `${r} roll-ups`, complete: (r: number) => `${percent(r)} complete`, unknown: 'completeness unknown: no exporter numbers its records',
    lost: (n: number) => `${plural(n, 'record')} lost`, dropped: (n: number) => `${plural(n, 'record')} not stored`, sampled: (n: number) => `${plural(n, 'sampled row')}`, ambiguous: (n: number) => `${plural(n, 'ambiguous row')}`, gaps: (n: number) => plural(n, 'gap'),
  },
  file: { csv: 'CSV', json: 'JSON', title: (what: string, format: string) => `${what} as ${format}` },

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
    chart: 'Over time', noSeries: 'There is no time series of this metric. The table below has it.', share: 'Share', l2: 'Layer 2', flows: 'Flows', retransmits: 'Retr.', zero: 'Zero win.', fragments: 'Fragm.', rtt: 'RTT mean', rttMax: 'RTT max', rows: 'Rows', sent: 'Sent', received: 'Received',
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
    title: 'Coverage', headline: 'VM traffic observed', unknown: 'unknown', of: (o: number, c: number) => `${bytes(o)} of ${bytes(c)} that virtual adapters counted`, only: (o: number) => `${bytes(o)} observed; nobody counted what there was`, source: 'Counters from', by: 'By', bys: { vm: 'machine', host: 'host' } as Record<string, string>,
    what: 'What observers reported of each machine, divided by what the hypervisor’s counters of its virtual adapter say. Without a counter the share is unknown, and never 100 %.',
    how: 'How to know: let the virtual switch send sFlow interface counters to this collector (Open vSwitch: ovs-vsctl … create sflow … polling=30).',
    machine: 'Machine', counted: 'Counted', observed: 'Observed', missing: 'Missing', ratio: 'Observed share', why: 'Why', port: 'Port', fix: 'Reasons of what is missing', unknownShort: 'unknown', rows: (n: number, known: number) => `${count(n)}, ${count(known)} with counters`, all: 'nothing is missing',
  },
}
