package segment

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"crosstap/internal/collect/store"
	"crosstap/internal/flow"
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

// othersText is what other observers told of pairs in a table of roll-ups, of those that fit.
func othersText(t testing.TB, v store.View, table, fit string) []string {
	t.Helper()
	return texts(t, v, `SELECT segment, fabric, least(one, two) AS a, greatest(one, two) AS b, sum(other_rows)::BIGINT, sum(duplicates)::BIGINT, string_agg(DISTINCT seen_other, chr(10) ORDER BY seen_other), count(*) FILTER (rows = 0) FROM
  (SELECT *, concat(src::VARCHAR, ' ', if(src_vm_id <> '', src_vm_id, src_vm)) AS one, concat(dst::VARCHAR, ' ', if(dst_vm_id <> '', dst_vm_id, dst_vm)) AS two FROM `+table+`)
  GROUP BY ALL HAVING sum(rows) > 0 AND sum(other_rows) > 0 AND (`+fit+")")
}

// texts are sums as sorted texts.
func (m *mergeTest) texts(sums []store.PairSums) (all []string) {
	for i := range sums {
		all = append(all, fmt.Sprintf("%+v", sums[i]))
	}
	slices.Sort(all)
	return all
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
	var some []store.PairSums // with those of the same addresses,
	var places []store.Stretch
	err = pv.SumPairs(m.Context(), from, to, rest, true, func(sums []store.PairSums, where func(int) ([]store.Stretch, bool)) {
		mu.Lock()
		defer mu.Unlock()
		for i := range sums {
			got = append(got, fmt.Sprintf("%+v", sums[i]))
			if sums[i].A[15]%3 == 0 {
				at, known := where(i)
				if !known {
					m.Errorf("%s: the places of %+v are not known", when, sums[i])
				}
				some, places = append(some, sums[i]), append(places, at...)
			}
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
	table, err := pv.PairRows(m.Context(), from, to, places, "true")
	if err != nil {
		m.Fatal(err)
	}
	of, copied := m.texts(some), m.texts(slices.DeleteFunc(naivePairs(m, v, table), func(s store.PairSums) bool { return s.A[15]%3 != 0 }))
	if diff := apart(of, copied); diff != "" {
		m.Errorf("%s: rows of %d pairs (-sums +rows):\n%s", when, len(of), diff)
	}
	third := "contains('0369cf', a[36])" // last digit
	wantOthers, gotOthers := othersText(m, v, v.Rollup(time.Hour, from, to), third), othersText(m, v, table, third)
	slices.Sort(wantOthers)
	slices.Sort(gotOthers)
	if diff := apart(wantOthers, gotOthers); diff != "" {
		m.Errorf("%s: %d pairs that others told of (-rollup +rows):\n%s", when, len(wantOthers), diff)
	}
	m.alone += len(slices.DeleteFunc(wantOthers, func(line string) bool { return strings.HasSuffix(line, " 0") }))
	slices.Sort(got)
	slices.Sort(want)
	if diff := apart(want, got); diff != "" || len(want) == 0 {
		m.Errorf("%s: %d pairs, want %d (-rows +stored):\n%s", when, len(got), len(want), diff)
	}
}

// unplaced: of segments with more places than are noted the sums are given and nothing is said of places; no places at all give what SumPairs does not read.
func (m *mergeTest) unplaced(from, to int64) {
	m.Helper()
	defer func(was int) { mostPlaces = was }(mostPlaces)
	v, err := m.s.View(m.Context(), from, to)
	if err != nil {
		m.Fatal(err)
	}
	defer v.Close()
	pv := v.(store.PairsView)
	count := func(places int) (known, not int) {
		mostPlaces = places
		var mu sync.Mutex
		err := pv.SumPairs(m.Context(), from, to, nil, false, func(sums []store.PairSums, where func(int) ([]store.Stretch, bool)) {
			mu.Lock()
			defer mu.Unlock()
			for i := range sums {
				if at, is := where(i); is {
					known++
				} else if not++; len(at) > 0 {
					m.Errorf("%v are places, and are not", at)
				}
			}
		})
		if err != nil {
			m.Fatal(err)
		}
		return known, not
	}
	all, none := count(mostPlaces)
	if known, not := count(8); none > 0 || not < 10 || known+not != all {
		m.Errorf("of %d pairs the places of %d are known, not of %d, with all places not of %d", all, known, not, none)
	}
	table, err := pv.PairRows(m.Context(), from, to, nil, "true")
	if err != nil {
		m.Fatal(err)
	}
	rest := 0
	if t := pv.PairsRest(from, to); t != "" {
		rest = len(naivePairs(m, v, t))
	}
	if sums := naivePairs(m, v, table); len(sums) != rest {
		m.Errorf("no places have %d pairs, want %d", len(sums), rest)
	}
}

// TestSumPairs: pairs add up to what roll-ups tell, whatever they are stored as: by the hour, merged, with hours that do not count, without their rows, and for
// ranges that cut hours and days.
func TestSumPairs(t *testing.T) {
	m := newMergeTest(t, Config{FlushRows: 4000, MergeFiles: 1000, KeepFor: 300 * time.Hour, QueryThreads: 3})
	recs := days(rand.New(rand.NewPCG(17, 7)), 26, 60)
	for h, hour := range recs {
		var others []flow.Record
		for i := range hour {
			hour[i].FlowID += uint64(h) << 40
			if i%3 == 0 {
				hour[i].Tunnel.Src, hour[i].Tunnel.Dst = flow.V4([]byte{172, 16, byte(h), 1}), flow.V4([]byte{172, 16, 0, byte(i % 4)})
			}
			switch i % 7 { // clients that are not known, machines that talk to themselves, and nobody's addresses
			case 1:
				hour[i].Dst, hour[i].DstVM, hour[i].DstVMID = flow.V4([]byte{20, byte(i % 5), byte(h % 3), 1}), "", ""
			case 2:
				hour[i].Src, hour[i].SrcVM, hour[i].SrcVMID = flow.V4([]byte{21, 0, byte(h), byte(i % 9)}), "", ""
			case 4:
				hour[i].Src, hour[i].SrcVM, hour[i].SrcVMID = flow.Addr{}, "", ""
			case 3:
				hour[i].Client = 0
			case 5:
				hour[i].Dst, hour[i].DstVM, hour[i].DstVMID = hour[i].Src, hour[i].SrcVM, hour[i].SrcVMID
			case 6: // two observers that name a machine otherwise: of every other hour a pair has the rows of the lesser one alone
				hour[i].FlowID, hour[i].ObserverID, hour[i].Role, hour[i].Sampling = 1<<60|uint64(h)<<40|uint64(i), 1, 1, 0
				other := hour[i]
				other.ObserverID, other.Role = 3, 3
				hour[i].DstVMID, other.DstVMID = fmt.Sprint("turn", h%2), fmt.Sprint("turn", 1-h%2)
				others = append(others, other)
			}
		}
		put(m, m.s, append(others, hour...))
	}
	f := func(when string) {
		t.Helper()
		for _, check := range []func(string, int64, int64){m.pairs, m.outside} {
			check(when, base-24*3600e9, base+48*3600e9)
			check(when+", cut", base-9*3600e9+1000e9, base+13*3600e9-900e9)
			check(when+", an hour", base+3600e9, base+2*3600e9)
		}
	}
	m.tidy(8 * time.Hour)
	f("blocks")
	m.tidy(41 * time.Hour)
	m.alone = 0
	f("days")
	if m.alone == 0 {
		t.Error("no pair has rows that tell of other observers alone")
	}
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
	m.unplaced(base-24*3600e9, base+48*3600e9)
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
	err = v.(store.PairsView).SumPairs(t.Context(), base-24*3600e9, base+48*3600e9, nil, true, func([]store.PairSums, func(int) ([]store.Stretch, bool)) {})
	if !errors.Is(err, store.ErrStale) {
		t.Errorf("a damaged roll-up: %v", err)
	}
	if err := v.(store.PairsView).SumOutside(t.Context(), base-24*3600e9, base+48*3600e9, nil, func([]store.Outside) {}); !errors.Is(err, store.ErrStale) {
		t.Errorf("networks of a damaged roll-up: %v", err)
	}
	places := []store.Stretch{{Rows: 1}, {First: 1 << 20, Rows: 3}}
	if table, err := v.(store.PairsView).PairRows(t.Context(), base-24*3600e9, base+48*3600e9, places, "true"); !errors.Is(err, store.ErrStale) {
		t.Errorf("rows of a damaged roll-up: %s, %v", table, err)
	}
	v.Close()
	m.pairs("without it", base-24*3600e9, base+48*3600e9)
	m.s.keep.Unlock()
	if err := m.s.Close(); err != nil {
		t.Fatal(err)
	}
}
