package segment

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"crosstap/internal/flow"
)

// TestFullHours: ranges that cut hours in which no row lacks what another one of its flow knows take these rows as they are, which adds up to the same. An hour in which a
// late row lacks something is no longer such, also without the manifest.
func TestFullHours(t *testing.T) {
	m := newMergeTest(t, Config{FlushRows: 4000, MergeFiles: 1000})
	recs := days(rand.New(rand.NewPCG(9, 9)), 26, 60)
	for h, hour := range recs {
		for i := range hour {
			if h%2 == 1 { // one observer of each flow
				hour[i].FlowID = uint64(h)<<48 | uint64(i+1)<<8
			}
		}
		put(m, m.s, hour)
	}
	f := func(when string, fromHour, toHour int, full, rest bool) {
		t.Helper()
		from, to := base+int64(fromHour-10)*3600e9+1000e9, base+int64(toHour-10)*3600e9+2600e9
		m.check(when, spans(m.s), from, to)
		v, err := m.s.View(t.Context(), from, to)
		if err != nil {
			t.Fatal(err)
		}
		defer v.Close()
		first, last := wholeHours(from/1e6, to/1e6)
		if m.keeps() == 0 {
			t.Errorf("%s: from hour %d to %d: no links were kept", when, fromHour, toHour)
		}
		if a, b := v.(*view).unrolled(from/1e6, to/1e6, first, last); (a != "") != full || (b != "") != rest {
			t.Errorf("%s: from hour %d to %d: full rows %q, others %q", when, fromHour, toHour, a, b)
		}
	}
	m.tidy(41 * time.Hour)
	f("of a day", 1, 23, true, false)
	f("of a day", 2, 23, true, true)
	f("of a day", 2, 22, false, true)
	f("of single hours", 21, 25, true, false)
	i := slices.IndexFunc(recs[1], func(r flow.Record) bool { return r.SrcVM != "" && r.EndNS > base-9*3600e9+1800e9 })
	late := recs[1][i]
	late.SrcVM, late.SrcVMID, late.ObserverID = "", "", late.ObserverID+1
	put(m, m.s, []flow.Record{late})
	f("a late row", 1, 23, true, true)
	m.tidy(200 * time.Hour)
	m.again(true)
	f("sealed again, rebuilt", 1, 23, true, true)
	m.s.hasty.Store(true)
	m.tidy(200 * time.Hour)
	m.s.hasty.Store(false)
	f("merged again", 3, 23, true, false)
	m.s.keep.Unlock()
	if err := m.s.Close(); err != nil {
		t.Fatal(err)
	}
}
