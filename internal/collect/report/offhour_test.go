package report_test

import (
	"testing"
	"time"

	"crosstap/internal/collect/report"
	"crosstap/internal/flow"
)

// offHour gives a store of sealed hours, two apart, with merged roll-ups, and its records as they shall be.
func offHour(t *testing.T) (*report.Reports, []flow.Record) {
	t.Helper()
	return offHourOf(t, func(*flow.Record) {})
}

// offHourOf is offHour with other records.
func offHourOf(t *testing.T, change func(*flow.Record)) (*report.Reports, []flow.Record) {
	t.Helper()
	s := opened(t, t0.Add(100*time.Hour))
	var all []flow.Record
	for n := range 10 {
		recs := listedRecordsOf(uint64(60+n), 40)
		for i := range recs {
			r, at := &recs[i], int64(time.Duration(2*n-16)*time.Hour)
			r.StartNS, r.EndNS, r.RecvNS = r.StartNS+at, r.EndNS+at, r.RecvNS+at
			r.FlowID ^= uint64(n+1) << 8 // no flow lives in two of these hours
			change(r)
		}
		all = append(all, recs...)
		put(t, s, recs)
	}
	if err := s.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	return report.New(s), elected(all)
}

// TestOffTheHour: ranges that begin and end within an hour take roll-ups for the hours between and rows for the rest, and say what a slow obvious count of
// the records says. So they do when they are worked out some segments at a time.
func TestOffTheHour(t *testing.T) {
	r, recs := offHour(t)
	f := func(kind string, q report.Query) {
		t.Helper()
		for _, span := range [][2]time.Duration{{-8*time.Hour + 23*time.Minute + 456*time.Millisecond, 2*time.Hour + 37*time.Minute}, {-6 * time.Hour, 31 * time.Minute}} {
			q.Since, q.Until = t0.Add(span[0]), t0.Add(span[1])
			k := reportKinds[kind]
			a, err := k.ask(t.Context(), r, q)
			if err != nil {
				t.Fatalf("%s: %v", kind, err)
			}
			got, want := k.shown(a), k.want(recs, q)
			if p, ok := a.(report.Pairs); ok {
				if p.Meta.Resolution != "1h" || len(p.Rows) == 0 {
					t.Fatalf("%d pairs from %s", len(p.Rows), p.Meta.Resolution)
				}
				got, want = counted(p.Rows), counted(want.([]report.Pair)) //nolint:forcetypeassert // it is what the oracle gives
			}
			compare(t, kind+" "+q.Filter, got, want)
		}
	}
	f("pairs", report.Query{})
	f("pairs", report.Query{Filter: "vni = 5001"})
	f("networks", report.Query{})
	f("pairs", report.Query{Filter: "host 10.0.0.2"})
	for range 3 { // the second answer keeps what it works out, the third one comes from that
		f("map", report.Query{})
	}
	f("top", report.Query{By: []string{"vm"}, Limit: 1000})
	f("vm", report.Query{Name: "db-0", Limit: 1000})
	defer report.Slice(20)()
	f("pairs", report.Query{}) // added up by the store
	f("networks", report.Query{})
	defer report.InSQL()()
	f("pairs", report.Query{})
}

// counted leaves out what roll-ups tell otherwise: flows are counted by the hour, and octets of an hour are spread over it.
func counted(pairs []report.Pair) []report.Pair {
	for i := range pairs {
		pairs[i].Flows, pairs[i].Conversations, pairs[i].Spark = 0, 0, nil
	}
	return pairs
}

// TestSlices: an answer that is worked out some segments at a time, by the store itself or in SQL, is the one that is worked out at once, in any order and cut
// anywhere, for ranges that cut hours too.
func TestSlices(t *testing.T) {
	r, _ := offHour(t)
	q := report.Query{Since: t0.Add(-16 * time.Hour), Until: t0.Add(3 * time.Hour)}
	f := func(ask func() (any, error)) {
		t.Helper()
		want, err := ask()
		if err != nil {
			t.Fatal(err)
		}
		defer report.Slice(20)()
		for _, way := range []string{"by the store", "by the store as far as it has all", "in SQL"} {
			switch way {
			case "by the store as far as it has all":
				defer report.NoRest()()
			case "in SQL":
				defer report.InSQL()()
			}
			got, err := ask()
			if err != nil {
				t.Fatal(err)
			}
			compare(t, q.Sort+" "+way, document(t, got), document(t, want))
		}
	}
	for sort, limit := range map[string]int{"": 0, "-packets": 3, "octets_rev": 5, "first_seen": 1, "-last_seen": 4, "tenant": 3, "-packets_fwd": 7} {
		q.Sort, q.Limit = sort, limit
		f(func() (any, error) { return r.Pairs(t.Context(), q) })
	}
	q.Sort, q.Limit, q.Since, q.Until = "", 6, q.Since.Add(9*time.Minute), q.Until.Add(-20*time.Minute)
	f(func() (any, error) { return r.Pairs(t.Context(), q) })
	f(func() (any, error) { return r.Networks(t.Context(), q) })
	f(func() (any, error) { return r.Overview(t.Context(), q) })
	q.Filter = "not tenant = red"
	for sort, limit := range map[string]int{"": 0, "segment": 2, "-vms": 3, "unknown_addrs": 2, "-pairs": 2, "-first_seen": 1, "fabric": 2} {
		q.Sort, q.Limit = sort, limit
		f(func() (any, error) { return r.Networks(t.Context(), q) })
	}
}
