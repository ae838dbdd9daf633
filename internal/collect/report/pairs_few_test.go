package report_test

import (
	"context"
	"database/sql"
	"errors"
	"testing"
	"time"

	"crosstap/internal/collect/report"
	"crosstap/internal/collect/store"
	"crosstap/internal/flow"
)

// withoutEngine is a store whose engine must not be asked.
type withoutEngine struct{ store.Reader }

func (s withoutEngine) View(ctx context.Context, fromNS, toNS int64) (store.View, error) {
	v, err := s.Reader.View(ctx, fromNS, toNS)
	if err != nil {
		return nil, err
	}
	return fewView{v, v.(store.FewView)}, nil //nolint:forcetypeassert // that is what is tested
}

type fewView struct {
	store.View
	store.FewView
}

func (fewView) Query(context.Context, string, ...any) (*sql.Rows, error) {
	return nil, errors.New("the engine was asked")
}

// TestFewPairs: pairs of few rows are the same from Go as from SQL, in any order by sums and cut anywhere, of rows as they came and of settled hours, and the
// engine is not asked.
func TestFewPairs(t *testing.T) {
	f := func(what string, recs []flow.Record, settled bool) {
		t.Helper()
		now := t0
		if settled {
			now = t0.Add(3 * time.Hour)
		}
		s := opened(t, now)
		for i := range 3 { // files
			put(t, s, recs[i*len(recs)/3:(i+1)*len(recs)/3])
		}
		if settled {
			if err := s.Settle(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		engine, few := report.New(s), report.New(withoutEngine{s})
		all := map[string]map[string]int{"": {"": 0, "first_seen": 2}, "vni = 5001": {"": 0}}
		if what == "random" {
			all[""] = map[string]int{"": 0, "-packets": 3, "octets_rev": 5, "octets_fwd": 4, "first_seen": 2, "-last_seen": 7, "spark": 9, "share": 1, "-packets_fwd": 7, "packets_rev": 6}
			all["vni in (5002, 5001)"] = map[string]int{"": 0, "packets": 4}
		}
		for filter, sorts := range all {
			for sort, limit := range sorts {
				for _, in := range [][2]time.Duration{{0, time.Hour}, ranges["part"]} {
					q := report.Query{Since: t0.Add(in[0]), Until: t0.Add(in[1]), Filter: filter, Sort: sort, Limit: limit, Resolution: "raw"}
					restore := report.InSQL()
					want, err := engine.Pairs(t.Context(), q)
					restore()
					if err != nil {
						t.Fatal(err)
					}
					if len(want.Rows) == 0 && in != [2]time.Duration{0, time.Hour} {
						continue
					}
					got, err := few.Pairs(t.Context(), q)
					if err != nil {
						t.Fatalf("%s, %q by %s: %v", what, filter, sort, err)
					}
					if len(want.Rows) == 0 {
						t.Fatalf("%s, %q by %s: no pairs", what, filter, sort)
					}
					got.Meta.Completeness.UncertainRows, got.Meta.Completeness.UncertainPackets, got.Meta.Completeness.UncertainOctets =
						want.Meta.Completeness.UncertainRows, want.Meta.Completeness.UncertainPackets, want.Meta.Completeness.UncertainOctets // the view is not asked for them here
					compare(t, what+", "+filter+" by "+sort, document(t, got), document(t, want))
				}
			}
		}
	}
	f("random", lab(41, 300), false)
	f("settled", lab(41, 300), true)
	f("ties", ties(2, 300), false)
	self := lab(42, 100)
	for i := range self { // machines that talk to themselves, flows without a number, and counters at their end
		r := &self[i]
		r.Dst, r.DstVM, r.DstVMID, r.DstHost = r.Src, r.SrcVM, r.SrcVMID, r.SrcHost
		if r.FlowID = 0; i == 7 {
			r.Octets, r.Sampling = 1<<63, 0
		}
	}
	f("with themselves", self, false)
}

// TestFewPairsBeyondNumbers: sums that no number can say are an error from the engine, and not from Go something else.
func TestFewPairsBeyondNumbers(t *testing.T) {
	recs := lab(43, 20)
	for i := range recs {
		recs[i].Octets = 1 << 63
	}
	if a, err := stored(t, recs).Pairs(t.Context(), report.Query{Since: t0, Until: t0.Add(time.Hour)}); err == nil {
		t.Errorf("%d octets in all", a.Meta.Total.Octets)
	}
}
