package segment

import (
	"bytes"
	"io"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"crosstap/internal/flow"
	"crosstap/internal/testkit"
)

// TestRecordsAreRows: a file made from records is, byte for byte, the one made from the rows that fill gives, whatever the order, and in one
// or several row groups.
func TestRecordsAreRows(t *testing.T) {
	rnd := rand.New(rand.NewPCG(8, 9))
	for _, n := range []int{1, 63, 64, 65, 1000} {
		recs := make([]flow.Record, n)
		order := make([]int32, n)
		for i, k := range rnd.Perm(n) {
			order[i] = int32(k)
			if recs[i] = random(rnd); i%3 == 0 && i > 0 {
				recs[i] = recs[i-1]
			}
		}
		file := func(add func(*encoder) error) []byte {
			e := newEncoder(0)
			e.w.groupRows = 700
			var b bytes.Buffer
			e.reset(&b, 0, false)
			if err := add(e); err != nil {
				t.Fatal(err)
			}
			if err := e.finish(nil); err != nil {
				t.Fatal(err)
			}
			return b.Bytes()
		}
		taken := newBatch()
		taken.add(recs[:n/3])
		taken.add(recs[n/3:])
		direct := file(func(e *encoder) error { return e.batch(taken, order) })
		byRow := file(func(e *encoder) error {
			for _, i := range order {
				e.next().fill(&recs[i])
				if err := e.added(); err != nil {
					return err
				}
			}
			return nil
		})
		if !bytes.Equal(direct, byRow) {
			t.Errorf("%d records: %d bytes, %d by row, or others", n, len(direct), len(byRow))
		}
	}
}

// TestEachFieldHasAnOrigin: each field of a row is read from the field of a record that fill takes it from.
func TestEachFieldHasAnOrigin(t *testing.T) {
	seen := map[origin]string{}
	rows := reflect.TypeFor[row]()
	for i, o := range recordOrigins {
		if other, twice := seen[o]; twice {
			t.Errorf("%s and %s have one origin", rows.Field(i).Name, other)
		}
		seen[o] = rows.Field(i).Name
	}
}

// TestRecordsDoNotAllocate: records like those of the batch before cost no memory of their own.
func TestRecordsDoNotAllocate(t *testing.T) {
	w := newWorld(3)
	recs := make([]flow.Record, 4000)
	w.fill(recs)
	b, e := newBatch(), newEncoder(0)
	var s sorter
	write := func() {
		b.reset()
		b.add(recs)
		e.reset(io.Discard, 0, false)
		if err := e.batch(b, s.sort(b)); err != nil {
			t.Fatal(err)
		}
	}
	write()
	if n := testkit.Allocs(3, write); n > 0 {
		t.Errorf("%v allocations for %d records", n, len(recs))
	}
}

// TestSorter: one sorter puts batches of every size into the order that comparing rows gives.
func TestSorter(t *testing.T) {
	rnd := rand.New(rand.NewPCG(10, 11))
	var s sorter
	b := newBatch()
	for _, n := range []int{3000, 1, 2, 500, 0, 4000} {
		recs := make([]flow.Record, n)
		for i := range recs {
			r := &recs[i]
			r.Segment = flow.Segment(rnd.Uint64() >> (rnd.IntN(2) * 60) << 3)
			r.Src, r.Dst = flow.V4([]byte{10, 0, byte(rnd.IntN(3)), byte(rnd.IntN(9))}), flow.V4([]byte{byte(rnd.Uint32()), 0, 0, byte(rnd.Uint32())})
			if rnd.IntN(4) == 0 {
				r.Src[0], r.Dst[7] = byte(rnd.Uint32()), byte(rnd.Uint32())
			}
			r.EndNS, r.FlowID, r.ObserverID = base+rnd.Int64N(5e9)-rnd.Int64N(2)*7200e9, rnd.Uint64N(5), rnd.Uint64N(3)
		}
		b.reset()
		b.add(recs)
		rows := make([]row, n)
		for i, at := range s.sort(b) {
			rows[i].fill(&recs[at])
		}
		if !slices.IsSortedFunc(rows, func(a, b row) int { return compareRows(&a, &b) }) {
			t.Errorf("%d records are not in order", n)
		}
		seen := map[int32]bool{}
		for _, at := range s.order {
			seen[at] = true
		}
		if len(seen) != n || len(s.order) != n {
			t.Errorf("%d different indexes, %d in all, for %d records", len(seen), len(s.order), n)
		}
	}
}
