package segment

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"crosstap/internal/collect/store"
)

// naivePairs adds a table of roll-ups up by pair, row by row.
func naivePairs(t testing.TB, v store.View, table string) (sums []store.PairSums) {
	t.Helper()
	rows, err := v.Query(t.Context(), `SELECT segment, fabric, src::VARCHAR, dst::VARCHAR, if(src_vm_id <> '', src_vm_id, src_vm), if(dst_vm_id <> '', dst_vm_id, dst_vm), client, packets, octets, rows, flows,
  epoch_ms(first_seen), epoch_ms(last_seen), port_votes, sampled_rows, ambiguous_rows FROM `+table+" WHERE rows > 0")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var p store.PairSums
		var src, dst string
		var client uint8
		var n, flows int64
		if err := rows.Scan(&p.Segment, &p.Fabric, &src, &dst, &p.AWho, &p.BWho, &client, &p.Packets, &p.Octets, &n, &flows, &p.FirstMS, &p.LastMS, &p.PortVotes, &p.SampledRows, &p.AmbiguousRows); err != nil {
			t.Fatal(err)
		}
		ends := [2]string{src + " " + p.AWho, dst + " " + p.BWho}
		back := ends[0] > ends[1] // addresses have one length
		fromServer := client == 2 || client == 0 && (p.PortVotes < 0 || p.PortVotes == 0 && back)
		same := ends[0] == ends[1]
		if same && p.PortVotes > 0 {
			back = true
		}
		p.A, p.B = uuid.MustParse(src), uuid.MustParse(dst)
		p.OctetsAB, p.PacketsAB, p.Votes = p.Octets, p.Packets, map[uint8]int64{1: n, 2: -n}[client]
		if back {
			p.A, p.B, p.AWho, p.BWho = p.B, p.A, p.BWho, p.AWho
			p.OctetsAB, p.PacketsAB, p.Votes, p.PortVotes = 0, 0, -p.Votes, -p.PortVotes
		}
		at := map[[2]bool]int{{false, true}: 0, {true, true}: 1, {false, false}: 2, {true, false}: 3}[[2]bool{back, back == fromServer}]
		p.Flows[at] = uint64(flows)
		i := slices.IndexFunc(sums, func(s store.PairSums) bool { return s.SameEnds(&p) })
		if i < 0 {
			sums = append(sums, p)
		} else {
			sums[i].Add(&p)
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(sums, func(a, b store.PairSums) int {
		if a.Segment < b.Segment {
			return -1
		}
		if a.Segment > b.Segment {
			return 1
		}
		return 0
	})
	return sums
}

// pairs compares what the store adds up by pair in a range with what its rows do.
func (m *mergeTest) pairs(when string, from, to int64) {
	m.Helper()
	v, err := m.s.View(m.Context(), from, to)
	if err != nil {
		m.Fatal(err)
	}
	defer v.Close()
	pv := v.(store.PairsView)
	var rest []store.PairSums
	if table := pv.PairsRest(from, to); table != "" {
		rest = naivePairs(m, v, table)
	}
	var got, want []string
	segments := map[uint64]bool{}
	var mu sync.Mutex
	err = pv.SumPairs(m.Context(), from, to, rest, func(sums []store.PairSums) {
		mu.Lock()
		defer mu.Unlock()
		for i := range sums {
			got = append(got, fmt.Sprintf("%+v", sums[i]))
		}
		if segments[sums[0].Segment] {
			m.Errorf("%s: segment %d came twice", when, sums[0].Segment)
		}
		segments[sums[0].Segment] = true
	})
	if err != nil {
		m.Fatal(err)
	}
	for _, s := range naivePairs(m, v, v.Rollup(time.Hour, from, to)) {
		want = append(want, fmt.Sprintf("%+v", s))
	}
	slices.Sort(got)
	slices.Sort(want)
	if diff := apart(want, got); diff != "" || len(want) == 0 {
		m.Errorf("%s: %d pairs, want %d (-rows +stored):\n%s", when, len(got), len(want), diff)
	}
}

// TestSumPairs: pairs add up to what roll-ups tell, whatever they are stored as: by the hour, merged, with hours that do not count, without their rows, and for
// ranges that cut hours and days.
func TestSumPairs(t *testing.T) {
	m := newMergeTest(t, Config{FlushRows: 4000, MergeFiles: 1000, KeepFor: 300 * time.Hour, QueryThreads: 3})
	recs := days(rand.New(rand.NewPCG(17, 7)), 26, 60)
	for h, hour := range recs {
		for i := range hour {
			switch i % 7 { // clients that are not known, and machines that talk to themselves
			case 3:
				hour[i].Client = 0
			case 5:
				hour[i].Dst, hour[i].DstVM, hour[i].DstVMID = hour[i].Src, hour[i].SrcVM, hour[i].SrcVMID
			}
			hour[i].FlowID += uint64(h) << 40
		}
		put(m, m.s, hour)
	}
	f := func(when string) {
		t.Helper()
		m.pairs(when, base-24*3600e9, base+48*3600e9)
		m.pairs(when+", cut", base-9*3600e9+1000e9, base+13*3600e9-900e9)
		m.pairs(when+", an hour", base+3600e9, base+2*3600e9)
	}
	m.tidy(8 * time.Hour)
	f("blocks")
	m.tidy(41 * time.Hour)
	f("days")
	late := slices.Clone(recs[5][:20])
	for i := range late {
		late[i].FlowID++
	}
	put(m, m.s, late)
	f("late rows")
	m.tidy(200 * time.Hour)
	m.shape("an hour was sealed again", "23/24 1/1 2/6+")
	f("an hour was sealed again")
	m.tidy(301 * time.Hour)
	f("without some rows")
	m.s.keep.Unlock()
	if err := m.s.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestSumPairsDamaged: a roll-up that cannot be read is not answered from, and is out of the next view.
func TestSumPairsDamaged(t *testing.T) {
	m := newMergeTest(t, Config{FlushRows: 4000, MergeFiles: 1000})
	for _, hour := range days(rand.New(rand.NewPCG(18, 7)), 24, 20) {
		put(m, m.s, hour)
	}
	m.tidy(41 * time.Hour)
	for name, f := range m.s.man.rolls {
		if !isLinks(name) {
			scribble(m.s.path(name), 100, int(f.Bytes)/2)
		}
	}
	v, err := m.s.View(t.Context(), base-24*3600e9, base+48*3600e9)
	if err != nil {
		t.Fatal(err)
	}
	err = v.(store.PairsView).SumPairs(t.Context(), base-24*3600e9, base+48*3600e9, nil, func([]store.PairSums) {})
	if !errors.Is(err, store.ErrStale) {
		t.Errorf("a damaged roll-up: %v", err)
	}
	v.Close()
	m.pairs("without it", base-24*3600e9, base+48*3600e9)
	m.s.keep.Unlock()
	if err := m.s.Close(); err != nil {
		t.Fatal(err)
	}
}
