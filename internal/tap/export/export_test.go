package export

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/flow"
	"crosstap/internal/flowproto/decode"
	"crosstap/internal/flowproto/ipfix"
	"crosstap/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func TestParseTarget(t *testing.T) {
	f := func(s string, want Target, back string) {
		t.Helper()
		got, err := ParseTarget(s)
		if err != nil {
			t.Error(err)
			return
		}
		if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
			t.Errorf("%s (-want +got):\n%s", s, diff)
		}
		if got.String() != back {
			t.Errorf("%s: String() = %s, want %s", s, got, back)
		}
	}
	f("ipfix://10.0.0.9", Target{Host: "10.0.0.9", Port: 4739, Refresh: time.Minute}, "ipfix://10.0.0.9:4739")
	f("ipfix://[2001:db8::9]:2055?profile=vmware", Target{Host: "2001:db8::9", Port: 2055, Refresh: time.Minute, Profile: ipfix.VMware},
		"ipfix://[2001:db8::9]:2055?profile=vmware")
	f("ipfix://c.example?profile=ovs&domain=0x10&refresh=10s&source=10.0.0.1&mtu=1400",
		Target{Host: "c.example", Port: 4739, Domain: 16, Refresh: 10 * time.Second, Source: netip.MustParseAddr("10.0.0.1"), MTU: 1400},
		"ipfix://c.example:4739?domain=16&mtu=1400&refresh=10s&source=10.0.0.1")
	f("ipfix+tls://c.example?ca=ca.pem&cert=c.pem&key=k.pem&server_name=x&spool=1GiB&biflow&sample=10&filter=not%20port%2022",
		Target{Transport: TLS, Host: "c.example", Port: 4740, Refresh: time.Minute, CA: "ca.pem", Cert: "c.pem", Key: "k.pem", ServerName: "x",
			SpoolBytes: 1 << 30, Biflow: true, Sample: 10, Filter: "not port 22"},
		"ipfix+tls://c.example:4740?biflow=yes&ca=ca.pem&cert=c.pem&filter=not%20port%2022&key=k.pem&sample=10&server_name=x&spool=1GiB")
	f("ipfix+tcp://c.example", Target{Transport: TCP, Host: "c.example", Port: 4739, Refresh: time.Minute, SpoolBytes: DefaultSpoolBytes}, "ipfix+tcp://c.example:4739")
	f("netflow9://c.example?refresh_packets=20", Target{Format: NetFlow9, Host: "c.example", Port: 2055, Refresh: time.Minute, RefreshPackets: 20},
		"netflow9://c.example:2055?refresh_packets=20")
	f("netflow5://c.example:9995?engine_id=3", Target{Format: NetFlow5, Host: "c.example", Port: 9995, Refresh: time.Minute, EngineID: 3},
		"netflow5://c.example:9995?engine_id=3")
}

func TestParseTargetRefuses(t *testing.T) {
	f := func(s, why string) {
		t.Helper()
		if got, err := ParseTarget(s); err == nil || err.Error() != "export: "+s+": "+why {
			t.Errorf("ParseTarget(%q) = %v, %v", s, got, err)
		}
	}
	f("udp://h", `scheme "udp" is not known here, want ipfix, ipfix+tcp, ipfix+tls, netflow9, netflow5`)
	f("ipfx://h", `scheme "ipfx" is not known here; did you mean ipfix://?`)
	f("ipfix://h?sample=0", `sample=0: want one flow in so many, 1 for all`)
	f("ipfix:///", "no host, want ipfix://HOST[:PORT]")
	f("ipfix://h:0", `port "0": want 1 to 65535`)
	f("ipfix://h:99999", `port "99999": want 1 to 65535`)
	f("ipfix://h/x", "only a host, a port and options after ? are expected")
	f("ipfix://h?profile=nsx", `profile=nsx: want ovs or vmware`)
	f("ipfix://h?domain=-1", `domain=-1: want a number of 32 bits`)
	f("ipfix://h?refresh=1ms", `refresh=1ms: want a duration from 1s to 24h0m0s, such as 1m0s`)
	f("ipfix://h?source=x", `source=x: want an IP address`)
	f("ipfix://h?mtu=100", `mtu=100: want 560 to 65535 bytes`)
	f("ipfix://h?domain=1&domain=2", "domain=2: is given twice")
	f("ipfix://h?refesh=1m", `option "refesh" is not known; did you mean "refresh"?`)
	f("netflow5://h?domain=1", `option "domain" is not known, use engine_id, engine_type, filter, mtu, sample, source`)
	f("ipfix://h?ca=x", `option "ca" is not known, use biflow, domain, filter, mtu, profile, refresh, refresh_packets, sample, source`)
	f("ipfix+tcp://h?spool=1KiB", `spool=1KiB: want 0 for no spool, or at least 1MiB, such as 256MiB`)
	f("ipfix://h?filter=tcp%20prot%2080", `filter=tcp%20prot%2080: filter: column 5: "prot" is not expected; did you mean "port"?`)
	f("ipfix://h?color=red", `option "color" is not known, use biflow, domain, filter, mtu, profile, refresh, refresh_packets, sample, source`)
}

func TestNewRefuses(t *testing.T) {
	f := func(c Config, want string) {
		t.Helper()
		if _, err := New(c); err == nil || err.Error() != want {
			t.Errorf("New(%+v) = %v, want %s", c, err, want)
		}
	}
	one := []Target{{Host: "h", Port: 1}}
	f(Config{}, "export: no collector: give at least one ipfix://HOST")
	f(Config{Targets: one, FlushInterval: time.Minute, Queue: 1}, "export: flush interval 1m0s: want more than 0 and at most 1s")
	f(Config{Targets: one, FlushInterval: time.Second}, "export: queue of 0 records: want at least 1")
	f(Config{Targets: append(one, one...), FlushInterval: time.Second, Queue: 1}, "export: collector ipfix://h:1?refresh=0s is given twice")
}

// records returns n flows that differ in their source port.
func records(n int) []flow.Record {
	at := time.Now().Add(-time.Second).Truncate(time.Millisecond).UnixNano()
	recs := make([]flow.Record, n)
	for i := range recs {
		recs[i] = flow.Record{
			StartNS: at, EndNS: at, Domain: 5, Proto: 17, SrcPort: uint16(i), DstPort: 53, EtherType: 0x0800, Observer: "test",
			Src: flow.FromNetip(netip.MustParseAddr("10.0.0.1")), Dst: flow.FromNetip(netip.MustParseAddr("10.0.0.2")),
			SrcMAC: 1, DstMAC: 2, Packets: 1, Octets: 60, L2Octets: 74,
		}
	}
	return recs
}

// patience is how long a test waits for what must happen.
const patience = time.Minute

// collector is a socket that decodes what comes.
type collector struct {
	conn      *net.UDPConn
	session   *ipfix.Session
	recs      []flow.Record
	templates int
	lost      uint64
	longest   int
}

func listen(t *testing.T, network, at string) *collector {
	t.Helper()
	conn, err := net.ListenPacket(network, at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.(*net.UDPConn).SetReadBuffer(4 << 20)
	return &collector{conn: conn.(*net.UDPConn), session: ipfix.NewSession(ipfix.Limits{})}
}

func (c *collector) target(t *testing.T) Target {
	t.Helper()
	a := c.conn.LocalAddr().(*net.UDPAddr)
	return Target{Host: a.IP.String(), Port: uint16(a.Port), Domain: 5, Refresh: time.Minute}
}

// read decodes until there are n records, or nothing comes for long.
func (c *collector) read(t *testing.T, n int) {
	t.Helper()
	buf := make([]byte, 65536)
	for len(c.recs) < n {
		_ = c.conn.SetReadDeadline(time.Now().Add(patience))
		size, err := c.conn.Read(buf)
		if err != nil {
			t.Fatalf("%d of %d records came: %v", len(c.recs), n, err)
		}
		var res ipfix.Result
		c.recs, res, err = c.session.Decode(buf[:size], 0, c.recs)
		if err != nil || res.MissingSets > 0 {
			t.Fatalf("%v, %+v", err, res)
		}
		c.templates += res.Templates
		c.lost += res.Lost
		c.longest = max(c.longest, size)
	}
}

// line is a running exporter.
type line struct {
	*Exporter
	in   chan []flow.Record
	done chan error
}

func start(t *testing.T, ctx context.Context, c Config) line {
	t.Helper()
	e, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	l := line{e, make(chan []flow.Record), make(chan error, 1)}
	go func() { l.done <- e.Run(ctx, l.in) }()
	return l
}

// end closes the line and checks its books.
func (l line) end(t *testing.T) {
	t.Helper()
	close(l.in)
	if err := <-l.done; err != nil {
		t.Errorf("Run: %v", err)
	}
	l.balanced(t)
}

func (l line) balanced(t *testing.T) {
	t.Helper()
	for _, b := range l.Books() {
		s := b.Read()
		if err := s.Balance(); err != nil || s.Held != 0 {
			t.Errorf("books: %v, %+v", err, s)
		}
	}
}

func config(targets ...Target) Config {
	c := DefaultConfig()
	c.Targets, c.FlushInterval = targets, 20*time.Millisecond
	return c
}

func TestExport(t *testing.T) {
	f := func(network, at string, max int) {
		t.Helper()
		a, b := listen(t, network, at), listen(t, network, at)
		vm := b.target(t)
		vm.Profile = ipfix.VMware
		l := start(t, t.Context(), config(a.target(t), vm))
		want := records(300)
		l.in <- want[:200]
		l.in <- want[200:]
		for _, c := range []*collector{a, b} {
			c.read(t, 300)
			for i := range c.recs {
				c.recs[i].RecvNS = 0
			}
			if diff := cmp.Diff(want, c.recs); diff != "" {
				t.Errorf("records (-sent +received):\n%s", diff)
			}
			if c.lost != 0 || c.templates == 0 || c.longest > max || c.longest < max-300 {
				t.Errorf("%d lost, %d templates, longest message %d bytes", c.lost, c.templates, c.longest)
			}
		}
		l.end(t)
	}
	f("udp4", "127.0.0.1:0", 1472)
	f("udp6", "[::1]:0", 1452)
}

// A batch that fills no message leaves within the flush interval, and templates come without any flow.
func TestFlushAndKeepAlive(t *testing.T) {
	c := listen(t, "udp4", "127.0.0.1:0")
	l := start(t, t.Context(), config(c.target(t)))
	buf := make([]byte, 2048)
	_ = c.conn.SetReadDeadline(time.Now().Add(patience))
	n, err := c.conn.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	_, res, err := c.session.Decode(buf[:n], 0, nil)
	if err != nil || res.Templates < 4 || res.Records != 0 {
		t.Errorf("first message: %v, %+v", err, res)
	}
	l.in <- records(1)
	c.read(t, 1)
	l.end(t)
}

// Nobody listens: every message is refused, nothing waits, and a collector that comes later can decode.
func TestRefusedThenThere(t *testing.T) {
	target := local(IPFIX, testkit.Port(t))
	l := start(t, t.Context(), config(target))
	for end := time.Now().Add(patience); l.Status()[0].Refused == 0 && time.Now().Before(end); {
		l.in <- records(10)
		time.Sleep(30 * time.Millisecond)
	}
	if s := l.Status()[0]; s.Refused == 0 || s.LastError == "" {
		t.Errorf("status: %+v", s)
	}
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(target.Port)})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var decoded atomic.Int64
	go func() { // the collector: counts records that it can decode
		s, buf := ipfix.NewSession(ipfix.Limits{}), make([]byte, 2048)
		for {
			n, err := conn.Read(buf)
			if err != nil {
				return
			}
			recs, _, _ := s.Decode(buf[:n], 0, nil)
			decoded.Add(int64(len(recs)))
		}
	}()
	for deadline := time.Now().Add(patience); decoded.Load() == 0 && time.Now().Before(deadline); {
		l.in <- records(10)
		time.Sleep(50 * time.Millisecond)
	}
	if decoded.Load() == 0 {
		t.Errorf("the collector could decode nothing; status %+v", l.Status()[0])
	}
	l.end(t)
}

// A full queue drops and counts; the line is never held up.
func TestQueueFull(t *testing.T) {
	c := config(Target{Host: "127.0.0.1", Port: 9, Domain: 1})
	c.Queue = 10
	e, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	s := e.senders[0] // not running: nothing leaves the queue
	for range 5 {
		s.offer(t.Context(), records(4))
	}
	st := s.book.Read()
	if st.In != 20 || st.Held != 8 || st.Dropped[DropQueue].N != 12 || st.Balance() != nil {
		t.Errorf("books: %+v", st)
	}
}

// The collector is told what was dropped before.
func TestReportsWhatWasNotSent(t *testing.T) {
	c := listen(t, "udp4", "127.0.0.1:0")
	e, err := New(config(c.target(t)))
	if err != nil {
		t.Fatal(err)
	}
	s := e.senders[0]
	s.book.In(3)
	s.book.Hold(3)
	s.drop(DropQueue, records(3))
	told := make(map[string]string)
	c.session.OnOption(func(it decode.Option) {
		for v := range it.Fields() {
			told[v.Name()] = v.Text()
		}
	})
	in, done := make(chan []flow.Record), make(chan error, 1)
	go func() { done <- e.Run(t.Context(), in) }()
	for len(told) == 0 {
		buf := make([]byte, 2048)
		_ = c.conn.SetReadDeadline(time.Now().Add(patience))
		n, err := c.conn.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		_, _, _ = c.session.Decode(buf[:n], 0, nil)
	}
	close(in)
	if err := <-done; err != nil {
		t.Error(err)
	}
	for name := range told {
		if !strings.HasPrefix(name, "notSent") {
			delete(told, name)
		}
	}
	want := map[string]string{"notSentFlowTotalCount": "3", "notSentPacketTotalCount": "3", "notSentOctetTotalCount": "180"}
	if diff := cmp.Diff(want, told); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Without a route or name the records are dropped under their own reason.
func TestNoPath(t *testing.T) {
	l := start(t, t.Context(), config(Target{Host: "name.invalid", Port: 4739, Domain: 1}))
	l.in <- records(3)
	l.end(t)
	s := l.Books()[0].Read()
	if s.Dropped[DropNoPath].N != 3 || l.Status()[0].LastError == "" {
		t.Errorf("books %+v, status %+v", s, l.Status()[0])
	}
}

func TestContextEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	c := listen(t, "udp4", "127.0.0.1:0")
	l := start(t, ctx, config(c.target(t)))
	l.in <- records(5)
	cancel()
	if err := <-l.done; !errors.Is(err, context.Canceled) {
		t.Errorf("Run: %v", err)
	}
	l.balanced(t)
}

// With Wait every record arrives, however small the queue.
func TestWait(t *testing.T) {
	c := listen(t, "udp4", "127.0.0.1:0")
	_ = c.conn.SetReadBuffer(4 << 20)
	cfg := config(c.target(t))
	cfg.Queue, cfg.Wait = 1, true
	l := start(t, t.Context(), cfg)
	go func() {
		for range 40 {
			l.in <- records(25)
		}
	}()
	c.read(t, 1000)
	l.end(t)
	if s := l.Books()[0].Read(); s.Out != 1000 {
		t.Errorf("books: %+v", s)
	}
}
