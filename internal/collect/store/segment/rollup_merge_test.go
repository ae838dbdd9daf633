package segment

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"crosstap/internal/collect/store"
	"crosstap/internal/flow"
)

// rolledHours counts the hours of stored roll-ups.
func rolledHours(s *Store) (n int) {
	for _, f := range s.man.rolls {
		n += len(f.byHour)
	}
	return n
}

// spans lists the spans of stored roll-ups in hours and how many of their hours count, with "+" for links and another for those of quarters.
func spans(s *Store) string {
	var all []string
	for _, f := range sortedFiles(s.man.rolls) {
		if isLinks(f.Name) {
			continue
		}
		text := fmt.Sprintf("%d/%d", len(f.byHour), max(f.Span/hourMS, 1))
		all = append(all, text+strings.Repeat("+", len(s.man.linksOf(f.Name))))
	}
	return strings.Join(all, " ")
}

// days gives random rows of each hour from midnight on: base is at ten.
func days(rnd *rand.Rand, hours, each int) (recs [][]flow.Record) {
	for h := range hours {
		more := traffic(rnd, each)
		for i := range more {
			r := &more[i]
			at := base + (int64(h)-10)*3600e9 + (r.EndNS-base)%3600e9
			r.StartNS, r.EndNS = at-(r.EndNS-r.StartNS), at
			r.FlowID += uint64(h) << 48
			if rnd.IntN(4) == 0 { // somebody outside
				r.Dst, r.DstVM, r.DstVMID, r.DstHost, r.DstTenant = flow.V4([]byte{192, 0, 2, byte(rnd.IntN(99))}), "", "", "", ""
			}
			if rnd.IntN(4) == 0 {
				r.Src, r.Dst, r.SrcVM, r.DstVM, r.SrcVMID, r.DstVMID = r.Dst, r.Src, r.DstVM, r.SrcVM, r.DstVMID, r.SrcVMID
			}
		}
		recs = append(recs, more)
	}
	return recs
}

// linkText adds a roll-up or links up to links; these do not tell how many flows are different.
func linkText(t testing.TB, v store.View, table string) []string {
	t.Helper()
	addr := func(side string) string {
		return fmt.Sprintf("if(%[1]s_vm <> '' OR %[1]s_vm_id <> '', %[1]s, %[2]s)::VARCHAR AS %[1]s", side, store.ZeroAddr)
	}
	who := func(side string) string { return fmt.Sprintf("if(%[1]s_vm_id <> '', %[1]s_vm_id, %[1]s_vm)", side) }
	return texts(t, v, `SELECT segment, fabric, tenant, src_tenant, dst_tenant, src_vm, src_vm_id, src_host, dst_vm, dst_vm_id, dst_host, app, proto, service_port, `+addr("src")+", "+addr("dst")+`,
  CASE WHEN client <> 0 THEN client = 2 WHEN port_votes <> 0 THEN port_votes < 0 ELSE src > dst OR src = dst AND `+who("src")+" > "+who("dst")+` END AS turn,
  sum(packets)::BIGINT, sum(octets)::BIGINT, sum(l2_octets)::BIGINT, sum(rows)::BIGINT, min(first_seen), max(last_seen), bit_or(marks), bit_or(tcp_flags), round(sum(variance))::BIGINT,
  sum(sampled_rows)::BIGINT, sum(ambiguous_rows)::BIGINT, coalesce(min(min_len) FILTER (min_len > 0), 0), max(max_len), sum(fragments)::BIGINT, sum(retransmits)::BIGINT, sum(zero_windows)::BIGINT,
  sum(rtt_n)::BIGINT, sum(rtt_sum)::BIGINT, max(rtt_max) FROM (SELECT * FROM `+table+") WHERE rows > 0 GROUP BY ALL")
}

// mergeTest is a store whose clock is set by hand.
type mergeTest struct {
	*testing.T
	cfg   Config
	clock atomic.Int64 // since base
	alone int          // pairs of which there were rows that tell of other observers alone
	s     *Store
}

func newMergeTest(t *testing.T, cfg Config) *mergeTest {
	m := &mergeTest{T: t, cfg: cfg}
	m.cfg.Dir, m.cfg.Now = t.TempDir(), func() time.Time { return time.Unix(0, base+m.clock.Load()) }
	m.s = open(t, m.cfg)
	m.s.keep.Lock() // the test tidies by itself
	return m
}

// tidy does what the store does in the background, a few rounds, at a time of its clock.
func (m *mergeTest) tidy(at time.Duration) {
	m.Helper()
	m.clock.Store(int64(at))
	m.s.keep.Unlock()
	for range 4 {
		if err := m.s.Tidy(); err != nil {
			m.Fatal(err)
		}
	}
	m.s.keep.Lock()
}

// again opens the store anew, without its manifest when that is lost.
func (m *mergeTest) again(lost bool) {
	m.Helper()
	m.s.keep.Unlock()
	if err := m.s.Close(); err != nil {
		m.Fatal(err)
	}
	if lost {
		if err := os.Remove(filepath.Join(m.cfg.Dir, manifestName)); err != nil {
			m.Fatal(err)
		}
	}
	m.s = open(m, m.cfg)
	m.s.keep.Lock()
}

// shape looks at the spans of what is stored.
func (m *mergeTest) shape(when, want string) {
	m.Helper()
	if got := spans(m.s); got != want {
		m.Errorf("%s: roll-ups %s, want %s", when, got, want)
	}
}

// asked calls f with a view and the part of it that is all links of a range.
func (m *mergeTest) asked(from, to int64, f func(store.View, store.Part)) {
	m.Helper()
	v, err := m.s.View(m.Context(), from, to)
	if err != nil {
		m.Fatal(err)
	}
	defer v.Close()
	f(v, store.Part{FromNS: from, ToNS: to, Links: true})
}

// check compares roll-ups, their part for one segment, and links of a range with what the rows add up to.
func (m *mergeTest) check(when, want string, from, to int64) {
	m.Helper()
	m.shape(when, want)
	v, err := m.s.View(m.Context(), from, to)
	if err != nil {
		m.Fatal(err)
	}
	defer v.Close()
	part := func(p store.Part) string {
		p.FromNS, p.ToNS = from, to
		return v.(store.PartView).RollupPart(p)
	}
	f := func(what string, got, want []string) {
		m.Helper()
		slices.Sort(got)
		slices.Sort(want)
		if diff := apart(want, got); diff != "" || len(want) == 0 {
			m.Errorf("%s: %s differ (-rows +stored):\n%s", when, what, diff)
		}
	}
	columns := "SELECT " + strings.ReplaceAll(rollupNames, "variance", "round(variance)::BIGINT") + " FROM "
	worked := rollupRows(v.Table(), endsIn(from/1e6, to/1e6), time.Hour)
	f("roll-ups", texts(m, v, columns+v.Rollup(time.Hour, from, to)), texts(m, v, columns+worked))
	links := linkText(m, v, worked)
	for range 3 { // the second view keeps what it works out, the third one reads that
		m.asked(from, to, func(v store.View, p store.Part) { f("links", linkText(m, v, v.(store.PartView).RollupPart(p)), links) })
	}
	one := fmt.Sprint(uint64(flow.NewSegment(flow.KindVXLAN, 1)))
	others := func(line string) bool { return !strings.HasPrefix(line, one+" ") }
	few := linkText(m, v, part(store.Part{Segments: "segment = " + one, Numbers: []uint64{1}}))
	f("one segment's", slices.DeleteFunc(few, others), slices.DeleteFunc(links, others))
	stored := texts(m, v, "SELECT (sum(rows) + sum(other_rows))::BIGINT FROM "+part(store.Part{Count: true}))
	f("numbers of rows", stored, texts(m, v, "SELECT count(*) FROM "+v.Table()+" WHERE "+endsIn(from/1e6, to/1e6)))
}

// TestMergedRollups: merged for six hours and for days, roll-ups and links tell what the rows do: also with late rows, when an hour is sealed again, and
// without the manifest.
func TestMergedRollups(t *testing.T) {
	m := newMergeTest(t, Config{FlushRows: 4000, MergeFiles: 1000})
	recs := days(rand.New(rand.NewPCG(7, 7)), 26, 60)
	for _, hour := range recs { // a batch of many hours would be one file
		put(m, m.s, hour)
	}
	whole, cut := [2]int64{base - 24*3600e9, base + 48*3600e9}, [2]int64{base - 9*3600e9 + 1000e9, base + 13*3600e9 - 900e9}
	m.tidy(8 * time.Hour) // 18:00: the third block is over, but not long enough
	m.check("blocks", "6/6+ 6/6+ 1/1 1/1 1/1 1/1 1/1", cut[0], cut[1])
	m.tidy(17 * time.Hour)
	m.shape("the day is over", "6/6+ 6/6+ 6/6+ 6/6+ 1/1 1/1")
	m.again(true)
	m.shape("rebuilt", "6/6+ 6/6+ 6/6+ 6/6+ 1/1 1/1")
	m.tidy(41 * time.Hour)
	m.shape("days", "24/24++ 2/6+")
	late := slices.Clone(recs[5][:20])
	for i := range late {
		late[i].FlowID++
	}
	put(m, m.s, late)
	m.again(true)
	m.check("late rows, rebuilt", "24/24++ 2/6+", whole[0], whole[1])
	m.tidy(200 * time.Hour)
	m.shape("an hour was sealed again", "23/24 1/1 2/6+")
	m.again(true)
	m.check("an hour was sealed again, rebuilt", "23/24 1/1 2/6+", whole[0], whole[1])
	m.s.hasty.Store(true)
	m.tidy(200 * time.Hour)
	m.s.hasty.Store(false)
	m.check("merged again", "24/24++ 2/6+", cut[0], cut[1])
	m.s.keep.Unlock()
	if err := m.s.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestMergedRollupsOutliveRows: rows expire by the hour, in the middle of what is merged; their sums stay, also without the manifest. Of a damaged one
// the hours with rows are made again, and the others are noted as lost.
func TestMergedRollupsOutliveRows(t *testing.T) {
	m := newMergeTest(t, Config{FlushRows: 4000, KeepFor: 40 * time.Hour, KeepRollups: 90 * time.Hour})
	for _, hour := range days(rand.New(rand.NewPCG(8, 8)), 24, 40) {
		put(m, m.s, hour)
	}
	f := func(when, shape string, stored, want int) {
		t.Helper()
		v, err := m.s.View(t.Context(), base-24*3600e9, base+48*3600e9)
		if err != nil {
			t.Fatal(err)
		}
		defer v.Close()
		for _, links := range []bool{false, true} {
			got := texts(t, v, "SELECT coalesce(sum(rows), 0)::BIGINT FROM "+v.(store.PartView).RollupPart(store.Part{FromNS: base - 24*3600e9, ToNS: base + 48*3600e9, Links: links}))
			if got[0] != fmt.Sprint(want) {
				t.Errorf("%s: %s rows in roll-ups, want %d", when, got[0], want)
			}
		}
		if n := len(m.s.hours()); n != stored || spans(m.s) != shape {
			t.Errorf("%s: rows of %d hours, want %d; roll-ups %s, want %s", when, n, stored, spans(m.s), shape)
		}
	}
	m.tidy(20 * time.Hour)
	all := int(sum(t, m.s, "count(*) FILTER ((marks & 1) <> 0)"))
	f("blocks", "6/6+ 6/6+ 6/6+ 6/6+", 24, all)
	m.tidy(38 * time.Hour)
	f("half of the rows are gone", "6/6+ 6/6+ 6/6+ 6/6+", 16, all)
	m.tidy(41 * time.Hour)
	f("merged beside expired rows", "24/24++", 13, all)
	m.again(true)
	f("rebuilt", "24/24++", 13, all)
	for name := range m.s.man.rolls {
		if !isLinks(name) {
			if err := os.Truncate(m.s.path(name), 1000); err != nil {
				t.Fatal(err)
			}
		}
	}
	stored := int(sum(t, m.s, "count(*) FILTER ((marks & 1) <> 0)"))
	m.again(false)
	if g := m.s.gaps.gaps; len(g) != 1 || g[0].FromNS != base-10*3600e9 || g[0].ToNS != base+3600e9 {
		t.Errorf("gaps of a damaged roll-up: %+v", g)
	}
	m.tidy(41 * time.Hour)
	f("made again", "13/24++", 13, stored)
	m.tidy(105 * time.Hour)
	f("expired too", "", 0, 0)
	m.s.keep.Unlock()
	if err := m.s.Close(); err != nil {
		t.Fatal(err)
	}
}
