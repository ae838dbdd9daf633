package segment

import (
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/collect/store"
	"crosstap/internal/collect/store/elect"
	"crosstap/internal/flow"
)

// hoursOf gives the files of a store's hours, in time order.
func hoursOf(s *Store) (hours [][]file) {
	all := s.hours()
	for at := base / 1e6; at <= base/1e6+2*hourMS; at += hourMS {
		if files := all[hourOf(at)]; len(files) > 0 {
			hours = append(hours, files)
		}
	}
	return hours
}

// electSlowly is an election with all rows of all flows in one list.
func electSlowly(t *testing.T, s *Store, files, context []file) (bits [][]bool, flips []int, uncertain store.Uncertain) {
	t.Helper()
	flows := map[uint64][]candidate{}
	from := int64(1<<63 - 1)
	for _, f := range files {
		from = min(from, f.StartMS)
	}
	flips = make([]int, len(files))
	for i, f := range slices.Concat(files, context) {
		in, err := os.Open(s.path(f.Name))
		if err != nil {
			t.Fatal(err)
		}
		if i < len(files) {
			bits = append(bits, nil)
		}
		at := int32(0)
		err = readRows(in, func(r *row) error {
			c := candidate{FlowID: r.flowID(), ObserverID: r.ObserverID, TStart: r.tStart(), TEnd: r.TEnd, Packets: r.Packets, Octets: r.Octets, Sampling: r.Sampling, Marks: r.Marks,
				Direction: r.Direction, Role: r.Role, File: int32(i), At: at, Was: r.Marks&uint16(flow.MarkCanonical) != 0}
			at++
			if i < len(files) {
				bits[i] = append(bits[i], c.Was) // of rows without a flow
			} else if c.File = -1; !c.Was || c.TEnd < from-elect.SlackMS {
				return nil
			}
			if c.FlowID != 0 {
				flows[c.FlowID] = append(flows[c.FlowID], c)
			}
			return nil
		})
		in.Close()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, rows := range flows {
		elect.Flow(rows, func(c *candidate, d elect.Decision) {
			bits[c.File][c.At] = d.Canonical
			if d.Canonical != c.Was {
				flips[c.File]++
			}
			if d.Uncertain > 0 {
				uncertain.Add(store.Uncertain{Rows: 1, Packets: d.Uncertain, Octets: d.Octets(c)})
			}
		})
	}
	return bits, flips, uncertain
}

// TestElectionInParts: an election that looks at flow identifiers first, in one pass or several, decides as one that has all rows before it, with hours beside it
// and without; and what it finds that rows lack does not depend on the passes.
func TestElectionInParts(t *testing.T) {
	rnd := rand.New(rand.NewPCG(21, 22))
	s := open(t, Config{FlushRows: 128, MergeFiles: 1 << 30})
	recs := traffic(rnd, 2500)
	for i := range recs {
		if i%3 == 0 {
			recs[i].FlowID = 1<<60 + uint64(i) // alone
		}
		if i%50 == 0 { // nothing to look at again in one file of the hour
			put(t, s, shifted(recs[i:i+1], 0))
		}
	}
	put(t, s, recs)
	hours := hoursOf(s)
	if len(hours) < 2 {
		t.Fatalf("%d hours", len(hours))
	}
	all := []struct{ files, context []file }{{hours[0], nil}, {hours[0], hours[1]}, {hours[1], hours[0]}}
	for n, in := range all {
		bits, flips, uncertain := electSlowly(t, s, in.files, in.context)
		var known map[uint64]*knowledge
		for _, limits := range [][2]int{{keyRows, electionRows}, {keyRows, 100}, {300, electionRows}, {300, 20}} {
			e, err := s.electIn(in.files, in.context, limits[0], limits[1])
			if err != nil {
				t.Fatal(err)
			}
			for i, want := range bits {
				for at := range want {
					if e.bits[i].has(at) != want[at] {
						t.Fatalf("hours %d, limits %v: row %d of file %d is canonical: %v", n, limits, at, i, e.bits[i].has(at))
					}
				}
			}
			if diff := cmp.Diff(flips, e.flips); diff != "" {
				t.Errorf("hours %d, limits %v, rows that change:\n%s", n, limits, diff)
			}
			if e.uncertain != uncertain {
				t.Errorf("hours %d, limits %v: uncertain %+v, want %+v", n, limits, e.uncertain, uncertain)
			}
			if known == nil {
				known = e.known
			}
			if diff := cmp.Diff(known, e.known, cmp.AllowUnexported(knowledge{})); diff != "" || len(known) == 0 {
				t.Errorf("hours %d, limits %v, what %d flows are known to be:\n%s", n, limits, len(known), diff)
			}
		}
	}
}

// TestEqualFinder: numbers that occur more than once, among few and many, with any hash.
func TestEqualFinder(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	var f equalFinder
	for _, n := range []int{0, 1, 2, 63, 64, 65, 1000, 100000} {
		all, times := make([]uint64, n), map[uint64]int{}
		for i := range all {
			all[i] = rnd.Uint64N(uint64(4*n)) << (i % 3 * 20)
			times[all[i]]++
		}
		several, got := f.find(all)
		want := 0
		for i, v := range all {
			if several.has(i) != (times[v] > 1) {
				t.Fatalf("%d numbers: %d at %d occurs %d times, found: %v", n, v, i, times[v], several.has(i))
			}
			if times[v] > 1 {
				want++
			}
		}
		if got != want {
			t.Errorf("%d numbers: %d of them are not alone, want %d", n, got, want)
		}
		for range 50 {
			from := rnd.IntN(n + 1)
			to := from + rnd.IntN(n+1-from)
			if slices.ContainsFunc(all[from:to], func(v uint64) bool { return times[v] > 1 }) != several.any(from, to) {
				t.Fatalf("%d numbers, any(%d, %d) is wrong", n, from, to)
			}
		}
	}
}
