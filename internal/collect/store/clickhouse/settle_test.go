package clickhouse

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"crosstap/internal/collect/store"
	"crosstap/internal/collect/store/clickhouse/chtest"
	"crosstap/internal/collect/store/segment"
	"crosstap/internal/flow"
)

// observed gives n flows over two hours, each seen by up to three observers whose timers differ; which of their rows say that they are canonical is
// by chance.
func observed(rnd *rand.Rand, n int) (recs []flow.Record) {
	for i := range n {
		start := t0.UnixNano() + rnd.Int64N(7100)*1e9
		one := record(i % 200)
		one.FlowID, one.Src, one.SrcPort, one.RecvNS = uint64(i%(n*3/4))*7919+1, flow.V4([]byte{10, 0, byte(i >> 8), byte(i)}), uint16(i), t0.Add(2*time.Hour).UnixNano()
		one.Packets = uint64(1 + rnd.IntN(9))
		one.Octets, one.SrcVM = one.Packets*100, ""
		for o, role := range []flow.Role{flow.RoleTunnel, flow.RolePort, flow.RoleMirror} {
			if rnd.IntN(4) == 0 {
				continue
			}
			r := one
			r.ObserverID, r.Role, r.Observer, r.Sampling = uint64(o+1), role, role.String(), uint32(1+9*rnd.IntN(8)/7)
			r.StartNS = start + rnd.Int64N(500)*1e6
			r.EndNS = r.StartNS + rnd.Int64N(90)*1e9
			r.Marks = flow.Mark(rnd.IntN(2)) * flow.MarkCanonical
			if rnd.IntN(10) == 0 {
				r.Segment = 0
			}
			recs = append(recs, r)
		}
	}
	rnd.Shuffle(len(recs), func(i, j int) { recs[i], recs[j] = recs[j], recs[i] })
	return recs
}

// learning is an inventory that learns: by its version it knows the machine of each even source address, and the segment of rows that lack one.
type learning struct{ version atomic.Uint64 }

func (l *learning) Version() uint64 { return l.version.Load() }

func (l *learning) Amend(r *flow.Record) bool {
	was := *r
	if v := l.version.Load(); r.Src[15]%2 == 0 && v > 1 {
		r.SrcVM, r.SrcVMID = fmt.Sprintf("vm-%d", v), fmt.Sprintf("id-%d", r.Src[15])
	}
	if r.Segment == 0 {
		r.Segment = flow.NewSegment(flow.KindVXLAN, 7)
	}
	return *r != was
}

// lines gives an answer as text, sorted.
func lines(t *testing.T, v store.View, query string) (out []string) {
	t.Helper()
	rows, err := v.Query(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		cells, into := make([]sql.NullString, len(names)), make([]any, len(names))
		for i := range cells {
			into[i] = &cells[i]
		}
		if err := rows.Scan(into...); err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		for _, c := range cells {
			b.WriteString(c.String + " ")
		}
		out = append(out, b.String())
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(out, cmp.Compare[string])
	return out
}

const (
	everyRow  = "SELECT flow_id, observer_id, epoch_ms(t_start), epoch_ms(t_end), octets, marks, segment, src_vm, src_vm_id FROM "
	everyPair = "SELECT epoch_ms(bucket), segment, src_port_votes, src_vm, src_vm_id, packets, octets, rows, flows, other_rows, duplicates, seen_by, seen_other FROM "
)

// both gives what the two stores hold of two hours, rows and roll-ups.
func contents(t *testing.T, s store.Reader) (rows, sums []string) {
	t.Helper()
	from, to := t0.UnixNano(), t0.Add(3*time.Hour).UnixNano()
	v, err := s.View(t.Context(), from, to)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	return lines(t, v, everyRow+v.Table()), lines(t, v, strings.Replace(everyPair, "src_port_votes", "port_votes", 1)+v.Rollup(time.Hour, from, to)+" r")
}

// uncertain is what the elections of these hours left open.
func uncertain(t *testing.T, s store.Reader) store.Uncertain {
	t.Helper()
	from, to := t0.UnixNano(), t0.Add(3*time.Hour).UnixNano()
	v, err := s.View(t.Context(), from, to)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	u, err := v.(store.UncertainView).Uncertain(t.Context(), from, to)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func same(t *testing.T, what string, want, got []string) {
	t.Helper()
	if d := gocmp.Diff(want, got); d != "" {
		t.Fatalf("%s: directory -, ClickHouse +\n%.3000s", what, d)
	}
}

// TestSettleAsSegment: canonical rows across all observers, names and segments that became known late, and roll-ups are those of a store directory
// that got the same rows; what is late is settled too, and who asks meanwhile sees all of a correction or nothing of it.
func TestSettleAsSegment(t *testing.T) {
	srv := chtest.Start(t)
	var inv learning
	inv.version.Store(2)
	var now atomic.Int64
	now.Store(t0.Add(30 * time.Minute).UnixNano())
	clock := func() time.Time { return time.Unix(0, now.Load()) }
	dir, err := segment.Open(segment.Config{Dir: t.TempDir(), MinFree: -1, Inventory: &inv, Now: clock})
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	s := open(t, srv, func(c *Config) { c.Inventory, c.Now, c.SettleWait = &inv, clock, 200*time.Millisecond })
	recs := observed(rand.New(rand.NewPCG(3, 4)), 400)
	put := func(recs []flow.Record) { // when nothing is known yet
		t.Helper()
		known := inv.version.Swap(0)
		defer inv.version.Store(known)
		for _, to := range []store.Store{dir, s} {
			if err := errors.Join(to.Append(t.Context(), recs), to.Flush(t.Context())); err != nil {
				t.Fatal(err)
			}
		}
	}
	settle := func() {
		t.Helper()
		s.swept = time.Time{}
		if err := errors.Join(dir.Settle(t.Context()), s.Settle(t.Context())); err != nil {
			t.Fatal(err)
		}
	}
	check := func(what string, n int) {
		t.Helper()
		wantRows, wantSums := contents(t, dir)
		rows, sums := contents(t, s)
		if len(rows) != n {
			t.Errorf("%s: %d rows, want %d", what, len(rows), n)
		}
		if told := s.Stats().Rows; told != uint64(n) {
			t.Errorf("%s: %d rows by the store's account, want %d", what, told, n)
		}
		same(t, what+": rows", wantRows, rows)
		same(t, what+": roll-ups", wantSums, sums)
		if want, got := uncertain(t, dir), uncertain(t, s); got != want || got.Rows == 0 {
			t.Errorf("%s: uncertain %+v, in the directory %+v", what, got, want)
		}
	}
	put(recs[20:])
	before := lines(t, viewOf(t, s), canonicalOf)
	now.Store(t0.Add(4 * time.Hour).UnixNano())
	ctx, stop := context.WithCancel(t.Context())
	seen := make(chan map[string]int)
	go func() { seen <- watch(ctx, s, len(recs)-20) }()
	settle()
	stop()
	all := <-seen
	check("settled", len(recs)-20)
	after := lines(t, viewOf(t, s), canonicalOf)
	delete(all, before[0])
	delete(all, after[0])
	if len(all) > 0 || before[0] == after[0] {
		t.Errorf("canonical packets were %s, then %s; meanwhile %v", before, after, all)
	}
	put(recs[:20])
	settle()
	check("late rows", len(recs))
	inv.version.Store(3)
	settle()
	check("late names", len(recs))
	srv.Exec(t, "SELECT throwIf(count() = 0) FROM crosstap.flows WHERE src_vm = 'vm-3' FORMAT Null")
	rows, _ := contents(t, s)
	settle()
	again, _ := contents(t, s)
	same(t, "settled again", rows, again)
}

// canonicalOf adds up what sums read, of all hours; its columns stand together after the election only.
const canonicalOf = "SELECT coalesce(sum(packets) FILTER ((marks & 1) <> 0), 0) AS p FROM " + askFlows

func viewOf(t *testing.T, s *Store) store.View {
	t.Helper()
	v, err := s.View(t.Context(), 0, 1<<62)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// watch asks over and over: there are always n rows. It returns the sums that it saw.
func watch(ctx context.Context, s *Store, n int) map[string]int {
	seen := map[string]int{}
	for ; ctx.Err() == nil; time.Sleep(50 * time.Millisecond) {
		v, err := s.View(ctx, 0, 1<<62)
		if err != nil {
			continue
		}
		rows, err := v.Query(ctx, "SELECT count(*) AS n, coalesce(sum(packets) FILTER ((marks & 1) <> 0), 0) AS p FROM "+askFlows)
		if err != nil {
			continue
		}
		for rows.Next() {
			var count int
			var packets string
			if err := rows.Scan(&count, &packets); err != nil {
				break
			}
			if count != n {
				packets = fmt.Sprintf("%d rows", count)
			}
			seen[packets+" "]++
		}
		rows.Close()
	}
	return seen
}

// TestSettleGoesOn: a process that ends while rows are corrected leaves answers right, and the next one finishes its work.
func TestSettleGoesOn(t *testing.T) {
	srv := chtest.Start(t)
	var inv learning
	inv.version.Store(2)
	recs := observed(rand.New(rand.NewPCG(5, 6)), 100)
	slow := open(t, srv, func(c *Config) { c.Inventory, c.SettleWait = &inv, 500*time.Millisecond })
	if err := errors.Join(slow.Append(t.Context(), recs), slow.Flush(t.Context())); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- slow.Settle(ctx) }()
	other := open(t, srv, func(c *Config) { c.SettleWait = 10 * time.Millisecond })
	for end := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		begun, err := other.corrections(t.Context(), -1<<62, 1<<62)
		if err != nil {
			t.Fatal(err)
		}
		if len(begun) > 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("no correction comes into force")
		}
	}
	stop()
	<-done // broken off, most likely before the rows were changed
	during, _ := contents(t, other)
	if len(during) != len(recs) {
		t.Errorf("%d rows in a correction that was broken off, want %d", len(during), len(recs))
	}
	if strings.Contains(strings.Join(during, "\n"), " 0  ") || !strings.Contains(strings.Join(during, "\n"), "vm-2") {
		t.Error("the correction in force is not seen")
	}
	srv.Exec(t, "INSERT INTO crosstap.turns SELECT id, 3, now64(3) FROM crosstap.turns") // whoever had the turn is gone
	if err := other.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	if begun, err := other.corrections(t.Context(), -1<<62, 1<<62); err != nil || len(begun) > 0 {
		t.Errorf("%v %v", begun, err)
	}
	after, sums := contents(t, other)
	if len(after) != len(recs) || len(sums) == 0 {
		t.Errorf("%d rows afterwards, want %d", len(after), len(recs))
	}
}

// TestTurns: of several who want a turn one has it at a time, and each gets one.
func TestTurns(t *testing.T) {
	srv := chtest.Start(t)
	var having atomic.Int32
	done := make(chan error)
	const stores = 3
	for range stores {
		s := open(t, srv, func(c *Config) { c.SettleWait = 20 * time.Millisecond })
		go func() {
			for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(time.Duration(rand.IntN(100)) * time.Millisecond) {
				one, err := s.takeTurn(t.Context())
				if err != nil {
					done <- err
					return
				}
				if one == nil {
					continue
				}
				if n := having.Add(1); n != 1 {
					t.Errorf("%d have the turn", n)
				}
				time.Sleep(50 * time.Millisecond)
				having.Add(-1)
				done <- one.end(t.Context())
				return
			}
			done <- errors.New("no turn in two minutes")
		}()
	}
	for range stores {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
