package netnetflow

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"crosstap/internal/flowproto/netflow5"
	"crosstap/internal/tap/export"
	"crosstap/internal/testkit"
	"crosstap/internal/testns"
)

func TestMain(m *testing.M) { testkit.Main(m) }

const patience = time.Minute

// lab is a host with Linux bridges, whose VMs are namespaces.
type lab struct {
	t    *testing.T
	host *testns.Space
}

func newLab(t *testing.T) *lab {
	l := &lab{t, testns.New(t)}
	l.quiet(l.host)
	return l
}

// quiet keeps a namespace from sending anything by itself.
func (l *lab) quiet(s *testns.Space) { s.Sh("echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6") }

func (l *lab) bridge(name string) {
	l.host.Sh("ip link add " + name + " type bridge mcast_snooping 0 && ip link set " + name + " up")
}

// vm attaches a VM with that address to a bridge, by the port named.
func (l *lab) vm(bridge, port, addr string) *testns.Space {
	l.t.Helper()
	vm := testns.New(l.t)
	l.quiet(vm)
	l.host.Sh("ip link add name "+port+" type veth peer name eth0 netns NS && ip link set dev "+port+" master "+bridge+" up", vm)
	vm.Sh("ip addr add " + addr + "/24 dev eth0 && ip link set eth0 up")
	return vm
}

// send sends n datagrams with so many bytes from one VM's port 1000 to another's 2000. The receiver has no socket when quiet is false.
func (l *lab) send(from, to *testns.Space, addr string, n, size int) {
	l.t.Helper()
	var sink net.PacketConn
	l.must(to.Do(func() (err error) { sink, err = net.ListenPacket("udp4", addr+":2000"); return err }))
	defer sink.Close()
	l.must(from.Do(func() error {
		c, err := net.DialUDP("udp4", &net.UDPAddr{Port: 1000}, sink.LocalAddr().(*net.UDPAddr))
		if err != nil {
			return err
		}
		defer c.Close()
		for range n {
			if _, err := c.Write(make([]byte, size)); err != nil {
				return err
			}
		}
		return nil
	}))
	buf := make([]byte, 65536)
	_ = sink.SetReadDeadline(time.Now().Add(patience))
	for range n {
		if _, _, err := sink.ReadFrom(buf); err != nil {
			l.t.Fatal(err)
		}
	}
}

func (l *lab) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

// gram is a datagram of NetFlow v5.
type gram []byte

func (g gram) header() netflow5.Header { return netflow5.Header(g) }

func (g gram) records() (all []netflow5.Record) {
	for at := netflow5.HeaderLen; at < len(g); at += netflow5.RecordLen {
		all = append(all, netflow5.Record(g[at:at+netflow5.RecordLen]))
	}
	return all
}

// collector keeps what comes.
type collector struct {
	t     *testing.T
	conn  *net.UDPConn
	mu    sync.Mutex
	grams []gram
}

func newCollector(t *testing.T) *collector { return newCollectorAt(t, 0) }

// newCollectorAt is one at a port, 0 for any.
func newCollectorAt(t *testing.T, port int) *collector {
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
	if err != nil {
		t.Fatal(err)
	}
	col := &collector{t: t, conn: c}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 65536)
		for {
			n, err := c.Read(buf)
			if err != nil {
				return
			}
			col.mu.Lock()
			col.grams = append(col.grams, bytes.Clone(buf[:n]))
			col.mu.Unlock()
		}
	}()
	t.Cleanup(func() { c.Close(); <-done })
	return col
}

func (c *collector) port() uint16 { return uint16(c.conn.LocalAddr().(*net.UDPAddr).Port) }

func (c *collector) all() []gram {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.grams)
}

// lines are the flows that came, as text in order: engine, addresses, ports, input>output, packets and octets summed up.
func (c *collector) lines() []string {
	type sum struct{ packets, octets uint32 }
	sums := map[string]sum{}
	for _, g := range c.all() {
		for _, r := range g.records() {
			if r.Dst()[0] == 224 { // IGMP of the bridge itself
				continue
			}
			k := fmt.Sprintf("%d/%d %v:%d>%v:%d %d>%d", g.header().EngineType(), g.header().EngineID(), net.IP(r.Src()), r.SrcPort(), net.IP(r.Dst()),
				r.DstPort(), r.Input(), r.Output())
			s := sums[k]
			sums[k] = sum{s.packets + r.Packets(), s.octets + r.Octets()}
		}
	}
	var out []string
	for k, s := range sums {
		out = append(out, fmt.Sprintf("%s %d %d", k, s.packets, s.octets))
	}
	slices.Sort(out)
	return out
}

// output is what a run logs and sums up.
type output = testkit.Output

// running is a meter that runs.
type running struct {
	*Meter
	t    *testing.T
	log  *output
	stop func() error // ends it
}

func (l *lab) config(col *collector, switches ...string) Config {
	c := DefaultConfig()
	c.Switches, c.NetNS, c.OVSDB = switches, l.host.Path(), ""
	c.StateFile = filepath.Join(l.t.TempDir(), "ids.json")
	c.Targets = []export.Target{{Format: export.NetFlow5, Host: "127.0.0.1", Port: col.port(), Refresh: time.Minute}}
	c.Period, c.Idle, c.RingBytes = 20*time.Millisecond, 100*time.Millisecond, 1<<20
	return c
}

func (l *lab) start(c Config) *running {
	l.t.Helper()
	r := &running{t: l.t, log: &output{}}
	c.Log = slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	ready := make(chan struct{})
	c.Ready = func() { close(ready) }
	var err error
	r.Meter, err = New(c)
	l.must(err)
	ctx, cancel := context.WithCancel(l.t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	r.stop = sync.OnceValue(func() error { cancel(); return <-done })
	l.t.Cleanup(func() {
		if err := r.stop(); err != nil {
			l.t.Error(err)
		}
		r.balanced()
	})
	select {
	case <-ready:
	case err := <-done:
		l.t.Fatal(err)
	}
	return r
}

// balanced adds up the books of a meter that has ended.
func (r *running) balanced() {
	r.t.Helper()
	for _, s := range r.Status() {
		for _, b := range s.Books {
			if err := b.Balance(); err != nil || b.Held != 0 {
				r.t.Errorf("%s: %v, %+v", s.Switch, err, b)
			}
		}
	}
}

// want waits until the collector has these flows, and no others.
func (c *collector) want(flows ...string) {
	c.t.Helper()
	slices.Sort(flows)
	end := time.Now().Add(patience)
	for !slices.Equal(c.lines(), flows) {
		if time.Now().After(end) {
			c.t.Fatalf("flows:\n%s\nwant:\n%s", strings.Join(c.lines(), "\n"), strings.Join(flows, "\n"))
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func jsonOf(v any) string {
	b, _ := json.Marshal(v)
	return string(b)
}
