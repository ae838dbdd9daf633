package bus

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/collect/store"
	"crosstap/internal/flow"
	"crosstap/internal/ledger"
)

// memory is a store that forgets what was not flushed when it crashes.
type memory struct {
	store.Store
	ordered bool

	mu      sync.Mutex
	durable map[uint64]int // how often a record was stored, by its number
	open    map[uint64]int
	ids     map[string]bool // messages stored, when not ordered
	at, to  uint64
	gaps    []store.Gap
	refuse  int // so many calls fail
}

func (m *memory) Ordered() bool { return m.ordered }

func (m *memory) Position(string) uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.at
}

func (m *memory) AppendPlaced(_ context.Context, recs []flow.Record, p store.Place) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.refuse > 0 {
		m.refuse--
		return fmt.Errorf("refused")
	}
	into := m.durable
	switch {
	case m.ordered && p.Seq <= m.to:
		return nil
	case m.ordered:
		m.to, into = p.Seq, m.open
	case m.ids[p.ID]:
		return nil
	default:
		m.ids[p.ID] = true
	}
	for i := range recs {
		into[recs[i].Octets]++
	}
	return nil
}

func (m *memory) Flush(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for n, k := range m.open {
		m.durable[n] += k
	}
	clear(m.open)
	m.at = m.to
	return nil
}

func (m *memory) crash() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.open)
	m.to = m.at
}

func (m *memory) NoteGap(g store.Gap) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gaps = append(m.gaps, g)
	return nil
}

// whole reports whether the records 0 to n-1 are durable, each once; more than once is a failure.
func (m *memory) whole(t *testing.T, n int) bool {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	for k, times := range m.durable {
		if times != 1 {
			t.Fatalf("record %d was stored %d times", k, times)
		}
	}
	return len(m.durable) == n
}

func dropped(s ledger.Statement) (n uint64) {
	for _, d := range s.Dropped {
		n += d.N
	}
	return n
}

func serveBus(t *testing.T, maxBytes int64) *Server {
	t.Helper()
	s, err := Serve("127.0.0.1:0", t.TempDir(), maxBytes)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func numbered(from, n int) []flow.Record {
	out := records(from, n)
	for i := range out {
		out[i].Octets = uint64(from + i)
	}
	return out
}

// Writers that are broken off at any moment and start again store each record once.
func TestLine(t *testing.T) {
	for _, ordered := range []bool{true, false} {
		t.Run(fmt.Sprintf("ordered=%v", ordered), func(t *testing.T) {
			s := serveBus(t, 1<<30)
			line := LineConfig{Servers: []string{s.URL()}, MaxBytes: 1 << 30}
			f, err := NewFeed(FeedConfig{Line: line, Batch: 100, Linger: 20 * time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			m := &memory{ordered: ordered, durable: map[uint64]int{}, open: map[uint64]int{}, ids: map[string]bool{}, refuse: 3}
			const n = 20_000
			go func() {
				for i := 0; i < n; i += 500 {
					if err := f.Append(context.Background(), numbered(i, 500)); err != nil {
						t.Error(err)
					}
				}
				if err := f.NoteGap(store.Gap{FromNS: 1, ToNS: 2, Scope: "exporter", Who: "x", Reason: "lost", LostRecords: 3}); err != nil {
					t.Error(err)
				}
				if err := f.Close(); err != nil {
					t.Error(err)
				}
			}()
			rnd := rand.New(rand.NewPCG(5, 6))
			for end, life := time.Now().Add(3*time.Minute), 300; ; life += life / 4 { // longer and longer, for slow machines
				w, err := NewWriter(WriterConfig{Line: line, Store: m})
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error)
				go func() { done <- w.Run(ctx) }()
				for at := time.Now().Add(time.Duration(life+rnd.IntN(3000)) * time.Millisecond); time.Now().Before(at) && !m.whole(t, n); {
					time.Sleep(20 * time.Millisecond)
				}
				cancel()
				if err := <-done; err != nil {
					t.Fatal(err)
				}
				m.crash()
				if m.whole(t, n) {
					break
				}
				if time.Now().After(end) {
					t.Fatalf("%d of %d records: %+v", len(m.durable), n, w.Status())
				}
			}
			for end := time.Now().Add(time.Minute); f.Stats().Book.Held > 0 && time.Now().Before(end); { // confirmations may be under way
				time.Sleep(20 * time.Millisecond)
			}
			if b := f.Stats().Book; b.In != n || b.Out != n {
				t.Errorf("%+v", b)
			}
		})
	}
}

// counting is a store that remembers which counts it was given.
type counting struct {
	*memory
	given map[string]int
	last  store.Counts
}

func (c *counting) AppendCounts(_ context.Context, x store.Counts) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refuse > 0 {
		c.refuse--
		return fmt.Errorf("refused")
	}
	c.given[fmt.Sprint(x.Feed, "-", x.Seq)]++
	c.last = x
	return nil
}

// What agents count goes to writers as records do: it is in the stream when the feed returns, each batch once, and a store that refuses it is given it again.
func TestLineCounts(t *testing.T) {
	for _, ordered := range []bool{true, false} {
		t.Run(fmt.Sprintf("ordered=%v", ordered), func(t *testing.T) {
			s := serveBus(t, 1<<30)
			line := LineConfig{Servers: []string{s.URL()}, MaxBytes: 1 << 30}
			f, err := NewFeed(FeedConfig{Line: line, Linger: 20 * time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			counts := store.Counts{Feed: "a", List: []store.Count{{CountKey: store.CountKey{Index: 3}, Name: "vnet0", Owner: store.Owner{VM: "web"}, Cells: []store.CountCell{{FromNS: 1, ToNS: 2, InOctets: 77}}}}}
			give := func() {
				t.Helper()
				for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
					err := f.AppendCounts(t.Context(), counts)
					if err == nil {
						return
					}
					if time.Now().After(end) {
						t.Fatal(err)
					}
				}
			}
			for _, seq := range []uint64{1, 2, 2, 1, 3} {
				counts.Seq = seq
				give()
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			if err := f.AppendCounts(t.Context(), counts); err == nil {
				t.Error("a closed feed takes counts")
			}
			m := &counting{memory: &memory{ordered: ordered, durable: map[uint64]int{}, open: map[uint64]int{}, ids: map[string]bool{}, refuse: 2}, given: map[string]int{}}
			w, err := NewWriter(WriterConfig{Line: line, Store: m, Workers: 1})
			if err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- w.Run(ctx) }()
			defer func() { stop(); <-done }()
			for end := time.Now().Add(2 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
				m.mu.Lock()
				n := len(m.given)
				m.mu.Unlock()
				if n == 3 {
					break
				}
				if time.Now().After(end) {
					t.Fatalf("%v, %+v", m.given, w.Status())
				}
			}
			m.mu.Lock()
			defer m.mu.Unlock()
			counts.Seq = m.last.Seq
			if d := cmp.Diff(counts, m.last); d != "" {
				t.Error(d)
			}
			if b := w.Status().Book; b.Dropped[writerDamaged].N > 0 {
				t.Errorf("%+v", b)
			}
		})
	}
}

// A stream that is full makes the feed wait, then shed with a count; when there is room again it goes on.
func TestFeedFull(t *testing.T) {
	s := serveBus(t, 1<<30)
	line := LineConfig{Servers: []string{s.URL()}, MaxBytes: 64 << 10}
	f, err := NewFeed(FeedConfig{Line: line, Batch: 500, Linger: 5 * time.Millisecond, Pending: 256 << 10, AppendWait: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	const n = 30_000
	for i := 0; i < n; i += 500 {
		if err := f.Append(t.Context(), numbered(i, 500)); err != nil {
			t.Fatal(err)
		}
	}
	b := f.Stats().Book
	if b.In != n || b.Balance() != nil || dropped(b) == 0 {
		t.Fatalf("%+v", b)
	}
	m := &memory{ordered: true, durable: map[uint64]int{}, open: map[uint64]int{}}
	w, err := NewWriter(WriterConfig{Line: line, Store: m})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- w.Run(ctx) }()
	lost := int(dropped(b))
	for end := time.Now().Add(2 * time.Minute); !m.whole(t, n-lost); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d of %d records; %+v", len(m.durable), n-lost, w.Status())
		}
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	gaps := func() (n uint64) {
		m.mu.Lock()
		defer m.mu.Unlock()
		for _, g := range m.gaps {
			n += g.LostRecords
		}
		return n
	}
	for end := time.Now().Add(time.Minute); gaps() != uint64(lost); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("gaps of %d records, %d were lost", gaps(), lost)
		}
	}
	cancel()
	<-done
}

func TestParseLine(t *testing.T) {
	c, err := ParseLine("nats://u:p@a,b:5000/FLOWS?replicas=3")
	if err != nil {
		t.Fatal(err)
	}
	want := LineConfig{Servers: []string{"nats://a:4222", "nats://b:5000"}, Stream: "FLOWS", Replicas: 3, User: "u", Password: "p"}
	if d := cmp.Diff(want, c); d != "" {
		t.Error(d)
	}
	for _, bad := range []string{"", "http://a", "nats://", "nats://a,/X", "nats://a/x.y", "nats://a/X?replicas=9", "nats://a/X?replica=1", "nats://a?ca=/none"} {
		if _, err := ParseLine(bad); err == nil {
			t.Errorf("%q passed", bad)
		}
	}
	if _, err := url.Parse(c.String()); err != nil {
		t.Error(err)
	}
}
