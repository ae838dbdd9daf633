package report_test

import (
	"testing"
	"time"

	"crosstap/internal/collect/report"
	"crosstap/internal/collect/store"
	"crosstap/internal/collect/store/segment"
)

// TestCompleteness: what gaps say goes with the answer.
func TestCompleteness(t *testing.T) {
	s, err := segment.Open(segment.Config{Dir: t.TempDir(), MinFree: -1, Now: func() time.Time { return t0 }})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	recs := lab(8, 50)
	if err := s.Append(t.Context(), recs); err != nil {
		t.Fatal(err)
	}
	at := func(minutes int) int64 { return t0.Add(time.Duration(minutes) * time.Minute).UnixNano() }
	for _, g := range []store.Gap{
		{FromNS: at(5), ToNS: at(6), Scope: "exporter", Who: "tunnel", Reason: "sequence", LostRecords: 30},
		{FromNS: at(6), ToNS: at(7), Scope: "exporter", Who: "tunnel", Reason: "sequence", LostRecords: 10},
		{FromNS: at(20), ToNS: at(21), Scope: "store", Reason: "disk full", LostRecords: 5},
		{FromNS: at(-100), ToNS: at(-90), Scope: "exporter", Who: "tunnel", Reason: "sequence", LostRecords: 1000},
	} {
		if err := s.NoteGap(g); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	r := report.New(s)
	o, err := r.Overview(t.Context(), report.Query{Since: t0, Until: t0.Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	n := float64(len(recs))
	c := o.Meta.Completeness
	if c.LostRecords != 40 || c.DroppedRecords != 5 || c.Ratio == nil || *c.Ratio != (n+5)/(n+45) || c.SampledRows == 0 {
		t.Errorf("completeness %+v", c)
	}
	compare(t, "gaps", c.Gaps, []report.Gap{
		{From: t0.Add(5 * time.Minute), To: t0.Add(7 * time.Minute), Scope: "exporter", Who: "tunnel", Reason: "sequence", LostRecords: 40},
		{From: t0.Add(20 * time.Minute), To: t0.Add(21 * time.Minute), Scope: "store", Reason: "disk full", LostRecords: 5}})
	for _, row := range o.Observers {
		if want := map[bool]uint64{true: 40}[row.Observer == "tunnel"]; row.LostRecords != want {
			t.Errorf("%s lost %d records, want %d", row.Observer, row.LostRecords, want)
		}
	}
}
