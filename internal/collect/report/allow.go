package report

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"crosstap/internal/flow"
)

// AllowRow is a connection that was seen, as a rule that would allow it.
type AllowRow struct {
	Fabric    string    `json:"fabric"`
	Segment   string    `json:"segment"`
	VNI       uint32    `json:"vni"`
	Tenant    string    `json:"tenant"`
	SrcVM     string    `json:"src_vm"` // client
	SrcAddr   string    `json:"src_addr"`
	DstVM     string    `json:"dst_vm"` // server
	DstAddr   string    `json:"dst_addr"`
	Proto     string    `json:"proto"`
	Port      uint16    `json:"port"` // of the server; 0 for protocols without
	App       string    `json:"app"`
	Octets    uint64    `json:"octets"`
	Packets   uint64    `json:"packets"`
	Guess     bool      `json:"guess"` // client and port were guessed from the ports
	FirstSeen time.Time `json:"first_seen"`
	LastSeen  time.Time `json:"last_seen"`
}

// AllowList is what a firewall would have to allow for all that was seen.
type AllowList struct {
	Meta Meta       `json:"meta"`
	Rows []AllowRow `json:"rows"`
}

var allowSort = names("fabric", "segment", "vni", "tenant", "src_vm", "src_addr", "dst_vm", "dst_addr", "proto", "port", "app", "octets", "packets", "first_seen", "last_seen")

const allowTie = "fabric, segment, dst_addr, proto, port, src_addr, tenant"

// AllowList implements Reporter.
func (r *Reports) AllowList(ctx context.Context, q Query) (AllowList, error) {
	a, err := check(q, maxLimit)
	if err != nil {
		return AllowList{}, err
	}
	order, err := a.order(allowSort, "segment", allowTie)
	if err != nil {
		return AllowList{}, err
	}
	a.need = []string{"fabric", "segment", "tenant", "src_vm", "dst_vm", "app"}
	if err := a.useRollup(true); err != nil {
		return AllowList{}, err
	}
	var out AllowList
	err = r.with(ctx, a, func() error {
		out, err = a.allowList(ctx, r, order)
		return err
	})
	return out, err
}

func (a *ask) allowList(ctx context.Context, r *Reports, order string) (AllowList, error) {
	out := AllowList{Rows: []AllowRow{}}
	query := a.facts(a.sinceMS, a.untilMS) + `,
o AS NOT MATERIALIZED (SELECT fabric, segment, tenant, if(turn, dst, src) AS src_addr, if(turn, src, dst) AS dst_addr, if(turn, dst_vm, src_vm) AS src_vm, if(turn, src_vm, dst_vm) AS dst_vm,
  proto, service_port AS port, app, octets, packets, client, first, last, sampled_rows, ambiguous_rows FROM x),
q AS MATERIALIZED (SELECT fabric, segment, (segment & 4294967295)::UBIGINT AS vni, tenant, src_addr, dst_addr, proto, port, coalesce(arg_max(src_vm, (last, src_vm)) FILTER (src_vm <> ''), '') AS src_vm,
  coalesce(arg_max(dst_vm, (last, dst_vm)) FILTER (dst_vm <> ''), '') AS dst_vm, max(app) AS app, sum(octets)::UBIGINT AS octets, sum(packets)::UBIGINT AS packets, bool_and(client = 0) AS guess,
  min(first) AS first_seen, max(last) AS last_seen, sum(sampled_rows)::UBIGINT AS sampled_rows, sum(ambiguous_rows)::UBIGINT AS ambiguous_rows
  FROM o GROUP BY fabric, segment, tenant, src_addr, dst_addr, proto, port)
SELECT fabric, segment, tenant, src_vm, src_addr::VARCHAR, dst_vm, dst_addr::VARCHAR, proto, port, app, octets, packets, guess, first_seen, last_seen, (SELECT count(*) FROM q), (SELECT sum(octets) FROM q)::UBIGINT,
  (SELECT sum(packets) FROM q)::UBIGINT, (SELECT sum(sampled_rows) FROM q)::UBIGINT, (SELECT sum(ambiguous_rows) FROM q)::UBIGINT FROM q ORDER BY ` + order + fmt.Sprintf(" LIMIT %d", a.Limit)
	var total sums
	var sampled, ambiguous uint64
	err := a.each(ctx, query, func(rows *sql.Rows) error {
		var one AllowRow
		var seg uint64
		var src, dst string
		var proto uint8
		if err := rows.Scan(&one.Fabric, &seg, &one.Tenant, &one.SrcVM, &src, &one.DstVM, &dst, &proto, &one.Port, &one.App, &one.Octets, &one.Packets, &one.Guess, &one.FirstSeen, &one.LastSeen,
			&total.Rows, &total.Octets, &total.Packets, &sampled, &ambiguous); err != nil {
			return err
		}
		one.Segment, one.VNI, one.Proto = segmentText(flow.Segment(seg)), flow.Segment(seg).Number(), flow.ProtoText(proto)
		one.SrcAddr, one.DstAddr, one.FirstSeen, one.LastSeen = addrText(src), addrText(dst), one.FirstSeen.UTC(), one.LastSeen.UTC()
		out.Rows = append(out.Rows, one)
		return nil
	})
	if err != nil {
		return AllowList{}, err
	}
	a.notes = append(a.notes, "flows are not counted; what was not seen in the range is not in the list")
	out.Meta, err = a.meta(ctx, r, "allow-list", total, sampled, ambiguous)
	return out, err
}
