package enrich

import (
	"slices"

	"crosstap/internal/flow"
)

// Rejoin gives records of flows that lack both segment and MAC addresses to the one flow of the same 5-tuple that one of their
// exporters reports in another way, for records that are all there: while they come, one may be too early to be recognised.
func Rejoin(recs []flow.Record) {
	type summary struct {
		tuple tuple
		bare  bool
		by    []flow.Addr
	}
	flows := make(map[uint64]*summary)
	for i := range recs {
		r := &recs[i]
		s := flows[r.FlowID]
		if s == nil {
			s = &summary{tuple: tupleOf(r), bare: true}
			flows[r.FlowID] = s
		}
		s.bare = s.bare && r.Segment == 0 && !hasMACs(r)
		if !slices.Contains(s.by, r.Exporter) {
			s.by = append(s.by, r.Exporter)
		}
	}
	full := make(map[tuple][]uint64)
	for id, s := range flows {
		if !s.bare {
			full[s.tuple] = append(full[s.tuple], id)
		}
	}
	moved := make(map[uint64]uint64)
	for id, s := range flows {
		if !s.bare {
			continue
		}
		var found []uint64
		for _, c := range full[s.tuple] {
			if slices.ContainsFunc(flows[c].by, func(a flow.Addr) bool { return slices.Contains(s.by, a) }) {
				found = append(found, c)
			}
		}
		if len(found) == 1 {
			moved[id] = found[0]
		}
	}
	for i := range recs {
		if to, ok := moved[recs[i].FlowID]; ok {
			recs[i].FlowID = to
		}
	}
}
