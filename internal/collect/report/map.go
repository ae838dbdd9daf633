package report

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"crosstap/internal/flow"
	"crosstap/internal/nearest"
)

// MapNode is a group of workloads, or a member of a group that is expanded.
type MapNode struct {
	ID      string   `json:"id"`   // the values of the grouping columns, "/" between them, "~" for unknown; members have one part more
	Kind    string   `json:"kind"` // "group", "outside" (addresses that inventory does not know) or "member"
	Label   string   `json:"label"`
	Group   []string `json:"group"` // the values themselves
	Members uint64   `json:"members"`
	Octets  uint64   `json:"octets"` // of its edges in the time range, those of the group with itself once
	Layer   int      `json:"layer"`  // clients to the left of their servers
	X       int      `json:"x"`      // of its centre in the picture, pixels
	Y       int      `json:"y"`
}

// MapService is one service of an edge.
type MapService struct {
	Proto  string `json:"proto"`
	Port   uint16 `json:"port"`
	App    string `json:"app"`
	Octets uint64 `json:"octets"`
	State  string `json:"state"`
}

// String is such as "tcp/5432".
func (s MapService) String() string {
	if s.Port == 0 {
		return s.Proto
	}
	return fmt.Sprintf("%s/%d", s.Proto, s.Port)
}

// MapEdge goes from clients to servers.
type MapEdge struct {
	Src           string       `json:"src"` // ids of nodes
	Dst           string       `json:"dst"`
	Services      []MapService `json:"services"` // the greatest ten
	ServicesTotal uint64       `json:"services_total"`
	OctetsFwd     uint64       `json:"octets_fwd"`
	OctetsRev     uint64       `json:"octets_rev"`
	Octets        uint64       `json:"octets"`
	Packets       uint64       `json:"packets"`
	OctetsBefore  uint64       `json:"octets_before"` // in the baseline
	Links         uint64       `json:"links"`         // workload pairs and services in the time range
	NewLinks      uint64       `json:"new_links"`     // of them not in the baseline
	GoneLinks     uint64       `json:"gone_links"`    // in the baseline only
	CrossTenant   bool         `json:"cross_tenant"`
	State         string       `json:"state"` // "active", "idle" (not in the newest quarter of the range), "new", "gone"
	FirstSeen     time.Time    `json:"first_seen"`
	LastSeen      time.Time    `json:"last_seen"`
}

// Hidden says what the limits left out.
type Hidden struct {
	Nodes       uint64 `json:"nodes"`
	Edges       uint64 `json:"edges"`
	Octets      uint64 `json:"octets"`
	CrossTenant uint64 `json:"cross_tenant"` // edges between tenants among them
}

// Map is the dependency map.
type Map struct {
	Meta      Meta       `json:"meta"`
	By        []string   `json:"by"`
	Expanded  []string   `json:"expanded"`
	Focus     string     `json:"focus"`
	Hops      int        `json:"hops"`
	BaseSince *time.Time `json:"base_since"` // null without a baseline
	BaseUntil *time.Time `json:"base_until"`
	Width     int        `json:"width"` // of the picture, pixels
	Height    int        `json:"height"`
	Hidden    Hidden     `json:"hidden"`
	Nodes     []MapNode  `json:"nodes"`
	Edges     []MapEdge  `json:"edges"` // the greatest first
}

const (
	defaultEdges   = 300
	maxEdges       = 5000
	maxEdgeRows    = 50_000 // of services, before they are joined to edges
	servicesShown  = 10
	defaultGroupBy = "tenant,tier"
)

// groupings give the value of a workload by which it is grouped, with %s for c (client) or s (server). The tier is the letters
// that a machine's name begins with: "web" of web-blue-01.
var groupings = map[string]string{
	"tenant": "if(%[1]s_tenant <> '', %[1]s_tenant, tenant)", "tier": "regexp_extract(%[1]s_name, '^[A-Za-z]+')", "host": "%[1]s_host", "fabric": "fabric", "app": "app",
	"segment": "segment::VARCHAR", "vm": "%[1]s_name",
}

// MapGroupings lists what maps can group by.
func MapGroupings() []string { return slices.Sorted(maps.Keys(groupings)) }

// mapAsk is a checked question.
type mapAsk struct {
	*ask
	before span
}

// Map implements Reporter. Which end is the client each row tells by itself.
func (r *Reports) Map(ctx context.Context, q Query) (Map, error) {
	m, err := checkMap(q, defaultEdges)
	if err != nil {
		return Map{}, err
	}
	var out Map
	err = r.with(ctx, m.ask, func() error {
		out, err = m.answer(ctx, r)
		return err
	})
	return out, err
}

func checkMap(q Query, limit int) (*mapAsk, error) {
	if len(q.By) == 0 {
		q.By = strings.Split(defaultGroupBy, ",")
	}
	for _, by := range q.By {
		if groupings[by] == "" {
			return nil, &QueryError{"by", "cannot group by " + quoteName(by), nearest.Hint(by, MapGroupings(), "such as "+strings.Join(MapGroupings(), ", "))}
		}
	}
	switch {
	case len(q.By) > maxBy:
		return nil, &QueryError{"by", fmt.Sprintf("%d columns to group by", len(q.By)), "4 at most"}
	case q.Hops < 0 || q.Hops > 10:
		return nil, &QueryError{"hops", fmt.Sprintf("%d hops", q.Hops), "1 to 10"}
	case len(q.Expand) > 50:
		return nil, &QueryError{"expand", fmt.Sprintf("%d groups", len(q.Expand)), "50 at most"}
	}
	if q.Focus != "" && q.Hops == 0 {
		q.Hops = 1
	}
	q.Sort = "-octets"
	a, err := check(q, limit)
	if err != nil {
		return nil, err
	}
	a.need = []string{"fabric", "segment", "tenant", "src_vm", "dst_vm", "src_vm_id", "dst_vm_id", "app", "src_tenant", "dst_tenant"}
	if slices.Contains(q.By, "host") {
		a.need = append(a.need, "src_host", "dst_host")
	}
	m := &mapAsk{ask: a}
	if m.before, err = a.base(false); err != nil {
		return nil, err
	}
	a.linked = len(q.Expand) == 0
	return m, a.useRollup(true)
}

// links gives the steps up to e: one row for each pair of workloads and service, from client to server. Addresses that inventory
// does not know count as one workload for each segment, unless addrs.
func (m *mapAsk) links(addrs bool) string {
	col := func(side, name string) string {
		if side == "c" {
			return fmt.Sprintf("if(turn, dst%[1]s, src%[1]s)", name)
		}
		return fmt.Sprintf("if(turn, src%[1]s, dst%[1]s)", name)
	}
	var o, more strings.Builder
	keys := "fabric, segment, tenant, c_who, s_who, c_name, s_name, c_tenant, s_tenant, proto, service_port"
	for _, side := range []string{"c", "s"} {
		name, id := col(side, "_vm"), col(side, "_vm_id")
		fmt.Fprintf(&o, "%[2]s AS %[1]s_name, if(%[3]s <> '', %[3]s, %[2]s) AS %[1]s_who, %[4]s AS %[1]s_tenant, ", side, name, id, col(side, "_tenant"))
		if addrs {
			fmt.Fprintf(&o, "if(%[1]s_who = '', %[2]s, %[3]s) AS %[1]s_addr, ", side, col(side, ""), zeroAddr)
			keys += ", " + side + "_addr"
		} else {
			fmt.Fprintf(&more, ", %s AS %s_addr", zeroAddr, side)
		}
		if slices.Contains(m.By, "host") {
			fmt.Fprintf(&o, "%[2]s AS %[1]s_host, ", side, col(side, "_host"))
			fmt.Fprintf(&more, ", max(%[1]s_host) AS %[1]s_host", side)
		}
	}
	return m.factsOf(span{m.sinceMS, m.untilMS}, m.before) + fmt.Sprintf(`,
o AS NOT MATERIALIZED (SELECT %s fabric, segment, tenant, proto, service_port, app, turn, cur, octets, packets, first, last, sampled_rows, ambiguous_rows FROM x),
e0 AS MATERIALIZED (SELECT %s, max(app) AS app%s, %s FROM o GROUP BY %[2]s)`, o.String(), keys, more.String(), m.linkSums())
}

// linkSums are the sums of a link in the range and in the baseline. Without a baseline there is nothing to tell apart.
func (m *mapAsk) linkSums() string {
	if m.before == (span{}) {
		return `sum(if(turn, 0, octets))::UBIGINT AS fwd, sum(if(turn, octets, 0))::UBIGINT AS rev, sum(packets)::UBIGINT AS packets, 0::UBIGINT AS before, true AS now, false AS was,
  min(first) AS first, max(last) AS last, max(last) AS ever, sum(sampled_rows)::UBIGINT AS sampled_rows, sum(ambiguous_rows)::UBIGINT AS ambiguous_rows`
	}
	return `coalesce(sum(octets) FILTER (cur AND NOT turn), 0)::UBIGINT AS fwd, coalesce(sum(octets) FILTER (cur AND turn), 0)::UBIGINT AS rev, coalesce(sum(packets) FILTER (cur), 0)::UBIGINT AS packets,
  coalesce(sum(octets) FILTER (NOT cur), 0)::UBIGINT AS before, bool_or(cur) AS now, bool_or(NOT cur) AS was, min(first) FILTER (cur) AS first, max(last) FILTER (cur) AS last, max(last) AS ever,
  coalesce(sum(sampled_rows) FILTER (cur), 0)::UBIGINT AS sampled_rows, coalesce(sum(ambiguous_rows) FILTER (cur), 0)::UBIGINT AS ambiguous_rows`
}

// group gives the id of the group of one side.
func (m *mapAsk) group(side string) string {
	var parts []string
	for _, by := range m.By {
		expr := groupings[by]
		if strings.Contains(expr, "%") {
			expr = fmt.Sprintf(expr, side)
		}
		parts = append(parts, "if("+expr+" = '', '~', "+expr+")")
	}
	return "concat_ws('/', " + strings.Join(parts, ", ") + ")"
}

// member gives the id of a workload whose group is expanded.
func (m *mapAsk) member(side string) string {
	if len(m.Expand) == 0 {
		return side + "_group"
	}
	var in []string
	for _, e := range m.Expand {
		in = append(in, m.arg(e))
	}
	return fmt.Sprintf("if(%[1]s_group IN (%[2]s), concat(%[1]s_group, '/', if(%[1]s_who <> '', %[1]s_who, concat('@', %[1]s_addr::VARCHAR))), %[1]s_group)", side, strings.Join(in, ", "))
}

func (m *mapAsk) sql() string {
	return m.links(len(m.Expand) > 0) + fmt.Sprintf(`,
e1 AS NOT MATERIALIZED (SELECT *, %[1]s AS c_group, %[2]s AS s_group FROM e0),
e AS MATERIALIZED (SELECT *, %[3]s AS c, %[4]s AS s FROM e1),
edge AS MATERIALIZED (SELECT c, s, proto, service_port, max(app) AS app, sum(fwd)::UBIGINT AS fwd, sum(rev)::UBIGINT AS rev, sum(packets)::UBIGINT AS packets, sum(before)::UBIGINT AS before,
  count(*) FILTER (now)::UBIGINT AS links, count(*) FILTER (now AND NOT was)::UBIGINT AS fresh, count(*) FILTER (NOT now)::UBIGINT AS gone, min(first) AS first, coalesce(max(last), max(ever)) AS last
  FROM e GROUP BY c, s, proto, service_port),
n0 AS NOT MATERIALIZED (SELECT c AS id, c_group AS grp, c_who AS who, c_addr AS addr, c_name AS name FROM e UNION ALL SELECT s, s_group, s_who, s_addr, s_name FROM e),
node AS MATERIALIZED (SELECT id, min(grp) AS grp, count(DISTINCT (who, addr))::UBIGINT AS members, max(name) AS name, max(who) AS who, max(addr) AS addr FROM n0 GROUP BY id),
sums AS MATERIALIZED (SELECT coalesce(sum(fwd) + sum(rev), 0)::UBIGINT AS octets, coalesce(sum(packets), 0)::UBIGINT AS packets, coalesce(sum(sampled_rows), 0)::UBIGINT AS sampled,
  coalesce(sum(ambiguous_rows), 0)::UBIGINT AS ambiguous FROM e)
SELECT 'edge' AS kind, c, s, app, proto, service_port, fwd, rev, packets, before, links, fresh, gone, first, last FROM (SELECT * FROM edge ORDER BY fwd + rev DESC, before DESC, c, s, proto, service_port LIMIT %[5]d)
UNION ALL SELECT 'node', id, grp, name, 0, 0, members, 0, 0, 0, 0, 0, 0, NULL, NULL FROM node
UNION ALL SELECT 'sums', '', '', '', 0, 0, octets, packets, sampled, ambiguous, (SELECT count(*) FROM edge), 0, 0, NULL, NULL FROM sums
ORDER BY kind, c, s, proto, service_port`, m.group("c"), m.group("s"), m.member("c"), m.member("s"), maxEdgeRows)
}

// mapScan builds the graph from rows.
type mapScan struct {
	m      *mapAsk
	nodes  map[string]*MapNode
	edges  map[[2]string]*MapEdge
	total  sums
	rows   uint64 // of services
	counts [2]uint64
}

func (s *mapScan) row(rows *sql.Rows) error {
	var kind, c, to, app string
	var proto uint8
	var port uint16
	var n [7]uint64
	var first, last sql.NullTime
	if err := rows.Scan(&kind, &c, &to, &app, &proto, &port, &n[0], &n[1], &n[2], &n[3], &n[4], &n[5], &n[6], &first, &last); err != nil {
		return err
	}
	switch kind {
	case "edge":
		c, to = readableID(c), readableID(to)
		s.edge(c, to, MapService{flow.ProtoText(proto), port, app, n[0] + n[1], s.m.state(n[4], n[4]-n[5]+n[6], last.Time)}, n, first.Time.UTC(), last.Time.UTC())
	case "node":
		s.node(readableID(c), to, app, n[0])
	case "sums":
		s.total.Octets, s.total.Packets, s.counts, s.rows = n[0], n[1], [2]uint64{n[2], n[3]}, n[4]
	}
	return nil
}

// readableID writes the address in the id of a member as an address.
func readableID(id string) string {
	i := strings.LastIndex(id, "/@")
	if i < 0 || addrText(id[i+2:]) == "" {
		return id
	}
	return id[:i+1] + addrText(id[i+2:])
}

func (s *mapScan) edge(c, to string, one MapService, n [7]uint64, first, last time.Time) {
	key := [2]string{c, to}
	e := s.edges[key]
	if e == nil {
		e = &MapEdge{Src: c, Dst: to, Services: []MapService{}, FirstSeen: first, LastSeen: last}
		s.edges[key] = e
	}
	e.Services, e.ServicesTotal = append(e.Services, one), e.ServicesTotal+1
	e.OctetsFwd, e.OctetsRev, e.Octets, e.Packets = e.OctetsFwd+n[0], e.OctetsRev+n[1], e.Octets+n[0]+n[1], e.Packets+n[2]
	e.OctetsBefore, e.Links, e.NewLinks, e.GoneLinks = e.OctetsBefore+n[3], e.Links+n[4], e.NewLinks+n[5], e.GoneLinks+n[6]
	if e.FirstSeen.IsZero() || !first.IsZero() && first.Before(e.FirstSeen) {
		e.FirstSeen = first
	}
	if last.After(e.LastSeen) {
		e.LastSeen = last
	}
}

// state says how alive a link is: now and was count what is in the range and in the baseline.
func (m *mapAsk) state(now, was uint64, last time.Time) string {
	base := m.before != (span{})
	switch {
	case base && was == 0:
		return "new"
	case now == 0:
		return "gone"
	case last.UnixMilli() < m.untilMS-(m.untilMS-m.sinceMS)/4:
		return "idle"
	}
	return "active"
}

func (s *mapScan) node(id, group, name string, members uint64) {
	n := &MapNode{ID: id, Kind: "group", Group: strings.SplitN(group, "/", len(s.m.By)), Members: members}
	named := slices.ContainsFunc(n.Group, func(v string) bool { return v != "~" })
	for i, by := range s.m.By {
		if by == "segment" && i < len(n.Group) {
			n.Group[i] = segmentGroup(n.Group[i])
		}
	}
	switch {
	case id != group:
		n.Kind, n.Label = "member", cmp.Or(name, id[len(group)+1:])
	default:
		n.Label = strings.ReplaceAll(strings.Join(n.Group, " / "), "~", "unknown")
		for i, by := range s.m.By {
			if (by == "tier" || by == "vm") && i < len(n.Group) && n.Group[i] == "~" {
				n.Kind, n.Label = "outside", strings.ReplaceAll(strings.Join(n.Group, " / "), "~", "outside")
			}
		}
		if !named {
			n.Label = "outside"
		}
	}
	s.nodes[id] = n
}
