package segment

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"crosstap/internal/flow"
)

// traffic gives random rows of some hours: few workloads, several observers of which some lack what others know.
func traffic(rnd *rand.Rand, n int) []flow.Record {
	pick := func(all ...string) string { return all[rnd.IntN(len(all))] }
	recs := make([]flow.Record, n)
	for i := range recs {
		r := &recs[i]
		a, b := rnd.IntN(4), rnd.IntN(4)
		cport, sport := uint16(40000+rnd.IntN(6)), []uint16{53, 443}[rnd.IntN(2)]
		*r = flow.Record{
			EndNS: base + rnd.Int64N(7190e3)*1e6, Proto: 6, Src: flow.V4([]byte{10, 0, 0, byte(a)}), Dst: flow.V4([]byte{10, 0, 0, byte(b)}), SrcPort: cport, DstPort: sport,
			Segment: flow.NewSegment(flow.KindVXLAN, uint32(1+(a+b)%2)), Fabric: "default", Tenant: "blue", SrcVM: fmt.Sprint("vm", a), DstVM: fmt.Sprint("vm", b), SrcVMID: fmt.Sprint("id", a),
			SrcHost: pick("h1", "h2"), DstHost: "h3", App: pick("dns", "https"), Client: flow.Client(rnd.IntN(3)), ObserverID: uint64(1 + rnd.IntN(3)),
			Packets: uint64(1 + rnd.IntN(9)), TCPFlags: uint16(rnd.IntN(8)), MinLen: uint16(rnd.IntN(3) * 40), MaxLen: uint16(rnd.IntN(1500)),
			RTTUS: uint32(rnd.IntN(2) * rnd.IntN(900)), Retransmits: uint32(rnd.IntN(2)), Exporter: flow.V4([]byte{192, 0, 2, byte(rnd.IntN(2))}), Domain: uint32(rnd.IntN(2)),
		}
		r.StartNS, r.Octets, r.Role = r.EndNS-rnd.Int64N(60e3)*1e6, r.Packets*100, flow.Role(r.ObserverID)
		r.L2Octets, r.Observer = r.Octets+14*r.Packets, pick("", "p1", "p2")
		r.FlowID = 1 + uint64(a)<<32 | uint64(b)<<24 | uint64(cport)<<4 | uint64(sport&1)
		if rnd.IntN(3) == 0 {
			r.Segment, r.Fabric = 0, ""
		}
		if rnd.IntN(3) == 0 {
			r.SrcVM, r.SrcVMID, r.Tenant = "", "", ""
		}
		if rnd.IntN(4) == 0 {
			r.DstVM, r.SrcHost, r.App = "", "", ""
		}
		if rnd.IntN(3) == 0 {
			r.Tunnel = flow.Tunnel{Src: flow.V4([]byte{172, 16, 0, byte(rnd.IntN(2))}), Dst: flow.V4([]byte{172, 16, 0, byte(rnd.IntN(2))})}
		}
		if rnd.IntN(5) == 0 {
			r.Sampling, r.Marks = 10, flow.MarkSampled
		}
		if rnd.IntN(9) == 0 {
			r.Marks |= flow.MarkAmbiguous
		}
		if rnd.IntN(30) == 0 {
			r.FlowID = 0
		}
		if rnd.IntN(2) == 0 {
			r.Marks |= flow.MarkCanonical
		}
	}
	slices.SortFunc(recs, func(a, b flow.Record) int { return int(a.EndNS/1e6 - b.EndNS/1e6) })
	for i := range recs { // no two rows of a flow end at once, so that what is latest is one row's
		recs[i].EndNS += int64(i) * 1e6
	}
	return recs
}

// rolledRows gives the rows of the view's roll-up, and of the same worked out from the rows hour by hour.
func rolledRows(t testing.TB, s *Store, from, to int64) (stored, worked []string) {
	t.Helper()
	v, err := s.View(t.Context(), from, to)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	names := strings.ReplaceAll(rollupNames, "variance", "round(variance)::BIGINT")
	for _, c := range []string{" src,", " dst,", "outer_src,", "outer_dst,"} {
		names = strings.Replace(names, c, " right("+strings.TrimSuffix(strings.TrimSpace(c), ",")+"::VARCHAR, 8),", 1)
	}
	stored = texts(t, v, "SELECT "+names+" FROM "+v.Rollup(time.Hour, from, to))
	for at := from; at < to; {
		next := min(hourOf(at/1e6)*1e6+3600e9, to)
		worked = append(worked, texts(t, v, "SELECT "+names+" FROM "+rollupRows(v.Table(), endsIn(at/1e6, next/1e6), time.Hour))...)
		at = next
	}
	slices.Sort(stored)
	slices.Sort(worked)
	return stored, worked
}

// apart shows the first lines that only one of two sorted lists has.
func apart(a, b []string) string {
	var out []string
	only := func(sign string, a, b []string) {
		n := 0
		for _, line := range a {
			if _, in := slices.BinarySearch(b, line); !in && n < 3 {
				out = append(out, sign+line)
				n++
			}
		}
	}
	only("-", a, b)
	only("+", b, a)
	if len(a) != len(b) {
		out = append(out, fmt.Sprintf("%d lines and %d", len(a), len(b)))
	}
	return strings.Join(out, "\n")
}

// TestRollupsOfSealedHours: what Go has stored at sealing equals what SQL adds up from the rows: one file or several, again with late
// rows, for ranges that cut hours, and after the manifest was lost.
func TestRollupsOfSealedHours(t *testing.T) {
	f := func(seed uint64, sealRows int) {
		t.Helper()
		var later atomic.Int64
		dir := t.TempDir()
		cfg := Config{Dir: dir, FlushRows: 300, MergeFiles: 1000, SealRows: sealRows, Now: func() time.Time { return time.Unix(0, base+later.Load()) }}
		s := open(t, cfg)
		recs := traffic(rand.New(rand.NewPCG(seed, 2)), 1200)
		check := func(when string, rolls int) {
			t.Helper()
			for _, r := range [][2]int64{{0, 2 * 3600e9}, {1000e9, 5000e9}} {
				stored, worked := rolledRows(t, s, base+r[0], base+r[1])
				if diff := apart(worked, stored); diff != "" {
					t.Fatalf("seed %d, %s, %v: stored and worked out differ (-worked +stored):\n%s", seed, when, r, diff)
				}
				if len(stored) == 0 {
					t.Errorf("%s, %v: no rows", when, r)
				}
			}
			if n := rolledHours(s); n != rolls {
				t.Errorf("%s: %d hours are rolled up, want %d", when, n, rolls)
			}
		}
		late := recs[1000:]
		put(t, s, recs[:1000])
		check("before sealing", 0)
		later.Store(int64(10 * time.Hour))
		if err := s.Tidy(); err != nil {
			t.Fatal(err)
		}
		check("sealed", 2)
		put(t, s, late)
		check("late rows are not rolled up", 2)
		later.Add(int64(24 * time.Hour))
		if err := s.Tidy(); err != nil {
			t.Fatal(err)
		}
		check("sealed again", 2)
		s.Close()
		if err := os.Remove(dir + "/" + manifestName); err != nil {
			t.Fatal(err)
		}
		s = open(t, cfg)
		check("rebuilt", 2)
		s.Close()
	}
	f(1, 100_000)
	f(2, 250)
}

// TestRollupsOutliveRows: when the rows have expired the roll-ups answer, also beside late rows and after the manifest was lost; they go
// by an age of their own.
func TestRollupsOutliveRows(t *testing.T) {
	var later atomic.Int64
	dir := t.TempDir()
	cfg := Config{Dir: dir, KeepFor: 12 * time.Hour, KeepRollups: 72 * time.Hour, Now: func() time.Time { return time.Unix(0, base+later.Load()) }}
	s := open(t, cfg)
	tidy := func(at time.Duration) {
		t.Helper()
		later.Store(int64(at))
		if err := s.Tidy(); err != nil {
			t.Fatal(err)
		}
		s.unlinkDoomed(true)
	}
	packets := func(want string, when string) {
		t.Helper()
		v, err := s.View(t.Context(), base, base+3600e9)
		if err != nil {
			t.Fatal(err)
		}
		defer v.Close()
		got := texts(t, v, "SELECT coalesce(sum(packets), 0)::BIGINT FROM "+v.Rollup(time.Hour, base, base+3600e9))
		if got[0] != want {
			t.Errorf("%s: %s packets, want %s", when, got[0], want)
		}
	}
	put(t, s, conversation(base+1e9, base+5e9, 40000))
	tidy(2 * time.Hour)
	packets("20", "sealed")
	tidy(14 * time.Hour)
	if n := count(t, s, "true"); n != 0 {
		t.Fatalf("%d rows have not expired", n)
	}
	packets("20", "expired")
	s.Close()
	if err := os.Remove(dir + "/" + manifestName); err != nil {
		t.Fatal(err)
	}
	s = open(t, cfg)
	packets("20", "rebuilt")
	later.Store(int64(2 * time.Hour)) // or the late rows would expire at once
	put(t, s, conversation(base+1e9, base+6e9, 40001))
	packets("40", "with late rows")
	later.Store(int64(11 * time.Hour))
	if err := s.Tidy(); err != nil {
		t.Fatal(err)
	}
	if n := len(s.man.rolls); n != 2 {
		t.Errorf("%d roll-ups, want the expired rows' and the late rows'", n)
	}
	packets("40", "sealed again")
	tidy(100 * time.Hour)
	packets("0", "expired too")
}

// TestRollupCanary: for every column of stored roll-ups, equality in SQL finds exactly the rows that a full scan in Go finds.
func TestRollupCanary(t *testing.T) {
	s := open(t, Config{Now: func() time.Time { return time.Unix(0, base).Add(10 * time.Hour) }})
	put(t, s, traffic(rand.New(rand.NewPCG(5, 2)), 1500))
	if err := s.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	v, err := s.View(t.Context(), base, base+7200e9)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	table := v.Rollup(time.Hour, base, base+7200e9)
	if strings.Contains(table, "WITH") {
		t.Fatal("the roll-up is worked out from rows")
	}
	for _, c := range RollupColumns() {
		all := texts(t, v, "SELECT "+c.Name+"::VARCHAR FROM "+table)
		for _, probe := range []int{0, len(all) / 2, len(all) - 1} {
			value := strings.ReplaceAll(strings.ReplaceAll(all[probe], "+", "\n"), "'", "''")
			want := 0
			for _, other := range all {
				if other == all[probe] {
					want++
				}
			}
			got := texts(t, v, fmt.Sprintf("SELECT count(*) FROM %s WHERE %s = '%s'::%s", table, c.Name, value, c.Type))
			if got[0] != fmt.Sprint(want) {
				t.Errorf("%s = %q gives %s rows, a full scan %d", c.Name, value, got[0], want)
			}
		}
	}
}
