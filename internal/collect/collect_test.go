package collect

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/collect/internal/exports"
	"crosstap/internal/collect/listen"
	"crosstap/internal/collect/store"
	"crosstap/internal/flow"
	"crosstap/internal/flowproto"
	"crosstap/internal/flowproto/ipfix"
	"crosstap/internal/identity"
	"crosstap/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// memory is a store that keeps everything and can be slow or broken.
type memory struct {
	slow   time.Duration
	gate   chan struct{} // nothing is stored before it closes; nil for no gate
	broken error

	mu      sync.Mutex
	recs    []flow.Record
	gaps    []store.Gap
	counts  []store.Counts
	refuse  int // so many times counts are not taken
	flushed int // records there at the last flush
}

func (m *memory) Append(ctx context.Context, recs []flow.Record) error {
	if m.broken != nil {
		return m.broken
	}
	if m.gate != nil {
		select {
		case <-m.gate:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	time.Sleep(m.slow)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.recs = append(m.recs, recs...)
	return nil
}

func (m *memory) NoteGap(g store.Gap) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gaps = append(m.gaps, g)
	return nil
}

func (m *memory) AppendCounts(_ context.Context, c store.Counts) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.refuse > 0 {
		m.refuse--
		return errors.New("refused")
	}
	m.counts = append(m.counts, c)
	return nil
}

func (m *memory) Flush(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.flushed = len(m.recs)
	return nil
}

func (m *memory) Stats() store.Stats { return store.Stats{} }
func (m *memory) Close() error       { return nil }

func (m *memory) len() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.recs)
}

// running is a collector under test.
type running struct {
	*Collector
	stop func() error
}

func start(t *testing.T, m store.Store, change func(*Config)) running {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Store, cfg.Workers = m, 3
	lc := listen.DefaultConfig()
	lc.Addr = "127.0.0.1:0"
	cfg.Listen = []listen.Config{lc}
	if change != nil {
		change(&cfg)
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Bind(context.Background()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	stop := sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() { _ = stop() }) // of a test that is left early
	return running{c, stop}
}

// balanced checks that every stage's book adds up and that each stage got what the one before gave.
func balanced(t *testing.T, s Status) {
	t.Helper()
	for _, b := range s.Books {
		if err := b.Balance(); err != nil {
			t.Error(err)
		}
	}
	for _, pair := range [][2]string{{"listen", "dispatch"}, {"dispatch", "session"}, {"decode", "enrich"}, {"enrich", "append"}} {
		out, in := uint64(0), uint64(0)
		for _, b := range s.Books {
			switch b.Stage {
			case pair[0]:
				out = b.Out
			case pair[1]:
				in = b.In
			}
		}
		if pair[0] == "listen" && len(s.Listeners) == 0 {
			continue
		}
		if out != in {
			t.Errorf("%s gave %d, %s got %d", pair[0], out, pair[1], in)
		}
	}
}

// replay sends datagrams to a collector, one socket for each source of the capture. It does not run ahead of the collector by more than what
// small buffers of the kernel hold, unless the collector stands still.
func replay(t *testing.T, c running, ds []exports.Datagram) {
	t.Helper()
	to := c.Addrs()[0]
	sockets := map[netip.AddrPort]*net.UDPConn{}
	for i, d := range ds {
		s := sockets[d.From]
		if s == nil {
			var err error
			if s, err = net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to)); err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			sockets[d.From] = s
		}
		if _, err := s.Write(d.Data); errors.Is(err, syscall.ECONNREFUSED) {
			return // the collector has ended
		} else if err != nil {
			t.Fatal(err)
		}
		if i%100 == 99 {
			for end := time.Now().Add(time.Second); taken(c.Status()) < uint64(i) && time.Now().Before(end); {
				time.Sleep(time.Millisecond)
			}
		}
	}
}

// taken is how many datagrams have come in.
func taken(s Status) (n uint64) {
	for _, b := range s.Books {
		if b.Stage == "listen" {
			n += b.In
		}
	}
	return n
}

func labDatagrams(t *testing.T) []exports.Datagram {
	t.Helper()
	ds := exports.Read(t, testkit.Corpus(t, "collect/ovs-lab/h1.pcap"), ipfix.Port)
	return append(ds, exports.Read(t, testkit.Corpus(t, "collect/ovs-lab/h2.pcap"), ipfix.Port)...)
}

const labRecords = 1020 + 187 // as another collector counts them

func tcpSums(m *memory) map[string][2]uint64 {
	out := map[string][2]uint64{}
	for _, r := range m.recs {
		if r.Proto == 6 && r.Is(flow.MarkCanonical) && strings.HasPrefix(r.Src.String(), "172.16.1.") {
			s := out[r.Src.String()]
			out[r.Src.String()] = [2]uint64{s[0] + r.Packets, s[1] + r.Octets}
		}
	}
	return out
}

// The lab's exports over real sockets: all of it is stored, each packet counts once.
func TestLabOverUDP(t *testing.T) {
	ds := labDatagrams(t)
	m := &memory{}
	dir := t.TempDir()
	c := start(t, m, func(cfg *Config) {
		cfg.Dir, cfg.Session.CorrectSkew = dir, false
		cfg.Enrich.MaxAge = 100 * 365 * 24 * time.Hour
	})
	c.SetInventory(identity.NewBook(identity.Inventory{Observers: []identity.Observer{{Name: "h1 br-vxlan", Domain: 101}}}))
	replay(t, c, append(ds, exports.Datagram{From: ds[0].From, Data: []byte{9, 9}}))
	testkit.Eventually(t, "all records stored", func() bool { return m.len() >= labRecords })
	if err := c.stop(); err != nil {
		t.Fatal(err)
	}
	s := c.Status()
	balanced(t, s)
	if m.len() != labRecords || m.flushed != labRecords {
		t.Errorf("%d records stored, %d flushed, want %d", m.len(), m.flushed, labRecords)
	}
	want := map[string][2]uint64{"172.16.1.1": {214, 11260}, "172.16.1.2": {217, 251380}}
	if d := cmp.Diff(want, tcpSums(m)); d != "" {
		t.Error(d)
	}
	if len(s.Exporters) != 6 { // three bridges of two hosts; domain 0 only describes them
		t.Errorf("%d exporters, want 6", len(s.Exporters))
	}
	for _, x := range s.Exporters {
		if (x.Name == "h1 br-vxlan") != (x.Domain == 101) || x.LostRecords != 0 || x.Errors != 0 {
			t.Errorf("exporter %+v", x)
		}
	}
}

// A collector that was killed says so at its next start; one that was stopped says that. Templates come back.
func TestRestart(t *testing.T) {
	ds := labDatagrams(t)[:300]
	dir := t.TempDir()
	m := &memory{}
	c := start(t, m, func(cfg *Config) { cfg.Dir = dir })
	replay(t, c, ds)
	testkit.Eventually(t, "records stored", func() bool { return m.len() > 100 })
	before := time.Now()
	if err := c.stop(); err != nil {
		t.Fatal(err)
	}
	f := func(reason string, prepare func()) {
		t.Helper()
		prepare()
		m := &memory{}
		c := start(t, m, func(cfg *Config) { cfg.Dir = dir })
		testkit.Eventually(t, "gap noted", func() bool { m.mu.Lock(); defer m.mu.Unlock(); return len(m.gaps) > 0 })
		testkit.Eventually(t, "templates back", func() bool { return c.sessions.Stats().Sessions > 0 })
		if err := c.stop(); err != nil {
			t.Fatal(err)
		}
		g := m.gaps[0]
		if g.Reason != reason || g.Scope != "collector" || g.FromNS < before.Add(-2*time.Second).UnixNano() || g.ToNS <= g.FromNS || len(m.gaps) != 1 {
			t.Errorf("gaps %+v, want %q", m.gaps, reason)
		}
	}
	f(ReasonStopped, func() {})
	f(ReasonKilled, func() { // the last beat of one that was killed
		if err := (heartbeat{dir}).write(time.Now().UnixNano(), false); err != nil {
			t.Fatal(err)
		}
	})
	f(ReasonKilled, func() { // a beat that a crash has torn
		if err := os.WriteFile(filepath.Join(dir, beatFile), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	})
}

// A store that refuses ends the line with its error, and nothing hangs.
func TestStoreFails(t *testing.T) {
	boom := errors.New("disk on fire")
	ds := labDatagrams(t)[:300]
	c := start(t, &memory{broken: boom}, nil)
	replay(t, c, ds)
	testkit.Eventually(t, "records refused", func() bool { return c.stored.Read().Dropped[dropStore].N > 0 })
	if err := c.stop(); !errors.Is(err, boom) {
		t.Errorf("error %v", err)
	}
}

// A store that stands still makes the line shed and say so; the books still add up.
func TestSlowStoreSheds(t *testing.T) {
	ds := labDatagrams(t)
	m := &memory{gate: make(chan struct{})}
	c := start(t, m, func(cfg *Config) { cfg.Queue, cfg.Workers = 1, 2 })
	moves := sync.OnceFunc(func() { close(m.gate) })
	t.Cleanup(moves)
	replay(t, c, ds)
	testkit.Eventually(t, "something shed", func() bool { return c.dispatch.Read().Dropped[dropQueueFull].N > 0 })
	moves()
	if err := c.stop(); err != nil {
		t.Fatal(err)
	}
	balanced(t, c.Status())
	told := false
	for _, g := range m.gaps {
		told = told || g.Reason == ReasonQueue && g.FromNS < g.ToNS
	}
	if !told {
		t.Errorf("gaps %+v", m.gaps)
	}
}

// capture is a source that ends.
type capture []exports.Datagram

func (s capture) Run(ctx context.Context, out chan<- listen.Batch) error {
	for _, d := range s {
		b := listen.Batch{Datagrams: []listen.Datagram{{Data: d.Data, From: d.From, Local: d.To, TimeNS: d.TimeNS, Protocol: flowproto.IPFIX}}}
		select {
		case out <- b:
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}

// atOnce gives all datagrams in one batch.
type atOnce capture

func (s atOnce) Run(ctx context.Context, out chan<- listen.Batch) error {
	var all listen.Batch
	one, done := make(chan listen.Batch), make(chan error, 1)
	go func() {
		defer close(one)
		done <- capture(s).Run(ctx, one)
	}()
	for b := range one {
		all.Datagrams = append(all.Datagrams, b.Datagrams...)
	}
	select {
	case out <- all:
	case <-ctx.Done():
	}
	return <-done
}

// An import ends with its source, loses nothing however slow the store and however large the batches, and leaves no trace but the records.
func TestImport(t *testing.T) {
	testImport(t, capture(labDatagrams(t)))
	testImport(t, atOnce(labDatagrams(t)))
}

func testImport(t *testing.T, src Source) {
	t.Helper()
	dir := t.TempDir()
	m := &memory{slow: time.Millisecond}
	cfg := DefaultConfig()
	cfg.Store, cfg.Sources, cfg.Import, cfg.Queue, cfg.Workers, cfg.Dir = m, []Source{src}, true, 1, 2, dir
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	balanced(t, c.Status())
	if m.flushed != labRecords || len(m.gaps) != 0 {
		t.Errorf("%d records, gaps %+v", m.flushed, m.gaps)
	}
	want := map[string][2]uint64{"172.16.1.1": {214, 11260}, "172.16.1.2": {217, 251380}}
	if d := cmp.Diff(want, tcpSums(m)); d != "" {
		t.Error(d)
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 0 {
		t.Errorf("files %v, %v", files, err)
	}
}

func TestLossIsNotedByName(t *testing.T) {
	ds := exports.Read(t, testkit.Corpus(t, "collect/ovs-lab/h1.pcap"), ipfix.Port)
	var kept capture
	lost := 0
	for i, d := range ds {
		if d.From.Port() == 39102 && i > 500 && lost < 5 && len(kept) > 0 { // the geneve bridge: one record in each datagram
			lost++
			continue
		}
		kept = append(kept, d)
	}
	m := &memory{}
	cfg := DefaultConfig()
	cfg.Store, cfg.Sources, cfg.Import = m, []Source{kept}, true
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	c.SetInventory(identity.NewBook(identity.Inventory{Observers: []identity.Observer{{Name: "h1 br-geneve", Domain: 102}}}))
	if err := c.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	if len(m.gaps) != 1 || m.gaps[0].LostRecords != 5 || m.gaps[0].Who != "h1 br-geneve" || m.gaps[0].Scope != "exporter" {
		t.Errorf("gaps %+v", m.gaps)
	}
}

func TestValidate(t *testing.T) {
	f := func(want string, change func(*Config)) {
		t.Helper()
		cfg := DefaultConfig()
		cfg.Store, cfg.Sources = &memory{}, []Source{capture(nil)}
		change(&cfg)
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
	f("no store", func(c *Config) { c.Store = nil })
	f("no source", func(c *Config) { c.Sources = nil })
	f("decoders", func(c *Config) { c.Workers = -1 })
	f("queue", func(c *Config) { c.Queue = 0 })
	f("listen", func(c *Config) { c.Listen = []listen.Config{{Addr: "x"}} })
	f("session", func(c *Config) { c.Session.MaxSessions = 0 })
	f("enrich", func(c *Config) { c.Enrich.MaxFlows = 0 })
}

// noise is the lab's datagrams cut, bent and from everywhere.
func noise(t *testing.T) capture {
	t.Helper()
	r := rand.New(rand.NewPCG(11, 12))
	var out capture
	for i, d := range labDatagrams(t) {
		out = append(out, d)
		if i%3 != 0 {
			continue
		}
		cut := d
		cut.Data = d.Data[:r.IntN(len(d.Data))]
		bent := d
		bent.Data = slices.Clone(d.Data)
		for range 1 + r.IntN(30) {
			bent.Data[r.IntN(len(bent.Data))] = byte(r.Uint32())
		}
		if i%2 == 0 {
			bent.From = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 66, byte(r.Uint32()), byte(r.Uint32())}), uint16(r.Uint32()))
		}
		out = append(out, cut, bent)
	}
	return out
}

// Hostile datagrams go through the whole line: all are counted, and what is stored has times and identifiers.
func TestHostile(t *testing.T) {
	ds := noise(t)
	m := &memory{}
	cfg := DefaultConfig()
	cfg.Store, cfg.Sources, cfg.Import, cfg.Workers, cfg.Session.MaxSessions, cfg.Enrich.MaxFlows = m, []Source{ds}, true, 2, 20, 64
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	s := c.Status()
	balanced(t, s)
	if s.Books[0].In != uint64(len(ds)) || s.Sessions.Sessions > 20 || s.Flows.Flows > 64 || s.Sessions.Evicted == 0 || s.Flows.Evicted == 0 {
		t.Errorf("%+v", s)
	}
	for _, r := range m.recs {
		if r.FlowID == 0 || r.ObserverID == 0 || r.StartNS > r.EndNS || r.EndNS > r.RecvNS+int64(time.Hour) || r.EndNS < r.RecvNS-8*int64(24*time.Hour) {
			t.Fatalf("stored %+v", r)
		}
	}
}
