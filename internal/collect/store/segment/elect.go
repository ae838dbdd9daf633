package segment

import (
	"cmp"
	"errors"
	"os"
	"slices"

	"crosstap/internal/flow"
)

// The canonical rows of a flow are those that sums read: each packet once. While rows arrive the
// election is provisional; here it is settled for an hour. The best observer of a flow keeps all its
// rows; another one's row counts only where no better observer was.

// electRow are the columns that decide.
type electRow struct {
	FlowID     uint64
	ObserverID uint64
	TStart     int64
	TEnd       int64
	Sampling   uint32
	Marks      uint16
	Direction  uint8
	Role       uint8
	known      uint32 // number of what the row knows, in fills
}

// candidate is a row in the election.
type candidate struct {
	electRow
	file, at int32 // file < 0: a canonical row of a neighbouring hour; it is settled
	was      bool
}

// electionRows bounds the candidates in memory; more are elected in several passes over the files, each for a part
// of the flows.
const electionRows = 1 << 20

// slackMS bridges what clocks and timers of two observers differ.
const slackMS = 1000

// electHour settles the canonical rows of files; context are files of the hours beside, of which
// canonical rows that reach into the hour count as settled. It returns one bitmap for each file,
// how many rows of each change, and what is known of flows of which a row lacks something.
func (s *Store) electHour(files, context []file) (bits []bitmap, flips []int, known map[uint64]*knowledge, err error) {
	var total int64
	from := int64(1<<63 - 1)
	bits, flips = make([]bitmap, len(files)), make([]int, len(files))
	for i, f := range files {
		total += f.Rows
		from = min(from, f.StartMS)
		bits[i] = newBitmap(f.Rows)
	}
	passes := uint64(total/electionRows + 1)
	flows := map[uint64]*knowledge{}
	for pass := range passes {
		all := make([]candidate, 0, total/int64(passes)+total/int64(passes)/16+16) // and those of hours beside
		fill := newFills()
		fill.flows = flows
		take := func(number int, want func(*electRow) bool) func(int, *electRow) {
			return func(at int, r *electRow) {
				was := r.Marks&uint16(flow.MarkCanonical) != 0
				switch {
				case r.FlowID%passes != pass:
				case r.FlowID == 0:
					bits[number].put(at, was) // not merged with anything
				case want(r):
					all = append(all, candidate{*r, int32(number), int32(at), was})
				}
			}
		}
		for i, f := range files {
			if err := s.readElection(f, fill, take(i, func(*electRow) bool { return true })); err != nil {
				return nil, nil, nil, err
			}
		}
		for _, f := range context {
			beside := func(r *electRow) bool {
				return r.FlowID != 0 && r.Marks&uint16(flow.MarkCanonical) != 0 && r.TEnd >= from-slackMS
			}
			keep := take(-1, beside)
			if err := s.readElection(f, nil, func(at int, r *electRow) {
				if beside(r) {
					keep(at, r)
				}
			}); err != nil {
				return nil, nil, nil, err
			}
		}
		byFlow(all, func(rows []candidate) {
			electFlow(rows, func(c *candidate, canonical bool) {
				bits[c.file].put(int(c.at), canonical)
				if canonical != c.was {
					flips[c.file]++
				}
			})
			fill.see(rows)
		})
	}
	return bits, flips, flows, nil
}

// electColumns decide, knownColumns tell what a row knows.
var (
	electColumns = []string{"flow_key", "src_port", "dst_port", "observer_id", "span_ms", "t_end", "sampling", "marks", "direction", "role"}
	knownColumns = []string{"segment", "fabric", "tenant", "src_tenant", "dst_tenant", "app", "src_vm", "src_vm_id", "src_host", "dst_vm", "dst_vm_id", "dst_host"}
)

// readElection calls each with the deciding columns of every row, and numbers what the rows know when fill is given.
func (s *Store) readElection(f file, fill *fills, each func(int, *electRow)) error {
	in, err := os.Open(s.path(f.Name))
	if err != nil {
		return &damagedError{f, err}
	}
	defer in.Close()
	at, columns := 0, electColumns
	if fill != nil {
		columns = slices.Concat(electColumns, knownColumns)
	}
	err = readRows(in, func(r *row) error {
		if at >= int(f.Rows) {
			return errors.New("more rows than its footer says")
		}
		e := electRow{r.flowID(), r.ObserverID, r.tStart(), r.TEnd, r.Sampling, r.Marks, r.Direction, r.Role, 0}
		if fill != nil {
			e.known = fill.add(r)
		}
		each(at, &e)
		at++
		return nil
	}, columns...)
	if err != nil {
		return &damagedError{f, err}
	}
	return nil
}

// elect decides about the rows of many flows.
func elect(all []candidate, decide func(*candidate, bool)) {
	byFlow(all, func(rows []candidate) { electFlow(rows, decide) })
}

// byFlow calls each with the rows of every flow; it may change their order, and does not keep them.
func byFlow(all []candidate, each func([]candidate)) {
	keys := make([]sortKey, len(all), 2*len(all))
	for i := range all {
		keys[i] = sortKey{all[i].FlowID, int32(i)}
	}
	keys = sortKeys(keys, keys[len(keys):cap(keys)])
	var rows []candidate
	for len(keys) > 0 {
		rows = rows[:0]
		flow := keys[0].n
		for len(keys) > 0 && keys[0].n == flow {
			rows, keys = append(rows, all[keys[0].index]), keys[1:]
		}
		each(rows)
	}
}

// place is one observer's view of one direction: what can be elected as a whole.
type place struct {
	sampled   bool
	role      uint8
	direction uint8
	observer  uint64
}

func (c *candidate) place() place {
	return place{c.Sampling > 1, roleRank(c.Role), directionRank(c.Direction), c.ObserverID}
}

// comparePlaces: unsampled first, then the best role, ingress before egress.
func comparePlaces(a, b place) int {
	if a.sampled != b.sampled {
		if b.sampled {
			return -1
		}
		return 1
	}
	return cmp.Or(cmp.Compare(a.role, b.role), cmp.Compare(a.direction, b.direction), cmp.Compare(a.observer, b.observer))
}

// roleRank: roles are numbered best first, except that the unknown one is last.
func roleRank(r uint8) uint8 { return r - 1 }

// directionRank: ingress, then not known, then egress.
func directionRank(d uint8) uint8 {
	switch d {
	case 0:
		return 0
	case 1:
		return 2
	}
	return 1
}

// electFlow decides about the rows of one flow, best place first.
func electFlow(rows []candidate, decide func(*candidate, bool)) {
	if len(rows) == 1 { // most flows
		if rows[0].file >= 0 {
			decide(&rows[0], true)
		}
		return
	}
	slices.SortFunc(rows, func(a, b candidate) int {
		if (a.file < 0) != (b.file < 0) {
			return cmp.Compare(min(a.file, 0), min(b.file, 0)) // what is settled comes first
		}
		return cmp.Or(comparePlaces(a.place(), b.place()), cmp.Compare(a.TStart, b.TStart), cmp.Compare(a.TEnd, b.TEnd), cmp.Compare(a.file, b.file), cmp.Compare(a.at, b.at))
	})
	var settled map[place]cover // by place, without what samples differently
	var elected cover
	for len(rows) > 0 {
		n := 1
		for n < len(rows) && (rows[n].file < 0) == (rows[0].file < 0) && rows[n].place() == rows[0].place() {
			n++
		}
		if rows[0].file < 0 {
			if settled == nil {
				settled = map[place]cover{}
			}
			settled[rows[0].place()] = cover(nil).with(rows[:n])
		} else if kept := electPlace(rows[:n], elected.and(settled, rows[0].place()), decide); n < len(rows) {
			elected = elected.with(kept)
		}
		rows = rows[n:]
	}
}

// electPlace keeps the rows of one place that better ones have not covered, and returns them.
func electPlace(rows []candidate, covered cover, decide func(*candidate, bool)) []candidate {
	kept := rows[:0:0]
	for i := range rows {
		c := &rows[i]
		canonical := !covered.mostOf(c.TStart, c.TEnd)
		if canonical {
			kept = append(kept, *c)
		}
		decide(c, canonical)
	}
	return kept
}

// cover is time covered by canonical rows, widened by the slack: disjoint stretches in order.
type cover []stretch

type stretch struct{ from, to int64 }

// with adds the time of rows.
func (v cover) with(rows []candidate) cover {
	all := slices.Clone(v)
	for i := range rows {
		all = append(all, stretch{rows[i].TStart - slackMS, max(rows[i].TEnd, rows[i].TStart) + slackMS})
	}
	return all.joined()
}

// and adds what other places have settled; a place does not cover its own rows.
func (v cover) and(settled map[place]cover, own place) cover {
	if len(settled) == 0 {
		return v
	}
	all := slices.Clone(v)
	for p, c := range settled {
		if p.observer != own.observer || p.direction != own.direction {
			all = append(all, c...)
		}
	}
	return all.joined()
}

// joined sorts the stretches and joins those that touch.
func (v cover) joined() cover {
	slices.SortFunc(v, func(a, b stretch) int { return cmp.Compare(a.from, b.from) })
	out := v[:0]
	for _, s := range v {
		if n := len(out); n > 0 && s.from <= out[n-1].to {
			out[n-1].to = max(out[n-1].to, s.to)
			continue
		}
		out = append(out, s)
	}
	return out
}

// mostOf reports whether half or more of a row's time is covered. A row without duration is covered when
// its moment is.
func (v cover) mostOf(from, to int64) bool {
	i, _ := slices.BinarySearchFunc(v, from, func(s stretch, t int64) int { return cmp.Compare(s.to, t) })
	var sum int64
	for ; i < len(v) && v[i].from <= to; i++ {
		if from >= to {
			return true
		}
		sum += min(to, v[i].to) - max(from, v[i].from)
	}
	return from < to && 2*sum >= to-from
}
