package report

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"

	"crosstap/internal/flow"
)

// Network is the traffic of one segment and what it is made of.
type Network struct {
	Segment        string    `json:"segment"`
	VNI            uint32    `json:"vni"`
	Fabric         string    `json:"fabric"`
	Tenant         string    `json:"tenant"`
	Known          bool      `json:"known"` // some tenant has the segment
	VTEPs          []string  `json:"vteps"` // tunnel endpoints, by address
	Hosts          []string  `json:"hosts"`
	VMs            uint64    `json:"vms"`
	UnknownAddrs   uint64    `json:"unknown_addrs"` // addresses of no known machine
	Pairs          uint64    `json:"pairs"`
	Octets         uint64    `json:"octets"`
	Packets        uint64    `json:"packets"`
	OctetsSameHost uint64    `json:"octets_same_host"` // that never left their host
	MaxPacket      uint64    `json:"max_packet"`       // IP length of the longest packet, 0 when nobody told
	NeededMTU      uint64    `json:"needed_mtu"`       // of the underlay for it, 0 when that is not known
	MTURisk        string    `json:"mtu_risk"`         // "none", "exceeds", "fragments", "unknown"
	Fragments      uint64    `json:"fragments"`        // packets that were fragments
	FirstSeen      time.Time `json:"first_seen"`
	LastSeen       time.Time `json:"last_seen"`

	number uint64 // of the segment, with its kind
}

// networkSums are the sums of a network's facts.
const networkSums = `coalesce(arg_max(tenant, (last, tenant)) FILTER (tenant <> ''), '') AS tenant,
  sum(octets)::UBIGINT AS octets, sum(packets)::UBIGINT AS packets, coalesce(sum(octets) FILTER (src_host = dst_host AND src_host <> ''), 0)::UBIGINT AS octets_same_host,
  max(max_len)::UBIGINT AS max_packet, sum(fragments)::UBIGINT AS fragments, min(first) AS first_seen, max(last) AS last_seen,
  sum(sampled_rows)::UBIGINT AS sampled_rows, sum(ambiguous_rows)::UBIGINT AS ambiguous_rows`

// Networks is the answer of "Networks".
type Networks struct {
	Meta Meta      `json:"meta"`
	MTU  int       `json:"mtu"` // that the underlay is taken to carry
	Rows []Network `json:"rows"`
}

const defaultMTU = 1500

var networkSort = names("segment", "vni", "fabric", "tenant", "vms", "unknown_addrs", "pairs", "octets", "packets", "octets_same_host", "max_packet", "fragments",
	"first_seen", "last_seen")

// Networks implements Reporter.
func (r *Reports) Networks(ctx context.Context, q Query) (Networks, error) {
	if q.MTU == 0 {
		q.MTU = defaultMTU
	}
	if q.MTU < 68 || q.MTU > 65535 {
		return Networks{}, &QueryError{"mtu", fmt.Sprintf("an MTU of %d", q.MTU), "68 to 65535"}
	}
	a, err := check(q, defaultLimit)
	if err != nil {
		return Networks{}, err
	}
	order, err := a.order(networkSort, "-octets", "fabric, segment")
	if err != nil {
		return Networks{}, err
	}
	a.need = []string{"fabric", "segment", "tenant", "src_vm", "dst_vm", "src_vm_id", "dst_vm_id", "src_host", "dst_host"}
	if err := a.useRollup(true); err != nil {
		return Networks{}, err
	}
	a.vteps = a.step == 0
	var out Networks
	err = r.with(ctx, a, func() error {
		out, err = a.networks(ctx, r, order)
		return err
	})
	return out, err
}

func (a *ask) networks(ctx context.Context, r *Reports, order string) (Networks, error) {
	out := Networks{MTU: a.MTU, Rows: []Network{}}
	var parts []slice
	var err error
	_, summed := a.summing()
	if !summed {
		if parts, err = a.slices(ctx, span{a.sinceMS, a.untilMS}); err != nil {
			return Networks{}, err
		}
	}
	var total sums
	var sampled, ambiguous uint64
	if summed || len(parts) > 1 {
		out.Rows, total, sampled, ambiguous, err = a.networksSliced(ctx, parts)
		a.sortNetworks(out.Rows)
		out.Rows = out.Rows[:min(len(out.Rows), a.Limit)]
	} else {
		out.Rows, total, sampled, ambiguous, err = a.networksAtOnce(ctx, order)
	}
	if err != nil {
		return Networks{}, err
	}
	a.notes = append(a.notes, fmt.Sprintf("the underlay is taken to carry %d bytes; flows are not counted", a.MTU))
	if a.step != 0 {
		a.notes = append(a.notes, "of each pair the VTEPs that it had last in each hour are named; raw rows may know more")
	}
	out.Meta, err = a.meta(ctx, r, "networks", total, sampled, ambiguous)
	return out, err
}

func (a *ask) networksAtOnce(ctx context.Context, order string) (out []Network, total sums, sampled, ambiguous uint64, err error) {
	a.args = nil
	query := a.facts(a.sinceMS, a.untilMS) + `,
e AS NOT MATERIALIZED (SELECT fabric, segment, src AS addr, ` + srcWho + ` AS who, src_host AS host, outer_src AS vtep FROM x
  UNION ALL SELECT fabric, segment, dst, ` + dstWho + `, dst_host, outer_dst FROM x),
w AS MATERIALIZED (SELECT fabric, segment, count(DISTINCT who) FILTER (who <> '')::UBIGINT AS vms, count(DISTINCT addr) FILTER (who = '' AND addr <> ` + zeroAddr + `)::UBIGINT AS unknown_addrs,
  list_sort(list(DISTINCT host) FILTER (host <> '')) AS hosts, list_sort(list(DISTINCT vtep) FILTER (vtep <> ` + zeroAddr + `)) AS vteps FROM e GROUP BY fabric, segment),
g AS MATERIALIZED (SELECT fabric, segment, count(DISTINCT (` + pairKey + `))::UBIGINT AS pairs, ` + networkSums + ` FROM x GROUP BY fabric, segment),
q AS MATERIALIZED (SELECT g.*, (g.segment & 4294967295)::UBIGINT AS vni, vms, unknown_addrs, hosts, vteps FROM g JOIN w ON g.fabric = w.fabric AND g.segment = w.segment)
SELECT segment, fabric, tenant, to_json(coalesce(vteps, []))::VARCHAR, to_json(coalesce(hosts, []))::VARCHAR, vms, unknown_addrs, pairs, octets, packets, octets_same_host, max_packet, fragments,
  first_seen, last_seen, (SELECT count(*) FROM q), (SELECT sum(octets) FROM q)::UBIGINT, (SELECT sum(packets) FROM q)::UBIGINT,
  (SELECT sum(sampled_rows) FROM q)::UBIGINT, (SELECT sum(ambiguous_rows) FROM q)::UBIGINT FROM q ORDER BY ` + order + fmt.Sprintf(" LIMIT %d", a.Limit)
	out = []Network{}
	err = a.each(ctx, query, func(rows *sql.Rows) error {
		var n Network
		var seg uint64
		var vteps, hosts string
		if err := rows.Scan(&seg, &n.Fabric, &n.Tenant, &vteps, &hosts, &n.VMs, &n.UnknownAddrs, &n.Pairs, &n.Octets, &n.Packets, &n.OctetsSameHost, &n.MaxPacket,
			&n.Fragments, &n.FirstSeen, &n.LastSeen, &total.Rows, &total.Octets, &total.Packets, &sampled, &ambiguous); err != nil {
			return err
		}
		var l lists
		n.VTEPs, n.Hosts = l.addrs(vteps), l.texts(hosts)
		n.name(flow.Segment(seg), n.Fabric, uint64(a.MTU))
		out = append(out, n)
		return l.err
	})
	return out, total, sampled, ambiguous, err
}

// overheads are the bytes between the IP packet of a tenant and that of the underlay over IPv4: inner Ethernet header and
// tunnel headers (RFC 7348, 8926 without options, 7637, 2890 with a key over Ethernet), and the outer IP header.
var overheads = map[flow.SegmentKind]uint64{flow.KindVXLAN: 14 + 8 + 8 + 20, flow.KindGeneve: 14 + 8 + 8 + 20, flow.KindNVGRE: 14 + 8 + 20, flow.KindGRE: 14 + 8 + 20}

// risk says whether the longest packet fits the underlay once it is in its tunnel.
func (n *Network) risk(k flow.SegmentKind, mtu uint64) {
	n.MTURisk = "unknown"
	over, tunnel := overheads[k]
	for _, v := range n.VTEPs {
		if tunnel && strings.Contains(v, ":") {
			over = overheads[k] + 20 // IPv6 underlay
		}
	}
	if n.MaxPacket > 0 {
		n.NeededMTU, n.MTURisk = n.MaxPacket+over, "none"
	}
	switch {
	case n.NeededMTU > mtu:
		n.MTURisk = "exceeds"
	case n.Fragments > 0:
		n.MTURisk = "fragments"
	}
}
