package segment

import (
	"bytes"
	"io"
	"math/rand/v2"
	"reflect"
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
		direct := file(func(e *encoder) error { return e.records(recs, order) })
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
	order := sortOrder(recs)
	e := newEncoder(0)
	write := func() {
		e.reset(io.Discard, 0, false)
		if err := e.records(recs, order); err != nil {
			t.Fatal(err)
		}
	}
	write()
	if n := testkit.Allocs(3, write); n > 0 {
		t.Errorf("%v allocations for %d records", n, len(recs))
	}
}
