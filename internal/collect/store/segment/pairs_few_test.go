package segment

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"crosstap/internal/collect/store"
	"crosstap/internal/flow"
)

// TestFewRows: the rows that are read here are those that the engine finds, of rows as they came and of settled hours, for ranges that cut an hour too, up to their
// number. A file that cannot be read is not answered from, and is out of the next view.
func TestFewRows(t *testing.T) {
	m := newMergeTest(t, Config{FlushRows: 4000, MergeFiles: 1000, QueryThreads: 3})
	recs := traffic(rand.New(rand.NewPCG(19, 7)), 3000)
	for part := range slices.Chunk(recs, 1000) {
		put(t, m.s, part)
	}
	read := func(from, to int64, numbers []uint64, most int) ([]string, error) {
		t.Helper()
		v, err := m.s.View(t.Context(), from, to)
		if err != nil {
			t.Fatal(err)
		}
		defer v.Close()
		rows, err := v.(store.FewView).FewRows(t.Context(), from, to, numbers, most)
		if err != nil {
			return nil, err
		}
		var got []string
		for range 2 { // they can be gone through again
			got = nil
			for r := range rows {
				got = append(got, fmt.Sprint(r.StartNS/1e6, r.EndNS/1e6, r.Octets, r.Packets, r.FlowID, r.ObserverID, r.SrcPort, r.DstPort, r.Proto, r.Sampling, uint16(r.Marks), uint8(r.Client)))
			}
		}
		slices.Sort(got)
		return got, nil
	}
	f := func(from, to int64, number uint64) {
		t.Helper()
		v, err := m.s.View(t.Context(), from, to)
		if err != nil {
			t.Fatal(err)
		}
		defer v.Close()
		var numbers []uint64
		in, where := "(SELECT * FROM "+v.Table()+" WHERE "+endsIn(from/1e6, to/1e6)+")", "true"
		if number > 0 {
			numbers = []uint64{number, 999}
			is := fmt.Sprintf("(segment & 4294967295) = %d", number)
			where = is + " OR segment = 0 AND flow_id <> 0 AND flow_id IN (SELECT flow_id FROM " + in + " WHERE " + is + ")"
		}
		want := texts(t, v, "SELECT epoch_ms(t_start), epoch_ms(t_end), octets, packets, flow_id, observer_id, src_port, dst_port, proto, sampling, marks, client FROM "+in+" WHERE "+where)
		slices.Sort(want)
		got, err := read(from, to, numbers, len(recs))
		if err != nil {
			t.Fatal(err)
		}
		if diff := apart(want, got); diff != "" || len(want) == 0 {
			t.Errorf("%d rows, want %d (-engine +here):\n%s", len(got), len(want), diff)
		}
		if number > 0 {
			return
		}
		if _, err := read(from, to, nil, len(want)-1); !errors.Is(err, store.ErrNotSummed) {
			t.Errorf("more than %d rows: %v", len(want)-1, err)
		}
	}
	all := func() {
		t.Helper()
		for _, to := range []int64{7200e9, 3600e9, 1234567e6} {
			f(base, base+to, 0)
			f(base+100e9, base+to, 0)
			f(base+100e9, base+to, 1)
			f(base, base+to, 2)
		}
	}
	all()
	m.tidy(8 * time.Hour)
	all()
	for name, file := range m.s.man.live {
		scribble(m.s.path(name), 100, int(file.Bytes)/2)
		break
	}
	if _, err := read(base, base+7200e9, nil, len(recs)); !errors.Is(err, store.ErrStale) {
		t.Errorf("a damaged file: %v", err)
	}
	f(base, base+7200e9, 0)
	m.s.keep.Unlock()
	if err := m.s.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestFewRowsComplete: what a row lacks is filled from others of its flow in the range, from those without a segment too.
func TestFewRowsComplete(t *testing.T) {
	rows := []row{
		{FlowKey: 1, TEnd: 10, Segment: 7, Tenant: "red", ObserverID: 1, SrcVM: "a", SrcVMID: "1"}, {FlowKey: 1, TEnd: 12, Tenant: "blue", ObserverID: 2},
		{FlowKey: 2, TEnd: 10, SrcVM: "b"}, {TEnd: 10, Segment: 7, App: "dns"}, {TEnd: 11, Segment: 7},
	}
	q := fewRows{numbers: []uint64{7}}
	var got []string
	for r := range q.records(rows) {
		got = append(got, fmt.Sprintf("%d at %d in %d: %q %q %q %q", r.FlowID, r.EndNS/1e6, r.Segment.Number(), r.Tenant, r.SrcVM, r.SrcVMID, r.App))
	}
	want := []string{`1 at 10 in 7: "red" "a" "1" ""`, `1 at 12 in 7: "blue" "a" "1" ""`, `0 at 10 in 7: "" "" "" "dns"`, `0 at 11 in 7: "" "" "" ""`}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if !q.wants(0) || !q.wants(uint64(flow.NewSegment(flow.KindVLAN, 7))) || q.wants(8) {
		t.Error("rows of segment 7 and of none are wanted")
	}
}
