package report

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"

	"crosstap/internal/flow"
	"crosstap/internal/nearest"
)

// answer asks for the edges, keeps what is in focus and within the limit, and lays it out.
func (m *mapAsk) answer(ctx context.Context, r *Reports) (Map, error) {
	m.args = nil
	s := &mapScan{m: m, nodes: map[string]*MapNode{}, edges: map[[2]string]*MapEdge{}}
	if err := m.each(ctx, m.sql(), s.row); err != nil {
		return Map{}, err
	}
	out := Map{By: m.By, Expanded: append([]string{}, m.Expand...), Focus: m.Focus, Hops: m.Hops, Nodes: []MapNode{}, Edges: []MapEdge{}}
	if m.before != (span{}) {
		from, to := msTime(m.before.from), msTime(m.before.to)
		out.BaseSince, out.BaseUntil = &from, &to
	}
	m.notes = append(m.notes, s.unexpanded()...)
	s.finish(&out)
	out.Focus = m.Focus // by its node's identifier
	if m.Focus != "" && len(out.Edges) == 0 {
		m.notes = append(m.notes, s.unfocused())
	}
	layout(&out)
	if s.rows > maxEdgeRows {
		m.notes = append(m.notes, strconv.FormatUint(s.rows-maxEdgeRows, 10)+" services of edges with the least traffic are left out")
	}
	m.notes = append(m.notes, "flows are not counted; addresses that inventory does not know are one member for each segment, unless their group is expanded")
	if s.total.Rows = uint64(len(out.Edges)) + out.Hidden.Edges; s.total.Rows == 0 {
		s.total.Rows = uint64(len(s.edges))
	}
	var err error
	out.Meta, err = m.meta(ctx, r, "map", s.total, s.counts[0], s.counts[1])
	return out, err
}

// finish orders the edges, applies focus and limit, and takes the nodes that remain.
func (s *mapScan) finish(out *Map) {
	edges := slices.SortedFunc(maps.Values(s.edges), func(a, b *MapEdge) int {
		return cmp.Or(cmp.Compare(b.Octets, a.Octets), cmp.Compare(b.OctetsBefore, a.OctetsBefore), cmp.Compare(a.Src, b.Src), cmp.Compare(a.Dst, b.Dst))
	})
	s.nameFocus()
	near := s.near(edges)
	used := map[string]bool{}
	for _, e := range edges {
		e.CrossTenant = s.tenant(e.Src) != s.tenant(e.Dst)
		e.State = s.m.state(e.Links, e.Links-e.NewLinks+e.GoneLinks, e.LastSeen)
		if s.m.before == (span{}) {
			e.NewLinks = 0 // there is no baseline that lacks them
		}
		slices.SortFunc(e.Services, func(a, b MapService) int {
			return cmp.Or(cmp.Compare(b.Octets, a.Octets), cmp.Compare(a.Proto, b.Proto), cmp.Compare(a.Port, b.Port))
		})
		e.Services = e.Services[:min(len(e.Services), servicesShown)]
		if near != nil && (!near[e.Src] || !near[e.Dst]) {
			continue
		}
		if len(out.Edges) == s.m.Limit || len(out.Edges) == maxEdges {
			out.Hidden.Edges, out.Hidden.Octets = out.Hidden.Edges+1, out.Hidden.Octets+e.Octets
			if e.CrossTenant {
				out.Hidden.CrossTenant++
			}
			continue
		}
		out.Edges = append(out.Edges, *e)
		used[e.Src], used[e.Dst] = true, true
		s.nodes[e.Src].Octets += e.Octets
		if e.Src != e.Dst {
			s.nodes[e.Dst].Octets += e.Octets
		}
	}
	for _, id := range slices.Sorted(maps.Keys(s.nodes)) {
		switch {
		case used[id]:
			out.Nodes = append(out.Nodes, *s.nodes[id])
		case near == nil || near[id]:
			out.Hidden.Nodes++
		}
	}
}

// tenant is a node's part of the grouping by tenant.
func (s *mapScan) tenant(id string) string {
	for i, by := range s.m.By {
		if n := s.nodes[id]; by == "tenant" && n != nil && i < len(n.Group) {
			return n.Group[i]
		}
	}
	return ""
}

// nameFocus takes the name of a machine that is shown, alone or behind its group, for its node, if there is only one.
func (s *mapScan) nameFocus() {
	if s.nodes[s.m.Focus] != nil {
		return
	}
	found := ""
	for id, n := range s.nodes {
		if n.Kind != "member" || s.m.Focus != n.Label && s.m.Focus != strings.Join(n.Group, "/")+"/"+n.Label {
			continue
		}
		if found != "" {
			return
		}
		found = id
	}
	s.m.Focus = cmp.Or(found, s.m.Focus)
}

// unfocused says why nothing is near the focus.
func (s *mapScan) unfocused() string {
	if s.nodes[s.m.Focus] != nil {
		return "nothing talks to node " + quoteName(s.m.Focus) + " in the range"
	}
	text := "nothing named " + quoteName(s.m.Focus) + " talks in the range"
	names := slices.Sorted(maps.Keys(s.nodes))
	for _, id := range names {
		if s.nodes[id].Kind == "member" {
			names = append(names, s.nodes[id].Label)
		} else if slices.Contains(s.nodes[id].Group, s.m.Focus) {
			return text + "; did you mean " + quoteName(id) + "?"
		}
	}
	if near := nearest.Of(s.m.Focus, names); near != "" {
		return text + "; did you mean " + quoteName(near) + "?"
	}
	return text + "; machines are nodes when their group is expanded"
}

// unexpanded names the groups to expand that are none of the map's.
func (s *mapScan) unexpanded() (notes []string) {
	var groups, members []string
	for id, n := range s.nodes {
		if n.Kind == "member" {
			members = append(members, id)
		} else {
			groups = append(groups, id)
		}
	}
	slices.Sort(groups)
	for _, e := range s.m.Expand {
		if !slices.ContainsFunc(members, func(id string) bool { return strings.HasPrefix(id, e+"/") }) {
			notes = append(notes, "no group "+quoteName(e)+" talks in the range"+nearest.Behind(e, groups))
		}
	}
	return notes
}

// near are the nodes within some hops of the one in focus, or of the members of an expanded group, in either direction; nil without a focus.
func (s *mapScan) near(edges []*MapEdge) map[string]bool {
	if s.m.Focus == "" {
		return nil
	}
	near := map[string]bool{s.m.Focus: true}
	if slices.Contains(s.m.Expand, s.m.Focus) {
		for id := range s.nodes {
			near[id] = near[id] || strings.HasPrefix(id, s.m.Focus+"/")
		}
	}
	for range s.m.Hops {
		next := maps.Clone(near)
		for _, e := range edges {
			if near[e.Src] || near[e.Dst] {
				next[e.Src], next[e.Dst] = true, true
			}
		}
		near = next
	}
	return near
}

// segmentGroup shows the number of a segment as its text.
func segmentGroup(s string) string {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || n == 0 {
		return "~"
	}
	return segmentText(flow.Segment(n))
}
