package netnetflow

import (
	"fmt"
	"net"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/flow"
	"crosstap/internal/flowproto/ipfix"
	"crosstap/internal/tap/export"
	"crosstap/internal/testkit"
)

// A packet that a bridge forwards passes two of its ports, and counts once: with both in its record. The host's own packets enter by the
// bridge's interface, port 0. 128 = 28 bytes of headers and 100.
func TestN01N11Switches(t *testing.T) {
	l := newLab(t)
	l.bridge("br0")
	l.bridge("br1")
	l.host.Sh("ip addr add 10.1.0.9/24 dev br0")
	a, b := l.vm("br0", "a", "10.1.0.1"), l.vm("br0", "b", "10.1.0.2")
	c, d := l.vm("br1", "c", "10.1.0.1"), l.vm("br1", "d", "10.1.0.2") // the same addresses
	col := newCollector(t)
	r := l.start(l.config(col, "br0", "br1"))
	l.send(a, b, "10.1.0.2", 10, 100)
	l.send(b, a, "10.1.0.1", 5, 100)
	l.send(c, d, "10.1.0.2", 7, 100)
	l.send(l.host, a, "10.1.0.1", 3, 100)
	l.send(a, l.host, "10.1.0.9", 2, 100)
	col.want(
		"1/1 10.1.0.1:1000>10.1.0.2:2000 1>2 10 1280",
		"1/1 10.1.0.2:1000>10.1.0.1:2000 2>1 5 640",
		"2/2 10.1.0.1:1000>10.1.0.2:2000 1>2 7 896",
		"1/1 10.1.0.9:1000>10.1.0.1:2000 0>1 3 384",
		"1/1 10.1.0.1:1000>10.1.0.9:2000 1>0 2 256",
	)
	for _, g := range col.all() {
		if h := g.header(); h.EngineType() != h.EngineID() || !h.Valid() {
			t.Errorf("header %x", []byte(g[:24]))
		}
	}
	if err := r.stop(); err != nil {
		t.Error(err)
	}
}

func TestN06Summary(t *testing.T) {
	l := newLab(t)
	l.bridge("br0")
	a, b := l.vm("br0", "a", "10.1.0.1"), l.vm("br0", "b", "10.1.0.2")
	c, text := l.config(newCollector(t), "br0"), &output{}
	c.Summary = text
	l.start(c)
	l.send(a, b, "10.1.0.2", 10, 100)
	testkit.Eventually(t, "a summary", func() bool { // one line; more when the sender did not get on for longer than a flow may be idle
		packets, octets := 0, 0
		for line := range strings.Lines(text.String()) {
			var flows, p, o int
			if _, err := fmt.Sscanf(line, "br0: %d flows, %d packets, %d bytes sent\n", &flows, &p, &o); err != nil || flows < 1 {
				t.Fatalf("summary %q: %v", line, err)
			}
			packets, octets = packets+p, octets+o
		}
		return packets == 10 && octets == 1280
	})
}

// Finished flows wait for the poll; beyond the queue's limit they are lost, counted, and the operator is told what helps.
func TestN08Purgatory(t *testing.T) {
	l := newLab(t)
	l.bridge("br0")
	a, b := l.vm("br0", "a", "10.1.0.1"), l.vm("br0", "b", "10.1.0.2")
	col := newCollector(t)
	c := l.config(col, "br0")
	c.Queue, c.Period, c.Report, c.Idle = 1, time.Minute, 20*time.Millisecond, 50*time.Millisecond
	r := l.start(c)
	testkit.Eventually(t, "a queue that is too small", func() bool {
		l.send(a, b, "10.1.0.2", 1, 100)
		time.Sleep(120 * time.Millisecond) // the flow ends
		return r.Status()[0].QueueFull >= 2
	})
	testkit.Eventually(t, "advice", func() bool {
		return strings.Contains(r.log.String(), "maximum purgatory size reached") && strings.Contains(r.log.String(), "lower polling period (-s)")
	})
	_ = r.stop()
	if s := r.Status()[0]; s.QueueFull < 2 || s.Sent.Flows < 1 || s.Sent.Flows > 2 { // a flow may end with the line, behind the one in the queue
		t.Errorf("%+v", s)
	}
}

// -p on a bridge: switch 3, ports 1 and 2.
func TestN09PortIDsOnABridge(t *testing.T) {
	l := newLab(t)
	l.bridge("br0")
	a, b := l.vm("br0", "a", "10.1.0.1"), l.vm("br0", "b", "10.1.0.2")
	col := newCollector(t)
	c := l.config(col, "br0")
	c.PortIDs, c.IDs = true, map[string]int{"br0": 3}
	l.start(c)
	l.send(a, b, "10.1.0.2", 4, 100)
	col.want("3/3 10.1.0.1:1000>10.1.0.2:2000 1537>1538 4 512")
}

// What the tool did not know is zero, and so is the sampling field.
func TestN13ZeroFields(t *testing.T) {
	l := newLab(t)
	l.bridge("br0")
	a, b := l.vm("br0", "a", "10.1.0.1"), l.vm("br0", "b", "10.1.0.2")
	col := newCollector(t)
	l.start(l.config(col, "br0"))
	l.send(a, b, "10.1.0.2", 4, 100)
	col.want("1/1 10.1.0.1:1000>10.1.0.2:2000 1>2 4 512")
	g := col.all()[0]
	r := g.records()[0]
	if net.IP(r.NextHop()).String() != "0.0.0.0" || r.SrcAS() != 0 || r.DstAS() != 0 || r.SrcMask() != 0 || r.DstMask() != 0 || g[22] != 0 || g[23] != 0 {
		t.Errorf("%x", []byte(g))
	}
}

// IPv6 has no place in NetFlow v5, which counts it; IPFIX beside it has.
func TestN14FormatsBeyond(t *testing.T) {
	l := newLab(t)
	l.bridge("br0")
	a, b := l.vm("br0", "a", "10.1.0.1"), l.vm("br0", "b", "10.1.0.2")
	const v6 = "echo 0 >/proc/sys/net/ipv6/conf/eth0/disable_ipv6; ip addr add fd00::%/64 dev eth0 nodad"
	a.Sh(strings.ReplaceAll(v6, "%", "1"))
	b.Sh(strings.ReplaceAll(v6, "%", "2"))
	col, six := newCollector(t), newCollector(t)
	c := l.config(col, "br0")
	c.Targets = append(c.Targets, export.Target{Host: "127.0.0.1", Port: six.port(), Refresh: time.Minute})
	r := l.start(c)
	a.Datagrams(b, "fd00::2", make([]byte, 300), 100)
	s := ipfix.NewSession(ipfix.Limits{})
	var got []flow.Record
	seen := 0
	testkit.Eventually(t, "the IPv6 flow", func() bool {
		all := six.all()
		for ; seen < len(all); seen++ {
			got, _, _ = s.Decode(all[seen], 0, got)
		}
		for _, f := range got {
			if f.Src.String() == "fd00::1" && f.Proto == 17 && f.Packets == 3 && f.Domain == 1 && f.InIf == 1 && f.OutIf == 2 {
				return true
			}
		}
		return false
	})
	_ = r.stop()
	if len(col.lines()) != 0 {
		t.Errorf("NetFlow v5: %v", col.lines())
	}
	for _, b := range r.Status()[0].Books {
		if b.Stage == export.Stage { // of the first collector
			if b.Dropped[export.DropFormat].N == 0 {
				t.Errorf("%+v", b)
			}
			break
		}
	}
}

func TestN15Sampling(t *testing.T) {
	l := newLab(t)
	l.bridge("br0")
	a, b := l.vm("br0", "a", "10.1.0.1"), l.vm("br0", "b", "10.1.0.2")
	l.send(a, b, "10.1.0.2", 1, 100) // ARP is done before
	col := newCollector(t)
	c := l.config(col, "br0")
	c.Sampling = 10
	l.start(c)
	l.send(a, b, "10.1.0.2", 100, 100)
	col.want("1/1 10.1.0.1:1000>10.1.0.2:2000 1>2 10 1280")
	if h := col.all()[0].header(); h.SamplingInterval() != 10 || h.SamplingMode() != 1 {
		t.Errorf("sampling %d of mode %d", h.SamplingInterval(), h.SamplingMode())
	}
}

// One switch that is not there: an error that lists those that are, at once, and nothing of the others is metered.
func TestN16UnknownSwitch(t *testing.T) {
	l := newLab(t)
	l.bridge("br0")
	l.vm("br0", "a", "10.1.0.1")
	m, err := New(l.config(newCollector(t), "br0", "br9"))
	l.must(err)
	if err := m.Run(t.Context()); err == nil || err.Error() != "net-netflow: no switch of the name br9; there are: br0" {
		t.Errorf("%v", err)
	}
	if len(m.Status()) != 0 {
		t.Errorf("%+v", m.Status())
	}
	m, err = New(l.config(newCollector(t), "a")) // an interface is no switch
	l.must(err)
	if err := m.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "no switch of the name a") {
		t.Errorf("%v", err)
	}
}

// Nobody listens: it is said again and again while sending goes on, and when the collector is there.
func TestN17LossOfContact(t *testing.T) {
	l := newLab(t)
	l.bridge("br0")
	a, b := l.vm("br0", "a", "10.1.0.1"), l.vm("br0", "b", "10.1.0.2")
	col := newCollectorAt(t, testkit.Port(t)) // it is left, and taken again
	c := l.config(col, "br0")
	at := col.conn.LocalAddr().(*net.UDPAddr)
	col.conn.Close()
	c.Report, c.Idle = 30*time.Millisecond, 20*time.Millisecond
	r := l.start(c)
	testkit.Eventually(t, "two complaints", func() bool {
		l.send(a, b, "10.1.0.2", 1, 100)
		time.Sleep(40 * time.Millisecond) // the flow ends
		return strings.Count(r.log.String(), "lost contact with the collector; still sending") >= 2
	})
	if !strings.Contains(r.log.String(), "connection refused") {
		t.Error(r.log.String())
	}
	back, err := net.ListenUDP("udp4", at)
	l.must(err)
	defer back.Close()
	testkit.Eventually(t, "the collector is back", func() bool {
		l.send(a, b, "10.1.0.2", 1, 100)
		time.Sleep(40 * time.Millisecond)
		return strings.Contains(r.log.String(), "the collector takes datagrams again")
	})
}

// At the end every switch is deregistered: no socket stays, and what was in the cache is sent.
func TestN18N19StartAndStop(t *testing.T) {
	l := newLab(t)
	l.bridge("br0")
	a, b := l.vm("br0", "a", "10.1.0.1"), l.vm("br0", "b", "10.1.0.2")
	col := newCollector(t)
	c := l.config(col, "br0")
	c.Idle = time.Hour
	r := l.start(c)
	l.send(a, b, "10.1.0.2", 4, 100) // the first packet after Ready is metered
	l.must(r.stop())
	col.want("1/1 10.1.0.1:1000>10.1.0.2:2000 1>2 4 512")
	l.host.Sh("test $(wc -l </proc/net/packet) -eq 1") // the heading
}

// The set changes while it runs: the switch that stays goes on with its sequence and uptime.
func TestN20ChangeLive(t *testing.T) {
	l := newLab(t)
	l.bridge("br0")
	l.bridge("br1")
	a, b := l.vm("br0", "a", "10.1.0.1"), l.vm("br0", "b", "10.1.0.2")
	c, d := l.vm("br1", "c", "10.1.0.1"), l.vm("br1", "d", "10.1.0.2")
	col := newCollector(t)
	r := l.start(l.config(col, "br0"))
	l.send(a, b, "10.1.0.2", 4, 100)
	l.send(c, d, "10.1.0.2", 4, 100) // not metered
	col.want("1/1 10.1.0.1:1000>10.1.0.2:2000 1>2 4 512")
	l.must(r.Set([]string{"br0", "br1"}))
	l.send(a, b, "10.1.0.2", 1, 100)
	l.send(c, d, "10.1.0.2", 5, 100)
	col.want("1/1 10.1.0.1:1000>10.1.0.2:2000 1>2 5 640", "2/2 10.1.0.1:1000>10.1.0.2:2000 1>2 5 640")
	if err := r.Set([]string{"br0", "br7"}); err == nil || len(r.Status()) != 2 {
		t.Errorf("%v, %d switches", err, len(r.Status()))
	}
	l.must(r.Set([]string{"br1"}))
	l.send(a, b, "10.1.0.2", 9, 100) // not metered any more
	l.send(c, d, "10.1.0.2", 1, 100)
	col.want("1/1 10.1.0.1:1000>10.1.0.2:2000 1>2 5 640", "2/2 10.1.0.1:1000>10.1.0.2:2000 1>2 6 768")
	next, uptime := map[uint8]uint32{}, map[uint8]uint32{}
	for _, g := range col.all() {
		h := g.header()
		if h.Sequence() != next[h.EngineID()] || h.UptimeMS() < uptime[h.EngineID()] {
			t.Errorf("engine %d: sequence %d, want %d; uptime %d after %d", h.EngineID(), h.Sequence(), next[h.EngineID()], h.UptimeMS(), uptime[h.EngineID()])
		}
		next[h.EngineID()], uptime[h.EngineID()] = h.Sequence()+uint32(h.Count()), h.UptimeMS()
	}
}

func TestN22OneInstance(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	one, err := Claim(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Claim(dir); err == nil || !regexp.MustCompile(`already running \(process \d+, .*\): change its switches with --change`).MatchString(err.Error()) {
		t.Errorf("%v", err)
	}
	one.Release()
	two, err := Claim(dir)
	if err != nil {
		t.Fatal(err)
	}
	two.Release()
}

// A switch that is deleted ends its flows; when it is there again, so is the metering. Ports come and go, too.
func TestN23DeletedSwitch(t *testing.T) {
	l := newLab(t)
	l.bridge("br0")
	a, b := l.vm("br0", "a", "10.1.0.1"), l.vm("br0", "b", "10.1.0.2")
	col := newCollector(t)
	c := l.config(col, "br0")
	c.Idle = time.Hour // flows end by the deletion alone
	r := l.start(c)
	l.send(a, b, "10.1.0.2", 4, 100)
	l.host.Sh("ip link del br0")
	col.want("1/1 10.1.0.1:1000>10.1.0.2:2000 1>2 4 512")
	testkit.Eventually(t, "said so", func() bool { return strings.Contains(r.log.String(), "the switch is gone") && r.Status()[0].Gone })
	l.bridge("br0")
	l.host.Sh("ip link set dev a master br0; ip link set dev b master br0")
	testkit.Eventually(t, "back", func() bool { return !r.Status()[0].Gone && len(r.Status()[0].Ports) == 3 })
	l.vm("br0", "c", "10.1.0.3")
	testkit.Eventually(t, "a port more", func() bool { return len(r.Status()[0].Ports) == 4 })
	l.host.Sh("ip link set dev c nomaster")
	testkit.Eventually(t, "a port less", func() bool { return len(r.Status()[0].Ports) == 3 })
	if diff := cmp.Diff([]PortStatus{{"a", 1}, {"b", 2}, {"br0", 0}}, r.Status()[0].Ports); diff != "" {
		t.Error(diff)
	}
	testkit.Eventually(t, "traffic is metered again", func() bool {
		l.send(a, b, "10.1.0.2", 1, 100)
		return r.Status()[0].Books[0].In > 20
	})
}

func TestN24CollectorReachable(t *testing.T) {
	f := func(host string, fatal, ok bool) {
		t.Helper()
		gotFatal, err := Reach(t.Context(), export.Target{Host: host, Port: 2055})
		if gotFatal != fatal || (err == nil) != ok {
			t.Errorf("%s: %t, %v", host, gotFatal, err)
		}
	}
	f("127.0.0.1", false, true)
	if _, err := net.LookupHost("name.invalid"); err != nil && strings.Contains(err.Error(), "no such host") {
		f("name.invalid", true, false)
	}
}

// What would be metered, and nothing is written.
func TestN25Check(t *testing.T) {
	l := newLab(t)
	l.bridge("br0")
	l.vm("br0", "a", "10.1.0.1")
	c := l.config(newCollector(t), "br0")
	c.PortIDs = true
	m, err := New(c)
	l.must(err)
	got, err := m.Check(t.Context())
	l.must(err)
	if diff := cmp.Diff([]Found{{Kind: "bridge", Name: "br0", ID: 1, Ports: []string{"a 513", "br0 512"}}}, got); diff != "" {
		t.Error(diff)
	}
	if exists(c.StateFile) {
		t.Error("a number was kept")
	}
}

// The state and the set over the socket of the running instance.
func TestN27Socket(t *testing.T) {
	l := newLab(t)
	l.bridge("br0")
	l.bridge("br1")
	dir := t.TempDir()
	i, err := Claim(dir)
	l.must(err)
	r := l.start(l.config(newCollector(t), "br0"))
	served := make(chan struct{})
	go func() { defer close(served); i.Serve(t.Context(), r.Meter) }()
	all, err := Ask(t.Context(), dir, []string{"br1", "br0"})
	if err != nil || len(all) != 2 || all[0].Switch != "br1" || all[0].ID != 2 {
		t.Errorf("%+v, %v", all, err)
	}
	if _, err := Ask(t.Context(), dir, []string{"br5"}); err == nil || !strings.Contains(err.Error(), "no switch of the name br5") {
		t.Errorf("%v", err)
	}
	if all, err = Ask(t.Context(), dir, nil); err != nil || len(all) != 2 {
		t.Errorf("%+v, %v", all, err)
	}
	i.Release()
	<-served
	if _, err := Ask(t.Context(), dir, nil); err == nil {
		t.Error("answer without an instance")
	}
}
