package kernel

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"crosstap/internal/flow"
	"crosstap/internal/ledger"
)

// conversations sends one datagram each of n conversations from a to b.
func (l *lab) conversations(n, size int) {
	l.t.Helper()
	var c net.PacketConn
	must(l.t, l.a.Do(func() (err error) { c, err = net.ListenPacket("udp", "10.9.0.1:0"); return err }))
	defer c.Close()
	for i := range n {
		_, err := c.WriteTo(make([]byte, size), &net.UDPAddr{IP: net.IPv4(10, 9, 0, 2), Port: 10000 + i})
		must(l.t, err)
	}
}

// governed starts a mirror of p1's incoming datagrams under a budget.
func (l *lab) governed(c MirrorConfig) (m *Mirror, stop func() ledger.Statement) {
	l.t.Helper()
	c.Interfaces, c.NetNS, c.Govern, c.IngressOnly, c.Filter = []string{"p1"}, l.host.Path(), true, true, "udp dst portrange 10000-20000"
	m, err := NewMirror(c)
	must(l.t, err)
	must(l.t, m.Open())
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx, nil) }()
	return m, func() ledger.Statement {
		cancel()
		must(l.t, <-done)
		s := m.Book().Read()
		if err := s.Balance(); err != nil || s.Held != 0 {
			l.t.Errorf("%+v: %v", s, err)
		}
		return s
	}
}

func shed(t *testing.T, p interface {
	SetShed(Shed) (time.Time, error)
}, s Shed) {
	t.Helper()
	_, err := p.SetShed(s)
	must(t, err)
}

// A mirror under a budget cuts, leaves conversations out, and lets go of the interface; each frame that it looked at is in the books.
func TestMirrorUnderBudget(t *testing.T) {
	for _, way := range []Way{TCX, Clsact} {
		t.Run(way.String(), func(t *testing.T) {
			l := newLab(t)
			l.arp()
			path := filepath.Join(t.TempDir(), "tool.pcap")
			stopDump := l.dump(path, "-s", "2000", "udp port 4789")
			m, stop := l.governed(MirrorConfig{Config: Config{Way: way}, Outer: l.vxlan(7)})
			const each = 400
			l.conversations(each, 500)
			shed(t, m, Shed{Keep: 160})
			l.conversations(each, 501)
			shed(t, m, Shed{Keep: 160, Sample: 4})
			l.conversations(each, 502)
			shed(t, m, Shed{Off: true})
			if left := fmt.Sprint(l.left()); strings.Contains(left, "of p1") && !strings.Contains(left, qdiscStays) { // when something was just sent
				t.Errorf("off, and still there: %v", left)
			}
			l.conversations(each, 503)
			shed(t, m, Shed{})
			l.conversations(each, 504)
			tally := m.Tally()
			s := stop()
			stopDump(int(s.Out))
			left := dropped(s, DropShed)
			if s.In-dropped(s, DropFiltered) != 4*each || s.Out != 4*each-left || left < each/2 || left > each*19/20 {
				t.Errorf("%+v", s)
			}
			if tally.Matched != 4*each || tally.Passed != 4*each-left || tally.Bytes < 4*each*500 {
				t.Errorf("%+v", tally)
			}
			sizes := map[int]int{}
			for _, f := range l.read(path) {
				sizes[len(f)]++
			}
			const head = 50
			if sizes[head+542] != each || sizes[head+546] != each || uint64(sizes[head+160]) != 2*each-left || len(sizes) != 3 {
				t.Errorf("lengths of copies: %v", sizes)
			}
			if sent := m.Sent(); sent != uint64(each*(542+546))+160*(2*each-left) {
				t.Errorf("%d bytes sent", sent)
			}
		})
	}
}

// Super-frames are cut first when a budget has them sliced: each segment is a copy.
func TestMirrorUnderBudgetSegments(t *testing.T) {
	l := newLab(t)
	l.arp()
	path := filepath.Join(t.TempDir(), "tool.pcap")
	stopDump := l.dump(path, "-s", "2000", "udp port 4789")
	m, err := NewMirror(MirrorConfig{Config: Config{Interfaces: []string{"p1"}, NetNS: l.host.Path(), Govern: true, IngressOnly: true, Filter: "tcp"}, Outer: l.vxlan(7)})
	must(t, err)
	must(t, m.Open())
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx, nil) }()
	shed(t, m, Shed{Keep: 160})
	const size = 400_000
	l.a.Stream(l.b, "10.9.0.2", make([]byte, size))
	cancel()
	must(t, <-done)
	s := m.Book().Read()
	stopDump(int(s.Out))
	payload := 0
	for _, r := range tshark(t, path, "ip.len", "tcp.hdr_len", "frame.len") {
		col := strings.Split(r, ";")
		lengths := strings.Split(col[0], ",")
		ip, _ := strconv.Atoi(lengths[len(lengths)-1])
		tcp, _ := strconv.Atoi(col[1])
		frame, _ := strconv.Atoi(col[2])
		payload += ip - 20 - tcp
		if ip > 1500 || frame > 160+50 {
			t.Errorf("copy of %d bytes with an IP length of %d", frame, ip)
		}
	}
	if payload != size || s.Balance() != nil || dropped(s, DropLost) != 0 {
		t.Errorf("%d bytes of %d in the copies; %+v", payload, size, s)
	}
}

// Flow records tell how the budget has chosen their packets, and none has packets that were chosen differently.
func TestFlowsUnderBudget(t *testing.T) {
	l := newLab(t)
	l.arp()
	f, err := NewFlows(FlowsConfig{Config: Config{Interfaces: []string{"p1"}, NetNS: l.host.Path(), Govern: true, IngressOnly: true, Filter: "udp dst portrange 10000-20000"},
		Idle: time.Minute, Active: time.Minute, MaxFlows: 10000, RingBytes: 1 << 20})
	must(t, err)
	must(t, f.Open())
	records := make(chan []flow.Record, 100)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx, context.Background(), nil, records); close(records) }()
	const each = 600
	l.conversations(each, 100)
	shed(t, f, Shed{Sample: 4})
	await(t, "the rate is known", func() bool { return len(f.asked) == 0 })
	time.Sleep(50 * time.Millisecond) // it is taken down by now, or what follows has a record of the rate before: the sums tell
	l.conversations(each, 100)
	cancel()
	must(t, <-done)
	var all, sampled, estimate int
	for list := range records {
		for _, r := range list {
			all += int(r.Packets)
			estimate += int(r.Packets) * int(r.Sampling)
			if r.Sampling == 4 {
				sampled += int(r.Packets)
			}
		}
	}
	s := f.Book().Read()
	left := int(dropped(s, DropShed))
	if all != 2*each-left || sampled != each-left || sampled < each/20 || sampled > each/2 || estimate != each+4*sampled {
		t.Errorf("%d packets, %d sampled, %d estimated, %d left out; %+v", all, sampled, estimate, left, s)
	}
	if err := s.Balance(); err != nil {
		t.Error(err)
	}
}

// Programs of one mirror take the places of those of another while traffic runs: each frame is copied once. So do those on an interface that
// the one before had not, and those that it alone had end.
func TestFollow(t *testing.T) {
	for _, way := range []Way{TCX, Clsact} {
		t.Run(way.String(), func(t *testing.T) {
			l := newLab(t)
			l.arp()
			c := MirrorConfig{Config: Config{Interfaces: []string{"p1", "up0"}, NetNS: l.host.Path(), Way: way, IngressOnly: true, Filter: "udp dst port 7000", Promiscuous: true}, Outer: l.vxlan(1)}
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			var all []*Mirror
			var running []chan error
			begin := func(c MirrorConfig) *Mirror {
				m, err := NewMirror(c)
				must(t, err)
				must(t, m.Open())
				done := make(chan error, 1)
				go func() { done <- m.Run(ctx, nil) }()
				all, running = append(all, m), append(running, done)
				return m
			}
			now := begin(c)
			c.Interfaces, c.Wait, c.Outer = []string{"p1", "p2"}, true, l.vxlan(2)
			sent := 0
			for range 5 {
				next := begin(c)
				if left := fmt.Sprint(l.left()); strings.Contains(left, "of p2") && now == all[0] {
					t.Errorf("one that waits is attached: %s", left)
				}
				done := make(chan error, 1)
				go func() { time.Sleep(10 * time.Millisecond); done <- Follow(next, now) }()
				for ended := false; !ended; {
					select {
					case err := <-done:
						must(t, err)
						ended = true
					default:
					}
					l.datagrams(20, 100, 7000)
					sent += 20
				}
				now = next
			}
			cancel()
			var in, out uint64
			for i, m := range all {
				must(t, <-running[i])
				s := m.Book().Read()
				if err := s.Balance(); err != nil || dropped(s, DropLost) != 0 {
					t.Errorf("%d: %+v: %v", i, s, err)
				}
				in, out = in+s.In-dropped(s, DropFiltered), out+s.Out
			}
			if in != uint64(sent) || out != in {
				t.Errorf("%d datagrams sent, %d seen, %d copied", sent, in, out)
			}
			await(t, "nothing is left in a quiet moment", func() bool { l.swept(); return l.left() == nil })
		})
	}
}

// A rate is kept, and what is above it is in the books.
func TestMirrorRate(t *testing.T) {
	l := newLab(t)
	l.arp()
	o := l.vxlan(1)
	const rate, size, n = 1_000_000, 1000, 400
	o.Rate = rate
	m, stop := l.governed(MirrorConfig{Outer: o})
	began := time.Now()
	l.conversations(n, size)
	took := time.Since(began).Seconds()
	s := stop()
	bits := func(copies float64) float64 { return copies * 8 * (size + 42 + 50) }
	most := (paceBurstLeast+rate*took)/bits(1) + 2
	if over := dropped(s, DropRate); s.Out+over != n || float64(s.Out) > most || float64(s.Out) < paceBurstLeast/bits(1)-1 {
		t.Errorf("in %.3f s %d of %d copies, at most %.1f: %+v", took, s.Out, n, most, s)
	}
	_ = m
}
