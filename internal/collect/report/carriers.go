package report

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"time"

	"crosstap/internal/flow"
)

// Carrier joins a tunnel's packets as the underlay saw them with what they carried. One row is one direction of a pair of tunnel
// endpoints, or of one of its outer flows.
type Carrier struct {
	SrcVTEP        string    `json:"src_vtep"`
	DstVTEP        string    `json:"dst_vtep"`
	SrcHost        string    `json:"src_host"`
	DstHost        string    `json:"dst_host"`
	OuterSrcPort   uint16    `json:"outer_src_port"` // 0 when the observers of the overlay did not tell it
	OuterDstPort   uint16    `json:"outer_dst_port"`
	OuterProto     string    `json:"outer_proto"`
	Match          string    `json:"match"`           // "port": by the outer 5-tuple; "vteps": by the two endpoints; "none": the underlay was not seen
	Conversations  uint64    `json:"conversations"`   // that it carried, distinct 5-tuples
	Pairs          uint64    `json:"pairs"`           // of workloads
	Segments       []string  `json:"segments"`        // of them
	Tenants        []string  `json:"tenants"`         //
	OverlayOctets  uint64    `json:"overlay_octets"`  // IP octets of tenants' packets
	OverlayPackets uint64    `json:"overlay_packets"` //
	ExpectedOctets uint64    `json:"expected_octets"` // IP octets of the underlay that these make, with their headers
	UnderlayOctets uint64    `json:"underlay_octets"` // as the underlay saw them
	UnderlayPkts   uint64    `json:"underlay_packets"`
	UnderlayFlows  uint64    `json:"underlay_flows"`
	Lost           *int64    `json:"lost"`     // overlay packets - underlay packets; null when a side was not seen or the filter takes a part only
	SeenBy         []string  `json:"seen_by"`  // observers of the underlay
	FlowIDs        []string  `json:"flow_ids"` // of the underlay's flows, at most 20
	FirstSeen      time.Time `json:"first_seen"`
	LastSeen       time.Time `json:"last_seen"`
}

// Carriers is the answer of "underlay flows that carried an overlay pair", and the other way round.
type Carriers struct {
	Meta Meta      `json:"meta"`
	Rows []Carrier `json:"rows"`
}

var carrierSort = names("src_vtep", "dst_vtep", "outer_src_port", "conversations", "pairs", "overlay_octets", "overlay_packets", "underlay_octets", "underlay_packets", "underlay_flows",
	"first_seen", "last_seen")

// Carriers implements Reporter: the filter selects what was carried; the answer is what carried it.
func (r *Reports) Carriers(ctx context.Context, q Query) (Carriers, error) {
	return r.carriers(ctx, q, false)
}

// Carried implements Reporter: the filter selects flows of the underlay; the answer is what they carried.
func (r *Reports) Carried(ctx context.Context, q Query) (Carriers, error) {
	return r.carriers(ctx, q, true)
}

func (r *Reports) carriers(ctx context.Context, q Query, back bool) (Carriers, error) {
	a, err := check(q, defaultLimit)
	if err != nil {
		return Carriers{}, err
	}
	def := "-overlay_octets"
	if back {
		def = "-underlay_octets"
	}
	order, err := a.order(carrierSort, def, "src_vtep, dst_vtep, outer_src_port, outer_dst_port, outer_proto")
	if err != nil {
		return Carriers{}, err
	}
	a.vteps, a.rowwise, a.ends = true, true, true
	var out Carriers
	err = r.with(ctx, a, func() error {
		out, err = a.carrierRows(ctx, r, order, back)
		return err
	})
	return out, err
}

// What carried a row is told by the outer 5-tuple (s, d, sp, kd, kp): GRE has no ports, UDP may lack them, kp is 0 then. Flows of the
// underlay that no 5-tuple asks for are shared by what was told without ports between the same endpoints.

// carrierSteps gives the steps ov, the carried rows, and un, the rows of the underlay: packets between two addresses that are
// tunnel endpoints, of a tunnel's protocol, which are not themselves in a tunnel.
func (a *ask) carrierSteps(back bool) string {
	when := fmt.Sprintf("t_end >= %s AND t_end < %s", ts(a.sinceMS), ts(a.untilMS))
	all := fmt.Sprintf("SELECT * FROM %s WHERE %s", a.view.Table(), when)
	sift, from, underlay := "", "raw", "true"
	if back { // the filter is for the underlay only
		seen, cond := a.seenSteps(), a.cond
		a.cond = condition{}
		sift = "WITH " + seen + strings.TrimPrefix(a.logicalWhere(when), "WITH ")
		a.cond, from = cond, "l"
		if !cond.expr.Empty() {
			underlay = cond.flows(a)
		}
	} else {
		sift = a.logicalWhere(when)
	}
	return sift + fmt.Sprintf(`,
raw AS NOT MATERIALIZED (%[1]s),
port AS NOT MATERIALIZED (SELECT flow_id, any_value(outer_src_port) AS sp, any_value(outer_dst_port) AS dp, any_value(outer_proto) AS pr FROM raw WHERE outer_src_port <> 0 AND flow_id <> 0
  GROUP BY flow_id HAVING min(outer_src_port) = max(outer_src_port)),
ov AS MATERIALIZED (SELECT o.* REPLACE (if(o.outer_src_port <> 0, o.outer_src_port, coalesce(port.sp, 0))::USMALLINT AS outer_src_port, if(o.outer_src_port <> 0, o.outer_dst_port, coalesce(port.dp, 0))::USMALLINT AS outer_dst_port,
  if(o.outer_proto <> 0, o.outer_proto, coalesce(port.pr, 0))::UTINYINT AS outer_proto) FROM l o LEFT JOIN port ON o.flow_id = port.flow_id
  WHERE `+canonicalOf("o")+` AND o.outer_src <> %[3]s AND o.outer_dst <> %[3]s),
un AS MATERIALIZED (SELECT * FROM %[2]s WHERE `+canonical+` AND outer_src = %[3]s AND proto IN (17, 47) AND (proto = 47 OR dst_port IN (4789, 8472, 6081, 4790, 250) OR role = 5) AND (%[4]s))`,
		all, from, zeroAddr, underlay)
}

func canonicalOf(table string) string { return "(" + table + ".marks & 1) <> 0" }

func (a *ask) carrierRows(ctx context.Context, r *Reports, order string, back bool) (Carriers, error) {
	out := Carriers{Rows: []Carrier{}}
	a.args = nil
	join := "LEFT"
	if back {
		join = "RIGHT"
	}
	query := a.carrierSteps(back) + `,
ok AS NOT MATERIALIZED (SELECT *, if(outer_src_port <> 0, outer_dst_port, 0)::USMALLINT AS kd,
  (CASE WHEN outer_src_port <> 0 THEN if(outer_proto = 0, 17, outer_proto) WHEN outer_proto = 47 OR tunnel_type = 2 THEN 47 ELSE 0 END)::UTINYINT AS kp FROM ov),
og AS MATERIALIZED (SELECT outer_src AS s, outer_dst AS d, outer_src_port AS sp, kd, kp, max(outer_dst_port) AS dp, max(outer_proto) AS pr, max(src_host) AS sh, max(dst_host) AS dh, count(DISTINCT ` + conversationKey + `)::UBIGINT AS conversations,
  count(DISTINCT (` + pairKey + `))::UBIGINT AS pairs, list_sort(list(DISTINCT segment) FILTER (segment <> 0)) AS segments, list_sort(list(DISTINCT tenant) FILTER (tenant <> '')) AS tenants,
  sum(octets)::UBIGINT AS octets, sum(packets)::UBIGINT AS packets, sum(octets + packets * if((segment >> 56) IN (2, 243), 42, 50))::UBIGINT AS expected, min(t_start) AS first, max(t_end) AS last,
  count(*) FILTER ((marks & 2) <> 0) AS sampled, count(*) FILTER ((marks & 8) <> 0) AS ambiguous FROM ok GROUP BY s, d, sp, kd, kp),
up AS MATERIALIZED (SELECT src AS s, dst AS d, src_port AS sp, dst_port AS dp, proto AS pr, sum(octets)::UBIGINT AS octets, sum(packets)::UBIGINT AS packets, count(DISTINCT flow_id)::UBIGINT AS flows,
  list_sort(list(DISTINCT ` + observerName + `)) AS seen, list_sort(list(DISTINCT flow_id))[1:20] AS ids, min(t_start) AS first, max(t_end) AS last FROM un GROUP BY s, d, sp, dp, pr),
rest AS NOT MATERIALIZED (SELECT * FROM up WHERE (s, d, sp, dp, pr) NOT IN (SELECT s, d, sp, kd, kp FROM og)),
uv AS MATERIALIZED (SELECT s, d, max(dp) AS dp, max(pr) AS pr, sum(octets)::UBIGINT AS octets, sum(packets)::UBIGINT AS packets, sum(flows)::UBIGINT AS flows, list_sort(list_distinct(flatten(list(seen)))) AS seen,
  list_sort(flatten(list(ids)))[1:20] AS ids, min(first) AS first, max(last) AS last FROM rest GROUP BY s, d),
u AS MATERIALIZED (SELECT s, d, sp, dp AS kd, pr AS kp, dp, pr, octets, packets, flows, seen, ids, first, last, 'port' AS match FROM up WHERE (s, d, sp, dp, pr) IN (SELECT s, d, sp, kd, kp FROM og)
  UNION ALL SELECT s, d, 0, 0, 0, dp, pr, octets, packets, flows, seen, ids, first, last, 'vteps' FROM uv WHERE (s, d) IN (SELECT s, d FROM og WHERE kp = 0)
  UNION ALL SELECT s, d, sp, dp, pr, dp, pr, octets, packets, flows, seen, ids, first, last, 'none' FROM rest WHERE (s, d) NOT IN (SELECT s, d FROM og WHERE kp = 0)),
q AS MATERIALIZED (SELECT coalesce(og.s, u.s) AS src_vtep, coalesce(og.d, u.d) AS dst_vtep, coalesce(og.sp, u.sp) AS outer_src_port, if(coalesce(og.dp, 0) <> 0, og.dp, coalesce(u.dp, 0)) AS outer_dst_port,
  if(coalesce(og.pr, 0) <> 0, og.pr, coalesce(u.pr, 0)) AS outer_proto, coalesce(sh, '') AS src_host, coalesce(dh, '') AS dst_host, if(og.s IS NULL OR u.s IS NULL, 'none', u.match) AS match,
  coalesce(conversations, 0)::UBIGINT AS conversations, coalesce(pairs, 0)::UBIGINT AS pairs, coalesce(segments, []) AS segments, coalesce(tenants, []) AS tenants, coalesce(og.octets, 0)::UBIGINT AS overlay_octets,
  coalesce(og.packets, 0)::UBIGINT AS overlay_packets, coalesce(expected, 0)::UBIGINT AS expected, coalesce(u.octets, 0)::UBIGINT AS underlay_octets, coalesce(u.packets, 0)::UBIGINT AS underlay_packets,
  coalesce(u.flows, 0)::UBIGINT AS underlay_flows, coalesce(seen, []) AS seen, coalesce(ids, []) AS ids, least(og.first, u.first) AS first_seen, greatest(og.last, u.last) AS last_seen,
  coalesce(sampled, 0)::UBIGINT AS sampled, coalesce(ambiguous, 0)::UBIGINT AS ambiguous
  FROM og ` + join + ` JOIN u ON og.s = u.s AND og.d = u.d AND og.sp = u.sp AND og.kd = u.kd AND og.kp = u.kp)
SELECT src_vtep::VARCHAR, dst_vtep::VARCHAR, outer_src_port, outer_dst_port, outer_proto, src_host, dst_host, match, conversations, pairs, to_json(segments)::VARCHAR, to_json(tenants)::VARCHAR, overlay_octets, overlay_packets,
  expected, underlay_octets, underlay_packets, underlay_flows, to_json(seen)::VARCHAR, to_json(list_transform(ids, i -> printf('%016x', i)))::VARCHAR, first_seen, last_seen, (SELECT count(*) FROM q), (SELECT sum(overlay_octets) FROM q)::UBIGINT,
  (SELECT sum(overlay_packets) FROM q)::UBIGINT, (SELECT sum(conversations) FROM q)::UBIGINT, (SELECT sum(sampled) FROM q)::UBIGINT, (SELECT sum(ambiguous) FROM q)::UBIGINT FROM q ORDER BY ` + order + fmt.Sprintf(" LIMIT %d", a.Limit)
	var s endsScan
	err := a.each(ctx, query, func(rows *sql.Rows) error {
		c, err := a.scanCarrier(rows, &s, back)
		out.Rows = append(out.Rows, c)
		return err
	})
	if err != nil {
		return Carriers{}, err
	}
	name := "underlay"
	if back {
		name = "overlay"
	}
	a.notes = append(a.notes, "packets of a tunnel and of its underlay are compared where no filter takes a part of a tunnel only")
	out.Meta, err = a.meta(ctx, r, name, s.total, s.sampled, s.ambiguous)
	if e := out.Meta.Empty; e != nil && e.Cause == "not_counted" {
		out.Meta.Empty = noCarriers(back)
	}
	return out, err
}

// noCarriers is why rows that count have nothing around them, or are nothing around others.
func noCarriers(back bool) *Empty {
	if back {
		return &Empty{"no_underlay", "No observer tells of packets between tunnel endpoints in the time range.",
			"Meter the network between the hosts, at an uplink or a switch there, or choose another time range."}
	}
	return &Empty{"no_tunnel", "No record of the time range tells of a tunnel around it.", "Meter at a tunnel endpoint, such as a host's uplink, or choose another time range."}
}

func (a *ask) scanCarrier(rows *sql.Rows, s *endsScan, back bool) (c Carrier, err error) {
	var src, dst, segments, tenants, seen, ids string
	var proto uint8
	err = rows.Scan(&src, &dst, &c.OuterSrcPort, &c.OuterDstPort, &proto, &c.SrcHost, &c.DstHost, &c.Match, &c.Conversations, &c.Pairs, &segments, &tenants, &c.OverlayOctets, &c.OverlayPackets,
		&c.ExpectedOctets, &c.UnderlayOctets, &c.UnderlayPkts, &c.UnderlayFlows, &seen, &ids, &c.FirstSeen, &c.LastSeen, &s.total.Rows, &s.total.Octets, &s.total.Packets, &s.total.Flows, &s.sampled, &s.ambiguous)
	if err != nil {
		return c, err
	}
	var l lists
	c.SrcVTEP, c.DstVTEP, c.OuterProto = addrText(src), addrText(dst), ""
	if proto != 0 {
		c.OuterProto = flow.ProtoText(proto)
	}
	c.Segments, c.Tenants, c.SeenBy, c.FlowIDs = l.segments(segments), l.texts(tenants), l.texts(seen), l.texts(ids)
	for i := range c.SeenBy {
		c.SeenBy[i] = observerText(c.SeenBy[i])
	}
	slices.Sort(c.SeenBy)
	c.FirstSeen, c.LastSeen = c.FirstSeen.UTC(), c.LastSeen.UTC()
	if c.Match != "none" && (back || a.cond.expr.Empty()) {
		lost := int64(c.OverlayPackets - c.UnderlayPkts)
		c.Lost = &lost
	}
	return c, l.err
}
