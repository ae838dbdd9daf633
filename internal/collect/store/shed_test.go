package store

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/flow"
)

func TestShed(t *testing.T) {
	s := Shed{Reasons: []string{"slow", "closed"}}
	f := func(want ...Gap) {
		t.Helper()
		if diff := cmp.Diff(want, s.Gaps()); diff != "" {
			t.Error(diff)
		}
	}
	slow := func(from, to int64, n uint64) Gap { return Gap{from, to, "store", "", "slow", n} }
	f()
	s.Add(1, 50, 60, 2)
	s.AddRecords(0, []flow.Record{{StartNS: 20, EndNS: 30}, {StartNS: 10, EndNS: 25}})
	closed := Gap{50, 61, "store", "", "closed", 2}
	f(slow(10, 31, 2), closed)
	taken := s.Take()
	f()
	s.Add(0, 5, 6, 1)
	s.PutBack(taken)
	f(slow(5, 31, 3), closed)
	s.Note(func(g Gap) bool { return g.Reason == "slow" })
	f(closed)
	s.Note(func(Gap) bool { return false })
	f(closed)
}
