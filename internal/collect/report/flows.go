package report

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"

	"crosstap/internal/flow"
	"crosstap/internal/flowproto/decode"
)

// flowColumns are read by scanFlow, in this order.
const flowColumns = `t_start, t_end, t_recv, exporter::VARCHAR, domain, observer, role, direction, marks, segment, fabric, tenant,
  outer_src::VARCHAR, outer_dst::VARCHAR, src_host, dst_host, src_vm, dst_vm, src_vm_id, dst_vm_id, src::VARCHAR, dst::VARCHAR, src_port, dst_port, proto, app,
  src_mac, dst_mac, vlan, ethertype, tos, min_ttl, max_ttl, tcp_flags, icmp, in_if, out_if, packets, octets, l2_octets, sampling,
  end_reason, flow_id, in_if_name, out_if_name, vrf, extra, src_tenant, dst_tenant, app_how, app_name, min_len, max_len, rtt_us,
  retransmits, zero_windows, fragments, inner_vlan, src_vif, dst_vif, mpls`

// flowSort are the columns of the document with the stored ones they come from.
var flowSort = merge(
	names("exporter", "domain", "observer", "role", "direction", "segment", "fabric", "tenant", "src_host", "dst_host", "src_vm", "dst_vm", "src_vm_id", "dst_vm_id",
		"src_port", "dst_port", "proto", "app", "src_mac", "dst_mac", "vlan", "ethertype", "tos", "min_ttl", "max_ttl", "tcp_flags", "icmp",
		"in_if", "out_if", "in_if_name", "out_if_name", "vrf", "extra", "src_tenant", "dst_tenant", "app_how", "app_name", "min_len", "max_len", "rtt_us", "retransmits", "zero_windows", "fragments",
		"inner_vlan", "src_vif", "dst_vif", "mpls", "packets", "octets", "l2_octets", "sampling", "end_reason", "flow_id", "marks"),
	map[string]string{"start": "t_start", "end": "t_end", "received": "t_recv", "canonical": "(marks & 1)", "vni": "(segment & 4294967295)",
		"src_vtep": "outer_src", "dst_vtep": "outer_dst", "src_addr": "src", "dst_addr": "dst"})

// flowTie decides between rows of the same time; rows that are equal in all of it look the same.
const flowTie = `t_end DESC, t_start DESC, t_recv DESC, flow_id, observer_id, direction, in_if, out_if, exporter, domain, octets DESC, packets DESC,
  l2_octets DESC, marks, end_reason, tcp_flags, min_ttl, max_ttl, tos, sampling, src, dst, src_port, dst_port, proto, outer_src, outer_dst`

// Flows implements Reporter. Rows are shown as stored: what one observer said. Here a filter on one
// end, observer, exporter, domain, role, direction and interfaces is one on the row itself; seen_by
// selects all rows of the flows that the observer saw.
func (r *Reports) Flows(ctx context.Context, q Query) (Flows, error) {
	a, err := check(q, defaultLimit)
	if err != nil {
		return Flows{}, err
	}
	order, err := a.order(flowSort, "-end", flowTie)
	if err != nil {
		return Flows{}, err
	}
	var out Flows
	err = r.with(ctx, a, func() error {
		out, err = a.flows(ctx, r, order)
		return err
	})
	return out, err
}

func (a *ask) flows(ctx context.Context, r *Reports, order string) (Flows, error) {
	out := Flows{Rows: []Flow{}}
	var b strings.Builder
	b.WriteString("WITH " + a.seenSteps())
	columns, from := "*", "r"
	if len(a.cond.expr.New()) > 0 {
		columns = "*, " + recency + " AS recent"
	}
	fmt.Fprintf(&b, "r AS NOT MATERIALIZED (SELECT %s FROM %s WHERE t_end >= %s AND t_end < %s),\n", columns, a.view.Table(), ts(a.sinceMS), ts(a.untilMS))
	if len(a.cond.expr.New()) > 0 { // whether a pair is new takes what all observers know of it
		a.need = []string{"segment", "fabric", "src_vm", "dst_vm", "src_vm_id", "dst_vm_id"}
		from = a.fillNames(&b, "r")
	}
	fmt.Fprintf(&b, "l AS NOT MATERIALIZED (SELECT * FROM %s WHERE true%s)\n", from, and(a.cond.row(a)))
	with := b.String()
	query := with + "SELECT " + flowColumns + " FROM l ORDER BY " + order + fmt.Sprintf(" LIMIT %d", a.Limit)
	err := a.each(ctx, query, func(rows *sql.Rows) error {
		f, err := scanFlow(rows)
		out.Rows = append(out.Rows, f)
		return err
	})
	if err != nil {
		return Flows{}, err
	}
	var total sums
	var sampled, ambiguous uint64
	query = with + `SELECT count(*), coalesce(sum(octets) FILTER (` + canonical + `), 0)::UBIGINT, coalesce(sum(packets) FILTER (` + canonical + `), 0)::UBIGINT,
  count(DISTINCT ` + conversationKey + `) FILTER (` + canonical + `), count(*) FILTER ((marks & 2) <> 0), count(*) FILTER ((marks & 8) <> 0) FROM l`
	err = a.each(ctx, query, func(rows *sql.Rows) error {
		return rows.Scan(&total.Rows, &total.Octets, &total.Packets, &total.Flows, &sampled, &ambiguous)
	})
	if err != nil {
		return Flows{}, err
	}
	out.Meta, err = a.meta(ctx, r, "flows", total, sampled, ambiguous)
	return out, err
}

// conversationKey is the same for both directions of a 5-tuple.
const conversationKey = `(fabric, segment, proto, if((src, src_port) > (dst, dst_port), (dst, ` + dstWho + `, dst_port, src, ` + srcWho + `, src_port), ` +
	`(src, ` + srcWho + `, src_port, dst, ` + dstWho + `, dst_port)))`

var (
	endReasons = map[uint8]string{1: "idle", 2: "active", 3: "detected", 4: "forced", 5: "resource"}
)

func scanFlow(rows *sql.Rows) (f Flow, err error) {
	var start, end, recv time.Time
	var exporter, vs, vd, src, dst string
	var extra string
	var role, direction, proto, reason, how uint8
	var marks, flags, icmp uint16
	var segment, srcMAC, dstMAC, id uint64
	err = rows.Scan(&start, &end, &recv, &exporter, &f.Domain, &f.Observer, &role, &direction, &marks, &segment, &f.Fabric, &f.Tenant,
		&vs, &vd, &f.SrcHost, &f.DstHost, &f.SrcVM, &f.DstVM, &f.SrcVMID, &f.DstVMID, &src, &dst, &f.SrcPort, &f.DstPort, &proto, &f.App,
		&srcMAC, &dstMAC, &f.VLAN, &f.EtherType, &f.ToS, &f.MinTTL, &f.MaxTTL, &flags, &icmp, &f.InIf, &f.OutIf, &f.Packets, &f.Octets,
		&f.L2Octets, &f.Sampling, &reason, &id, &f.InIfName, &f.OutIfName, &f.VRF, &extra,
		&f.SrcTenant, &f.DstTenant, &how, &f.AppName, &f.MinLen, &f.MaxLen, &f.RTTUS, &f.Retransmits, &f.ZeroWindows, &f.Fragments, &f.InnerVLAN,
		&f.SrcVIF, &f.DstVIF, &f.MPLS)
	if err != nil {
		return f, err
	}
	f.Start, f.End, f.Received = start.UTC(), end.UTC(), recv.UTC()
	f.Exporter, f.SrcVTEP, f.DstVTEP, f.SrcAddr, f.DstAddr = addrText(exporter), addrText(vs), addrText(vd), addrText(src), addrText(dst)
	f.Role, f.Direction, f.Proto, f.EndReason = flow.Role(role).String(), flow.DirectionText(direction), flow.ProtoText(proto), endReasons[reason]
	f.Segment, f.VNI = segmentText(flow.Segment(segment)), flow.Segment(segment).Number()
	f.SrcMAC, f.DstMAC = flow.MAC(srcMAC).String(), flow.MAC(dstMAC).String()
	f.TCPFlags, f.FlowID = flow.TCPFlagText(flags), fmt.Sprintf("%016x", id)
	f.Canonical, f.Marks = flow.Mark(marks)&flow.MarkCanonical != 0, markNames(flow.Mark(marks))
	f.AppHow, f.Extra = flow.AppHow(how).String(), decode.ExtraTexts(extra)
	if proto == 1 || proto == 58 {
		f.ICMP = fmt.Sprintf("%d/%d", icmp>>8, icmp&0xff)
	}
	return f, nil
}
