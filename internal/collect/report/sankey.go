package report

import (
	"context"
	"database/sql"
	"fmt"

	"crosstap/internal/flow"
)

const defaultLinks = 50

// sankeySort are the columns to sort links by.
var sankeySort = names("src_vtep", "segment", "tenant", "dst_vtep", "octets", "packets")

// Sankey implements Reporter. Links go the way the traffic goes, also where a filter on one end selects conversations. Where no observer of a flow saw the
// tunnel, the VTEP is the one that other flows of the same host used.
func (r *Reports) Sankey(ctx context.Context, q Query) (Sankey, error) {
	a, err := check(q, defaultLinks)
	if err != nil {
		return Sankey{}, err
	}
	order, err := a.order(sankeySort, "-octets", "fabric, segment, tenant, src_vtep, src_host, dst_vtep, dst_host, same")
	if err != nil {
		return Sankey{}, err
	}
	a.vteps = true
	var out Sankey
	err = r.with(ctx, a, func() error {
		out, err = a.sankey(ctx, r, order)
		return err
	})
	return out, err
}

// linkSteps gives the step q: one row for each link.
func (a *ask) linkSteps() string {
	return a.logical(a.sinceMS, a.untilMS) + `,
hv AS (SELECT host, ` + latest("vtep", zeroAddr) + ` AS vtep FROM (
  SELECT src_host AS host, outer_src AS vtep, recent FROM l UNION ALL SELECT dst_host, outer_dst, recent FROM l) WHERE host <> '' GROUP BY host),
c AS (SELECT l.fabric, l.segment, l.tenant, l.octets, l.packets, l.marks, l.src_host, l.src_host = l.dst_host AND l.src_host <> '' AS same,
  if(same, '', l.dst_host) AS dst_host,
  if(l.outer_src <> ` + zeroAddr + `, l.outer_src, coalesce(s.vtep, ` + zeroAddr + `)) AS src_vtep,
  CASE WHEN same THEN ` + zeroAddr + ` WHEN l.outer_dst <> ` + zeroAddr + ` THEN l.outer_dst ELSE coalesce(d.vtep, ` + zeroAddr + `) END AS dst_vtep,
  ` + conversationKey + ` AS conversation
  FROM l LEFT JOIN hv s ON l.src_host = s.host LEFT JOIN hv d ON l.dst_host = d.host WHERE ` + canonical + `),
q AS MATERIALIZED (SELECT fabric, segment, tenant, src_vtep, src_host, dst_vtep, dst_host, same, sum(octets)::UBIGINT AS octets, sum(packets)::UBIGINT AS packets,
  count(*) FILTER ((marks & 2) <> 0) AS sampled_rows, count(*) FILTER ((marks & 8) <> 0) AS ambiguous_rows
  FROM c GROUP BY fabric, segment, tenant, src_vtep, src_host, dst_vtep, dst_host, same)`
}

func (a *ask) sankey(ctx context.Context, r *Reports, order string) (Sankey, error) {
	out := Sankey{Links: []Link{}}
	var s endsScan
	query := a.linkSteps() + `
SELECT segment, tenant, src_vtep::VARCHAR, src_host, dst_vtep::VARCHAR, dst_host, same, octets, packets,
  (SELECT count(*) FROM q), (SELECT sum(octets) FROM q)::UBIGINT, (SELECT sum(packets) FROM q)::UBIGINT, (SELECT count(DISTINCT conversation) FROM c),
  (SELECT sum(sampled_rows) FROM q)::UBIGINT, (SELECT sum(ambiguous_rows) FROM q)::UBIGINT
  FROM q ORDER BY ` + order + fmt.Sprintf(" LIMIT %d", a.Limit)
	err := a.each(ctx, query, func(rows *sql.Rows) error {
		var l Link
		var seg uint64
		var src, srcHost, dst, dstHost string
		var same bool
		into := []any{&seg, &l.Tenant, &src, &srcHost, &dst, &dstHost, &same, &l.Octets, &l.Packets}
		if err := rows.Scan(append(into, s.totals()...)...); err != nil {
			return err
		}
		l.Segment, l.SrcVTEP, l.DstVTEP = segmentText(flow.Segment(seg)), vtepText(src, srcHost), vtepText(dst, dstHost)
		if same {
			l.DstVTEP = "same host"
		}
		out.Links = append(out.Links, l)
		return nil
	})
	if err != nil {
		return Sankey{}, err
	}
	out.Meta, err = a.meta(ctx, r, "sankey", s.total, s.sampled, s.ambiguous)
	return out, err
}

// vtepText names a tunnel endpoint: "10.0.0.1 (h1)", or what is known of that.
func vtepText(uuid, host string) string {
	switch addr := addrText(uuid); {
	case addr != "" && host != "":
		return addr + " (" + host + ")"
	case addr != "":
		return addr
	case host != "":
		return host
	}
	return "unknown"
}
