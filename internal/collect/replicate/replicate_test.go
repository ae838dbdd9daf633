package replicate

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"crosstap/internal/flowproto"
	"crosstap/internal/ledger"
	"crosstap/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// receiver is a collector's socket.
type receiver struct {
	c    *net.UDPConn
	addr netip.AddrPort
}

func listen(t *testing.T, at string) receiver {
	t.Helper()
	pc, err := net.ListenPacket("udp", at)
	if err != nil {
		t.Fatal(err)
	}
	c := pc.(*net.UDPConn) //nolint:forcetypeassert // of network udp
	t.Cleanup(func() { c.Close() })
	return receiver{c, c.LocalAddr().(*net.UDPAddr).AddrPort()} //nolint:forcetypeassert // of network udp
}

// next returns one datagram and where it came from.
func (r receiver) next(t *testing.T) (string, netip.AddrPort) {
	t.Helper()
	b := make([]byte, 65536)
	_ = r.c.SetReadDeadline(time.Now().Add(time.Minute))
	n, from, err := r.c.ReadFromUDPAddrPort(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n]), netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
}

func exporter(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), uint16(50000+i))
}

func start(t *testing.T, c Config) (r *Replicator, end func() Status) {
	t.Helper()
	r, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Bind(nil); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { r.Run(t.Context()); close(done) }()
	return r, func() Status {
		t.Helper()
		r.Close()
		<-done
		s := r.Status()
		books := []ledger.Statement{s.Book}
		for _, x := range s.Targets {
			books = append(books, x.Book)
		}
		for _, b := range books {
			if err := b.Balance(); err != nil || b.Held != 0 {
				t.Errorf("%v, %+v", err, b)
			}
		}
		return s
	}
}

func TestAll(t *testing.T) {
	a, b := listen(t, "127.0.0.1:0"), listen(t, "[::1]:0")
	r, end := start(t, Config{
		Name: "x", To: []netip.AddrPort{a.addr, b.addr}, Source: Own, Share: All, Exporters: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/29")},
		Protocols: []flowproto.Protocol{flowproto.IPFIX},
	})
	ports := map[string]netip.AddrPort{}
	for i := range 10 {
		from := exporter(i % 2)
		data := []byte(fmt.Sprintf("datagram %d", i))
		r.Offer(Datagram{Data: data, From: from, Protocol: flowproto.IPFIX})
		clear(data) // it was copied
		got, sender := a.next(t)
		if got != fmt.Sprintf("datagram %d", i) {
			t.Fatalf("%q", got)
		}
		if p, ok := ports[from.String()]; ok && p != sender { // a session keeps its port
			t.Errorf("%v from %v and %v", from, p, sender)
		}
		ports[from.String()] = sender
		if got6, _ := b.next(t); got6 != got {
			t.Fatalf("%q", got6)
		}
	}
	if len(ports) != 2 || ports[exporter(0).String()] == ports[exporter(1).String()] {
		t.Errorf("%v", ports)
	}
	r.Offer(Datagram{From: exporter(9), Protocol: flowproto.IPFIX})
	r.Offer(Datagram{From: exporter(1), Protocol: flowproto.SFlow})
	r.Offer(Datagram{From: exporter(1), Protocol: flowproto.IPFIX, Stream: true})
	s := end()
	if s.Book.In != 13 || s.Book.Out != 10 || s.Book.Dropped[dropFiltered].N != 2 || s.Book.Dropped[dropStream].N != 1 || s.Targets[0].Book.Out != 10 || s.Targets[1].Book.Out != 10 {
		t.Errorf("%+v", s)
	}
}

// Each exporter has one target for all its datagrams, and the targets have as many exporters.
func TestSticky(t *testing.T) {
	a, b, c := listen(t, "127.0.0.1:0"), listen(t, "127.0.0.1:0"), listen(t, "127.0.0.1:0")
	r, end := start(t, Config{Name: "x", To: []netip.AddrPort{a.addr, b.addr, c.addr}, Source: Own, Share: Sticky})
	for i := range 90 {
		r.Offer(Datagram{Data: []byte{byte(i % 9)}, From: exporter(i % 9)})
	}
	for _, x := range []receiver{a, b, c} {
		seen := map[string]int{}
		for range 30 {
			data, _ := x.next(t)
			seen[data]++
		}
		if len(seen) != 3 {
			t.Errorf("exporters %v", seen)
		}
	}
	if s := end(); s.Targets[0].Book.Out != 30 || s.Targets[1].Book.Out != 30 || s.Targets[2].Book.Out != 30 {
		t.Errorf("%+v", s)
	}
}

// A queue that is not emptied is bounded; what it has is counted when the line is broken off.
func TestFull(t *testing.T) {
	r, err := New(Config{Name: "x", To: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:9")}, Source: Own, Share: All, Queue: 5})
	if err != nil {
		t.Fatal(err)
	}
	for range 8 {
		r.Offer(Datagram{Data: []byte("x"), From: exporter(1)})
	}
	if b := r.Status().Targets[0].Book; b.Held != 5 || b.Dropped[dropQueue].N != 3 {
		t.Errorf("%+v", b)
	}
	big := make([]byte, 65000)
	r.targets[0].queue = newQueue(1 << 20)
	n := 0
	for r.targets[0].queue.put(exporter(1), big) {
		n++
	}
	if n*len(big) > maxWaiting {
		t.Errorf("%d bytes wait", n*len(big))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	q := newQueue(5)
	if _, ok := q.take(ctx, block{}); ok {
		t.Error("something came")
	}
}

func TestLoops(t *testing.T) {
	f := func(to, own string, refused bool) {
		t.Helper()
		c := Config{Name: "x", To: []netip.AddrPort{netip.MustParseAddrPort(to)}, Source: Own, Share: All}
		r, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		err = r.Bind([]netip.AddrPort{netip.MustParseAddrPort(own)})
		if refused != (err != nil) || refused && !strings.Contains(err.Error(), "is our own listener") {
			t.Errorf("%s, listening on %s: %v", to, own, err)
		}
	}
	f("127.0.0.1:2055", "127.0.0.1:2055", true)
	f("127.0.0.1:2055", "0.0.0.0:2055", true)
	f("127.0.0.1:2055", "[::]:2055", true)
	f("[::ffff:127.0.0.1]:2055", "127.0.0.1:2055", true)
	f("127.0.0.1:2056", "127.0.0.1:2055", false)
	f("203.0.113.9:2055", "0.0.0.0:2055", false)
	// what comes from a target does not go back to it
	r, err := New(Config{Name: "x", To: []netip.AddrPort{netip.MustParseAddrPort("203.0.113.9:2055")}, Source: Own, Share: All})
	if err != nil {
		t.Fatal(err)
	}
	r.Offer(Datagram{From: netip.MustParseAddrPort("203.0.113.9:4000")})
	if b := r.Status().Targets[0].Book; b.Dropped[dropLoop].N != 1 || b.Balance() != nil {
		t.Errorf("%+v", b)
	}
}

func TestValidate(t *testing.T) {
	f := func(change func(*Config), want string) {
		t.Helper()
		c := Config{Name: "x", To: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.9:2055")}, Source: Own, Share: All}
		change(&c)
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	f(func(c *Config) { c.To = nil }, "no target")
	f(func(c *Config) { c.To = append(c.To, c.To[0]) }, "given twice")
	f(func(c *Config) { c.To[0] = netip.MustParseAddrPort("0.0.0.0:1") }, "want the IP:PORT of a collector")
	f(func(c *Config) { c.Source = "spoof" }, `source "spoof": want own, keep or try`)
	f(func(c *Config) { c.Share = "rr" }, `share "rr": want all or sticky`)
	f(func(c *Config) { c.Queue = -1 }, "queue of -1")
}
