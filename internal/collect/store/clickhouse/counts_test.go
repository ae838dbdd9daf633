package clickhouse

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/collect/store"
	"crosstap/internal/collect/store/clickhouse/chtest"
	"crosstap/internal/collect/store/segment"
	"crosstap/internal/flow"
)

// randomCounts are batches of a collector: sources that tell every half minute or so, fall silent, and change their owners.
func randomCounts(rnd *rand.Rand, batches int) []store.Counts {
	type source struct {
		key   store.CountKey
		name  string
		owner store.Owner
		at    int64
	}
	sources := make([]source, 6)
	for i := range sources {
		sources[i] = source{key: store.CountKey{Agent: flow.V4([]byte{10, 0, 0, byte(i % 2)}), Domain: uint32(i % 3), Class: uint32(i % 2 * 3), Index: uint32(i)}, at: t0.UnixNano()}
	}
	out := make([]store.Counts, batches)
	for n := range out {
		out[n] = store.Counts{Feed: "test", Seq: uint64(n + 1)}
		for i := range sources {
			s := &sources[i]
			if rnd.IntN(20) == 0 {
				s.owner = store.Owner{Host: fmt.Sprint("h", rnd.IntN(2)), VM: fmt.Sprint("vm", rnd.IntN(3)), Fabric: "default", FromNS: rnd.Int64N(3), ToNS: []int64{0, 1 << 61}[rnd.IntN(2)]}
			}
			if s.name == "" && rnd.IntN(3) == 0 {
				s.name = fmt.Sprint("vnet", i)
			}
			c := store.Count{CountKey: s.key, Name: s.name, Owner: s.owner}
			for range 1 + rnd.IntN(3) {
				from := s.at
				s.at += rnd.Int64N(60e9) + 1
				if rnd.IntN(50) == 0 {
					s.at += rnd.Int64N(30 * store.CountHour)
				}
				c.Cells = append(c.Cells, store.CountCell{FromNS: from, ToNS: s.at, InOctets: rnd.Uint64N(1e6), OutOctets: rnd.Uint64N(1e12), InPackets: rnd.Uint64N(9), OutPackets: 1})
			}
			out[n].List = append(out[n].List, c)
		}
	}
	return out
}

// Both stores tell the same of what hypervisors count, also when batches come twice, and when parts were merged; so does a cluster.
func TestCounts(t *testing.T) {
	srv := chtest.Start(t)
	sameCounts(t, srv, nil, 30, 8)
	shards := chtest.StartShards(t, 2)
	sameCounts(t, shards[0], func(c *Config) {
		c.Addrs, c.Cluster, c.EachServer = []string{shards[0].Addr, shards[1].Addr}, "main", true
	}, 8, 3)
	for _, s := range shards {
		s.Exec(t, "SELECT throwIf(count() = 0) FROM crosstap.counts_local FORMAT Null")
	}
}

func sameCounts(t *testing.T, srv *chtest.Server, change func(*Config), batches, questions int) {
	t.Helper()
	ch := open(t, srv, change)
	seg, err := segment.Open(segment.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer seg.Close()
	rnd := rand.New(rand.NewPCG(7, 8))
	end := int64(0)
	for i, c := range randomCounts(rnd, batches) {
		for _, s := range []store.Store{ch, seg} {
			for range 1 + i%2 {
				if err := s.AppendCounts(t.Context(), c); err != nil {
					t.Fatal(err)
				}
			}
		}
		for _, x := range c.List {
			end = max(end, x.Cells[len(x.Cells)-1].ToNS)
		}
	}
	check := func(what string) {
		t.Helper()
		from, to, cells := int64(0), int64(1<<62), 0
		for range questions {
			want, err := seg.Counts(t.Context(), from, to)
			if err != nil {
				t.Fatal(err)
			}
			got, err := ch.Counts(t.Context(), from, to)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Fatalf("%s, %d to %d: %s", what, from, to, d)
			}
			for _, c := range got {
				cells += len(c.Cells)
			}
			span := end - t0.UnixNano()
			from = t0.UnixNano() + rnd.Int64N(span)
			to = from + rnd.Int64N(span) + 1
		}
		if cells < 100 {
			t.Errorf("%s: only %d cells were compared", what, cells)
		}
	}
	check("as it came")
	if change == nil {
		srv.Exec(t, "OPTIMIZE TABLE crosstap.counts FINAL")
		check("merged")
	}
	reader := open(t, srv, func(c *Config) {
		if change != nil {
			change(c)
		}
		c.ReadOnly = true
	})
	if got, err := reader.Counts(t.Context(), 0, 1<<62); err != nil || len(got) == 0 {
		t.Errorf("a reader: %d sources, %v", len(got), err)
	}
	if err := reader.AppendCounts(t.Context(), store.Counts{}); err == nil {
		t.Error("a reader takes counts")
	}
}
