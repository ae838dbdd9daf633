package segment

import (
	"cmp"
	"errors"
	mathbits "math/bits"
	"os"
	"slices"
	"sync/atomic"

	"crosstap/internal/collect/store"
	"crosstap/internal/collect/store/elect"
	"crosstap/internal/flow"
)

// The canonical rows of a flow are those that sums read: each packet once. While rows arrive the
// election is provisional; here it is settled for an hour. The best observer of a flow keeps all its
// rows; another one's row counts only where no better observer was.

// candidate is a row in the election. Its File is the number of the file, At the place in it.
type candidate = elect.Row

// electionRows bounds the candidates in memory; more are elected in several passes over the files, each for a part
// of the flows.
const electionRows = 1 << 20

// election is the outcome for the files of an hour.
type election struct {
	bits      []bitmap              // which rows of each file are canonical
	flips     []int                 // how many rows of each file change
	known     map[uint64]*knowledge // of flows of which a row lacks something
	uncertain store.Uncertain
}

// electHour settles the canonical rows of files; context are files of the hours beside, of which
// canonical rows that reach into the hour count as settled.
func (s *Store) electHour(files, context []file) (out election, err error) {
	var total int64
	from := int64(1<<63 - 1)
	out.bits, out.flips, out.known = make([]bitmap, len(files)), make([]int, len(files)), map[uint64]*knowledge{}
	for i, f := range files {
		total += f.Rows
		from = min(from, f.StartMS)
		out.bits[i] = newBitmap(f.Rows)
	}
	passes := uint64(total/electionRows + 1)
	for pass := range passes {
		all := make([]candidate, 0, total/int64(passes)+total/int64(passes)/16+16) // and those of hours beside
		fill := newFills()
		fill.flows = out.known
		mine := func(flow uint64) bool {
			of, _ := mathbits.Mul64(flow*hashMul, passes)
			return of == pass
		}
		take := func(number int, want func(*candidate) bool) func(int, *candidate) {
			return func(at int, r *candidate) {
				r.File, r.At, r.Was = int32(number), int32(at), r.Marks&uint16(flow.MarkCanonical) != 0
				switch {
				case r.FlowID == 0:
					out.bits[number].put(at, r.Was) // not merged with anything
				case want(r):
					all = append(all, *r)
				}
			}
		}
		for i, f := range files {
			if err := s.readElection(f, fill, mine, take(i, func(*candidate) bool { return true })); err != nil {
				return election{}, err
			}
		}
		for _, f := range context {
			beside := func(r *candidate) bool {
				return r.FlowID != 0 && r.Marks&uint16(flow.MarkCanonical) != 0 && r.TEnd >= from-elect.SlackMS
			}
			keep := take(-1, beside)
			if err := s.readElection(f, nil, mine, func(at int, r *candidate) {
				if beside(r) {
					keep(at, r)
				}
			}); err != nil {
				return election{}, err
			}
		}
		byFlow(all, func(rows []candidate) {
			elect.Flow(rows, func(c *candidate, d elect.Decision) {
				out.bits[c.File].put(int(c.At), d.Canonical)
				if d.Canonical != c.Was {
					out.flips[c.File]++
				}
				if d.Uncertain > 0 {
					out.uncertain.Add(store.Uncertain{Rows: 1, Packets: d.Uncertain, Octets: d.Octets(c)})
				}
			})
			fill.see(rows)
		})
	}
	return out, nil
}

// electColumns decide, knownColumns tell what a row knows.
var (
	electColumns = []string{"flow_key", "src_port", "dst_port", "observer_id", "span_ms", "t_end", "packets", "octets", "sampling", "marks", "direction", "role"}
	knownColumns = []string{"segment", "fabric", "tenant", "src_tenant", "dst_tenant", "app", "src_vm", "src_vm_id", "src_host", "dst_vm", "dst_vm_id", "dst_host"}
)

// readElection calls each with the deciding columns of every row of the flows that are asked for, and numbers what the rows know when fill is given.
func (s *Store) readElection(f file, fill *fills, mine func(flow uint64) bool, each func(int, *candidate)) error {
	in, err := os.Open(s.path(f.Name))
	if err != nil {
		return &damagedError{f, err}
	}
	defer in.Close()
	at, columns, names := 0, electColumns, sharedTexts(nil)
	if fill != nil {
		columns, names = slices.Concat(electColumns, knownColumns), fill.texts
	}
	err = readUnchanged(in, names, func(r *row) error {
		if at >= int(f.Rows) {
			return errors.New("more rows than its footer says")
		}
		if !mine(r.flowID()) {
			at++
			return nil
		}
		e := candidate{FlowID: r.flowID(), ObserverID: r.ObserverID, TStart: r.tStart(), TEnd: r.TEnd, Packets: r.Packets, Octets: r.Octets, Sampling: r.Sampling, Marks: r.Marks,
			Direction: r.Direction, Role: r.Role}
		if fill != nil {
			e.Known = fill.add(r)
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

// byFlow calls each with the rows of every flow; it may change their order, and does not keep them.
func byFlow(all []candidate, each func([]candidate)) {
	keys := make([]uint64, len(all), 2*len(all)) // half a hash of the flow, and the index
	for i := range all {
		keys[i] = all[i].FlowID*hashMul&^(1<<32-1) | uint64(i)
	}
	keys = sortHigh(keys, keys[len(keys):cap(keys)])
	var rows []candidate
	for i, seen := 0, 0; i < len(keys); {
		if i >= seen {
			seen = min(i+blockRows, len(keys))
			lookAt(all, keys[i:seen])
		}
		rows = rows[:0]
		hash, several := keys[i]>>32, false
		for ; i < len(keys) && keys[i]>>32 == hash; i++ {
			rows = append(rows, all[uint32(keys[i])])
			several = several || rows[len(rows)-1].FlowID != rows[0].FlowID
		}
		if !several {
			each(rows)
			continue
		}
		slices.SortStableFunc(rows, func(a, b candidate) int { return cmp.Compare(a.FlowID, b.FlowID) })
		for rest := rows; len(rest) > 0; {
			n := 1
			for n < len(rest) && rest[n].FlowID == rest[0].FlowID {
				n++
			}
			each(rest[:n])
			rest = rest[n:]
		}
	}
}

// touched keeps the loads of lookAt from being left out as useless.
var touched atomic.Uint32

// lookAt looks at candidates, which lie far apart, with nothing in between that waits: their memory is fetched for many at a time.
func lookAt(all []candidate, keys []uint64) {
	sum := uint32(0)
	for _, k := range keys {
		c := &all[uint32(k)]
		sum += uint32(c.FlowID) + uint32(c.At) // its first line of memory and its last
	}
	if sum == 1<<32-1 {
		touched.Add(1)
	}
}

// sortHigh sorts by the upper 32 bits, and returns keys or spare, which is as long.
func sortHigh(keys, spare []uint64) []uint64 {
	for shift := 32; shift < 64; shift += digitBits {
		const mask = 1<<digitBits - 1
		var from [mask + 1]int32
		for _, k := range keys {
			from[k>>shift&mask]++
		}
		var sum int32
		for i, n := range from {
			from[i] = sum
			sum += n
		}
		for _, k := range keys {
			at := &from[k>>shift&mask]
			spare[*at] = k
			*at++
		}
		keys, spare = spare, keys
	}
	return keys
}
