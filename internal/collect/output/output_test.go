package output

import (
	"compress/gzip"
	"context"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/flow"
	"crosstap/internal/ledger"
	"crosstap/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// gather is a sink that keeps what it gets, and takes nothing before it is let.
type gather struct {
	*Account
	let  chan struct{}
	recs []flow.Record
}

func newGather() *gather { return &gather{Account: NewAccount(), let: make(chan struct{})} }

func (g *gather) Run(ctx context.Context, in <-chan []flow.Record) error {
	select {
	case <-g.let:
	case <-ctx.Done():
		return ctx.Err()
	}
	for recs := range in {
		g.In(len(recs))
		g.recs = append(g.recs, recs...)
		g.Out(len(recs), 100)
	}
	return nil
}

func addr(s string) flow.Addr { return flow.FromNetip(netip.MustParseAddr(s)) }

func some(n int) []flow.Record {
	out := make([]flow.Record, n)
	for i := range out {
		out[i] = flow.Record{
			Exporter: addr("192.0.2.1"), Src: addr("10.0.0.1"), Dst: addr("10.0.0.2"), Proto: 6, SrcPort: uint16(i), DstPort: 443, Packets: 20, Octets: 2000, L2Octets: 2280,
			Sampling: 10, Marks: flow.MarkCanonical | flow.MarkSampled, EtherType: 0x0800, Tenant: "red",
		}
	}
	return out
}

// all offers recs to an output of that configuration and returns what came out of it, with its books.
func all(t *testing.T, c Config, recs []flow.Record) ([]flow.Record, ledger.Statement) {
	t.Helper()
	g := newGather()
	c.Name = "test"
	o, err := New(c, g)
	if err != nil {
		t.Fatal(err)
	}
	close(g.let)
	done := make(chan struct{})
	go func() { o.Run(t.Context()); close(done) }()
	for part := range slices.Chunk(recs, 100) {
		batch := slices.Clone(part)
		o.Offer(batch, 0)
		clear(batch) // its owner uses it again
	}
	o.Close()
	<-done
	b := o.Status(0).Book
	if err := b.Balance(); err != nil || b.In != uint64(len(recs)) || b.Out != uint64(len(g.recs)) || b.Held != 0 {
		t.Errorf("%v, %+v", err, b)
	}
	return g.recs, b
}

func dropped(b ledger.Statement, reason string) uint64 {
	for _, d := range b.Dropped {
		if d.Reason == reason {
			return d.N
		}
	}
	return 0
}

func TestChoice(t *testing.T) {
	recs := some(8)
	recs[1].Marks = 0
	recs[2].Exporter = addr("198.51.100.1")
	recs[3].Tenant, recs[3].DstTenant = "", "blue"
	recs[4].Tenant = "green"
	recs[5].Proto = 17
	f := func(c Config, reason string, want ...uint16) {
		t.Helper()
		got, b := all(t, c, recs)
		var ports []uint16
		for _, r := range got {
			ports = append(ports, r.SrcPort)
		}
		if !slices.Equal(ports, want) || int(dropped(b, reason)) != len(recs)-len(want) {
			t.Errorf("%v passed, %+v", ports, b.Dropped)
		}
	}
	f(Config{}, "filtered", 0, 1, 2, 3, 4, 5, 6, 7)
	f(Config{Canonical: true}, "not_canonical", 0, 2, 3, 4, 5, 6, 7)
	f(Config{Exporters: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}}, "filtered", 2)
	f(Config{Tenants: []string{"blue", "green"}}, "filtered", 3, 4)
	f(Config{Filter: "udp"}, "filtered", 5)
	f(Config{Filter: "tcp src portrange 6-9"}, "filtered", 6, 7)
	if _, err := New(Config{Name: "x", Filter: "tcp prot 80"}, newGather()); err == nil || !strings.Contains(err.Error(), `output: x: filter "tcp prot 80": filter: column 5`) {
		t.Error(err)
	}
}

// A sink gets estimates of all packets, or what was counted, with the rate beside it: 20 packets that stand for one in 10 are 2 counted.
func TestCounters(t *testing.T) {
	f := func(c Config, packets, octets, l2 uint64, rate uint32) {
		t.Helper()
		got, b := all(t, c, some(2000))
		if len(got) == 0 || c.Sample > 1 && (len(got) < 200 || len(got) > 1000 || dropped(b, "not_sampled") == 0) {
			t.Fatalf("%d of 2000 passed, %+v", len(got), b)
		}
		r := got[0]
		if r.Packets != packets || r.Octets != octets || r.L2Octets != l2 || r.Sampling != rate || !r.Is(flow.MarkSampled) {
			t.Errorf("%d packets, %d and %d octets, one in %d, marks %x", r.Packets, r.Octets, r.L2Octets, r.Sampling, r.Marks)
		}
	}
	f(Config{}, 20, 2000, 2280, 10)
	f(Config{Counted: true}, 2, 200, 228, 10)
	f(Config{Sample: 4}, 80, 8000, 9120, 40)
	f(Config{Counted: true, Sample: 4}, 2, 200, 228, 40)
}

// A sink that stands still costs its queue and no more, and its lag is told.
func TestFull(t *testing.T) {
	g := newGather()
	o, err := New(Config{Name: "slow", Queue: 250}, g)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { o.Run(ctx); close(done) }()
	for i := range 10 {
		o.Offer(some(100), int64(i)*int64(time.Minute))
	}
	s := o.Status(int64(20 * time.Minute))
	if s.Book.In != 1000 || s.Book.Held != 200 || dropped(s.Book, "queue_full") != 800 || s.Lag != 20*time.Minute {
		t.Errorf("%+v", s)
	}
	cancel()
	o.Close()
	<-done
	s = o.Status(0)
	if err := s.Book.Balance(); err != nil || s.Book.Held != 0 || dropped(s.Book, "stopped") != 200 {
		t.Errorf("%v, %+v", err, s.Book)
	}
}

func lines(t *testing.T, c LinesConfig) *Lines {
	t.Helper()
	l, err := NewLines(c)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// read returns the lines of all files, finished ones first.
func read(t *testing.T, dir string) (names []string, n int) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		f, err := os.Open(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		var r io.Reader = f
		if strings.HasSuffix(e.Name(), ".gz") {
			if r, err = gzip.NewReader(f); err != nil {
				t.Fatal(err)
			}
		}
		b, err := io.ReadAll(r)
		_ = f.Close()
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			if !strings.HasPrefix(line, `{"start":`) || !strings.HasSuffix(line, "]}\n") {
				t.Fatalf("%s: %q", e.Name(), line)
			}
			n++
		}
		names = append(names, e.Name())
	}
	return names, n
}

func TestLinesRotate(t *testing.T) {
	dir := t.TempDir()
	l := lines(t, LinesConfig{Path: filepath.Join(dir, "flows.jsonl"), Size: 60000, Gzip: true})
	in := make(chan []flow.Record)
	done := make(chan error, 1)
	go func() { done <- l.Run(t.Context(), in) }()
	for range 20 {
		in <- some(10)
	}
	close(in)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	names, n := read(t, dir)
	if n != 200 || len(names) < 3 || names[len(names)-1] != "flows.jsonl" || !strings.HasSuffix(names[0], "Z.jsonl.gz") {
		t.Errorf("%d lines in %q", n, names)
	}
	if b := l.Book(); b.Out != 200 || b.Balance() != nil || l.State().Error != "" {
		t.Errorf("%+v %+v", b, l.State())
	}
}

func TestLinesKeepAndTime(t *testing.T) {
	dir := t.TempDir()
	l := lines(t, LinesConfig{Path: filepath.Join(dir, "f"), Every: time.Hour, Keep: 2})
	at := time.Date(2026, 1, 2, 3, 59, 0, 0, time.UTC)
	put := func(at time.Time) {
		t.Helper()
		l.In(1)
		if err := l.write(some(1), at); err != nil {
			t.Fatal(err)
		}
	}
	for range 5 {
		put(at)
		put(at.Add(30 * time.Second))
		at = at.Add(time.Hour)
	}
	l.close()
	l.tidy.Wait()
	names, n := read(t, dir)
	if diff := cmp.Diff([]string{"f", "f-20260102T065900.000Z", "f-20260102T075900.000Z"}, names); diff != "" || n != 6 {
		t.Errorf("%d lines (-want +got):\n%s", n, diff)
	}
}

// What the disk does not take is dropped and counted, and no half line stays.
func TestLinesRefused(t *testing.T) {
	dir := t.TempDir()
	l := lines(t, LinesConfig{Path: filepath.Join(dir, "not", "there")})
	in := make(chan []flow.Record)
	done := make(chan error, 1)
	go func() { done <- l.Run(t.Context(), in) }()
	in <- some(3)
	in <- some(3)
	close(in)
	<-done
	if b := l.Book(); b.Out != 0 || dropped(b, "failed") != 6 || b.Balance() != nil || l.State().Error == "" {
		t.Errorf("%+v %+v", b, l.State())
	}
	f := func(c LinesConfig, want string) {
		t.Helper()
		if _, err := NewLines(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	f(LinesConfig{}, "no path")
	f(LinesConfig{Path: "x", Size: 5}, "rotate-size of 5 bytes")
	f(LinesConfig{Path: "x", Every: time.Millisecond}, "rotate-every 1ms")
	f(LinesConfig{Path: "-", Gzip: true}, "standard output is not rotated")
}
