package listen

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/ledger"

	"crosstap/internal/flowproto"
	"crosstap/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// start runs a listener; stop ends it and returns its final book.
func start(t *testing.T, cfg Config, out chan Batch) (l *Listener, stop func() Status) {
	t.Helper()
	l, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Bind(context.Background()); err != nil {
		t.Skipf("cannot bind %s: %v", cfg.Addr, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { defer close(out); done <- l.Run(ctx, out) }()
	return l, func() Status {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		return l.Status()
	}
}

func dial(t *testing.T, to netip.AddrPort) *net.UDPConn {
	t.Helper()
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func send(t *testing.T, c *net.UDPConn, b []byte) {
	t.Helper()
	if _, err := c.Write(b); err != nil {
		t.Fatal(err)
	}
}

func balanced(t testing.TB, s ledger.Statement) {
	t.Helper()
	if err := s.Balance(); err != nil {
		t.Error(err)
	}
}

func TestReceive(t *testing.T) {
	sockets := 0
	f := func(addr, to string) {
		t.Helper()
		cfg := DefaultConfig()
		cfg.Addr, cfg.Sockets = addr, sockets
		out := make(chan Batch, 64)
		before := time.Now().UnixNano()
		l, stop := start(t, cfg, out)
		target := netip.AddrPortFrom(netip.MustParseAddr(to), l.Addr().Port())
		c := dial(t, target)
		big := make([]byte, 65507)
		copy(big, []byte{0, 10, 1, 2})
		for _, b := range [][]byte{{0, 10, 7}, {0, 5}, {0, 9}, {0, 0, 0, 5}, {1}, {9, 9}, {}, big, {0, 10, 8}} {
			send(t, c, b)
		}
		var got [][]byte
		from := unmap(c.LocalAddr().(*net.UDPAddr).AddrPort())
		for len(got) < 6 {
			b := <-out
			for _, d := range b.Datagrams {
				got = append(got, append([]byte(nil), d.Data...))
				if d.From != from || d.Local != target || d.TimeNS < before || d.TimeNS > time.Now().UnixNano() || d.Protocol != flowproto.Detect(d.Data) || d.Via != UDP {
					t.Errorf("datagram from %v to %v at %d, %v", d.From, d.Local, d.TimeNS, d.Protocol)
				}
			}
			b.Release()
		}
		if d := cmp.Diff([][]byte{{0, 10, 7}, {0, 5}, {0, 9}, {0, 0, 0, 5}, big, {0, 10, 8}}, got); d != "" {
			t.Error("datagrams differ")
		}
		s := stop()
		balanced(t, s.Book)
		want := ledger.Statement{Stage: "listen", Unit: ledger.Datagrams, In: 9, Out: 6, Dropped: []ledger.Count{
			{Reason: "kernel"}, {Reason: "truncated"}, {Reason: "empty", N: 2}, {Reason: "unknown-protocol", N: 1}, {Reason: "refused"},
			{Reason: "bad-framing"}, {Reason: "cut"}, {Reason: "interrupted"},
		}}
		if d := cmp.Diff(want, s.Book); d != "" {
			t.Error(d)
		}
	}
	for _, sockets = range []int{1, 4} {
		f("127.0.0.1:0", "127.0.0.1")
		f("[::1]:0", "::1")
		f(":0", "127.0.0.1") // dual stack: addresses keep their own form, and the local one is told
	}
}

func TestKernelDropsAreCounted(t *testing.T) {
	for _, sockets := range []int{1, 3} {
		testKernelDrops(t, sockets)
	}
}

func testKernelDrops(t *testing.T, sockets int) {
	cfg := DefaultConfig()
	cfg.Addr, cfg.ReceiveBuffer, cfg.Sockets, cfg.Slabs, cfg.Batch = "127.0.0.1:0", 4096*sockets, sockets, 2, 1
	out := make(chan Batch)
	l, stop := start(t, cfg, out)
	c := dial(t, l.Addr())
	const sent = 500
	b := make([]byte, 1000)
	binary.BigEndian.PutUint16(b, 10)
	for range sent { // nobody reads: the listener waits, the kernel drops
		send(t, c, b)
	}
	read := make(chan int)
	go func() {
		n := 0
		for b := range out {
			n += len(b.Datagrams)
			b.Release()
		}
		read <- n
	}()
	s := stop()
	n := <-read
	balanced(t, s.Book)
	if s.Book.In != sent || s.Book.Dropped[DropKernel].N == 0 || uint64(n) != s.Book.Out {
		t.Errorf("%d sent, %d read, book %+v", sent, n, s.Book)
	}
}

// A reader that has gone away does not keep the listener from ending, and nothing is lost uncounted.
func TestStopWithoutReader(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Addr, cfg.Slabs, cfg.Batch, cfg.Sockets = "127.0.0.1:0", 2, 2, 1
	out := make(chan Batch, 1)
	l, stop := start(t, cfg, out)
	c := dial(t, l.Addr())
	for range 20 {
		send(t, c, []byte{0, 10})
	}
	s := stop()
	balanced(t, s.Book)
	if s.Book.Out > 2 {
		t.Errorf("book %+v", s.Book)
	}
	for b := range out {
		b.Release()
	}
}

func TestBindSaysWhoHasThePort(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Addr = "127.0.0.1:0"
	a, _ := New(cfg)
	if err := a.Bind(context.Background()); err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	cfg.Addr = a.Addr().String()
	b, _ := New(cfg)
	err := b.Bind(context.Background())
	if err == nil || !cmp.Equal(err.Error()[:len("listen: udp 127.0.0.1:")], "listen: udp 127.0.0.1:") {
		t.Errorf("error %v", err)
	}
}

func TestValidate(t *testing.T) {
	f := func(change func(*Config)) {
		t.Helper()
		c := DefaultConfig()
		change(&c)
		if _, err := New(c); err == nil {
			t.Errorf("accepted %+v", c)
		}
	}
	f(func(c *Config) { c.Addr = "localhost" })
	f(func(c *Config) { c.Batch = 0 })
	f(func(c *Config) { c.Slabs = 1 })
	f(func(c *Config) { c.ReceiveBuffer = -1 })
	f(func(c *Config) { c.Sockets = maxSockets + 1 })
	f(func(c *Config) { c.Allow = make([]netip.Prefix, 1) })
	f(func(c *Config) { c.Transport, c.Stream.Connections = TCP, 0 })
	f(func(c *Config) { c.Transport, c.Stream.Idle = TCP, 0 })
	f(func(c *Config) { c.Transport = TLS }) // no certificate
	f(func(c *Config) { c.Transport, c.TLS = DTLS, TLSConfig{Cert: "/nonexistent", Key: "/nonexistent"} })
}

func TestDropCounterWraps(t *testing.T) {
	var c dropCounter
	for _, step := range []struct{ at, want uint32 }{{1 << 30, 1 << 30}, {1<<31 - 1, 1<<30 - 1}, {1 << 31, 1}, {1<<32 - 2, 1<<31 - 2}, {3, 5}, {2, 0}, {3, 0}, {4, 1}} {
		if got := c.advance(step.at); got != int(step.want) {
			t.Errorf("at %d: %d, want %d", step.at, got, step.want)
		}
	}
}

func FuzzParseOOB(f *testing.F) {
	f.Add([]byte{24, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 40, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(_ *testing.T, b []byte) { parseOOB(b) })
}
