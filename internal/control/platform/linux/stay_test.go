//go:build linux

package linux

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"crosstap/internal/control/platform"
)

// stream sends datagrams from one machine to another at a fixed rate until it is stopped.
type stream struct {
	sent, received atomic.Int64
	quit, done     chan struct{}
	close          func()
}

// stream begins one. Nothing of it can be lost but on its way: the receiver has room for everything, and when the machine that runs the
// test stands still, the sender does not hurry after the clock, since queues of the kernel's have limits.
func (l *lab) stream(from, to string) *stream {
	l.t.Helper()
	const port, burst, every, ahead = 7000, 15, time.Millisecond, 300
	s := &stream{quit: make(chan struct{}), done: make(chan struct{})}
	dest := &net.UDPAddr{IP: net.IPv4(10, 1, 0, byte(l.mac[to]&0xff)), Port: port}
	var in, out *net.UDPConn
	err := l.vms[to].Do(func() (err error) { in, err = net.ListenUDP("udp4", dest); return err })
	if err == nil {
		err = l.vms[from].Do(func() (err error) { out, err = net.DialUDP("udp4", nil, dest); return err })
	}
	if err != nil {
		l.t.Fatal(err)
	}
	raw, err := in.SyscallConn()
	if err == nil {
		_ = raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 256<<20) })
	}
	if err != nil {
		l.t.Fatal(err)
	}
	go func() {
		buf := make([]byte, 2048)
		for {
			if _, err := in.Read(buf); err != nil {
				return
			}
			s.received.Add(1)
		}
	}()
	go func() {
		defer close(s.done)
		tick := time.NewTicker(every)
		defer tick.Stop()
		lost, since := int64(0), time.Now()
		for {
			select {
			case <-s.quit:
				return
			case <-tick.C:
			}
			open := s.sent.Load() - s.received.Load() - lost
			if open <= ahead/2 {
				since = time.Now()
			}
			if time.Since(since) > 100*time.Millisecond { // what is missing does not come any more
				lost += open
			}
			for range min(burst, max(ahead-open, 0)) {
				if _, err := out.Write(buf64); err == nil {
					s.sent.Add(1)
				}
			}
		}
	}()
	s.close = sync.OnceFunc(func() {
		close(s.quit)
		<-s.done
		out.Close()
		for last, still := int64(-1), 0; still < 10; time.Sleep(20 * time.Millisecond) {
			if now := s.received.Load(); now != last {
				last, still = now, 0
			}
			still++
		}
		in.Close()
	})
	l.t.Cleanup(s.close)
	return s
}

var buf64 = make([]byte, 64)

// whole ends streams and fails unless all that was sent was received.
func whole(t *testing.T, what string, streams ...*stream) {
	t.Helper()
	for i, s := range streams {
		s.close()
		if sent, received := s.sent.Load(), s.received.Load(); sent != received || sent == 0 {
			t.Errorf("%s: stream %d: %d of %d packets were lost", what, i, sent-received, sent)
		} else {
			t.Logf("%s: stream %d: all %d packets arrived", what, i, sent)
		}
	}
}

// Mirrors begin and end while the machines speak: none of their packets is lost, and of the mirrors nothing is left when the machines are silent.
func TestNothingLost(t *testing.T) {
	l := newLab(t)
	p := l.platform("h1")
	l.warm("a>b", "b>a")
	bare := l.untouched("h1")
	web := l.session("web", 7001, "udp", "a", "b")

	control := []*stream{l.stream("a", "b"), l.stream("b", "a")}
	time.Sleep(500 * time.Millisecond)
	whole(t, "no mirror", control...)

	converge(t, p, web) // the first one makes the qdiscs
	streams := []*stream{l.stream("a", "b"), l.stream("b", "a")}
	const rounds = 20
	for i := range rounds {
		converge(t, p)
		if i%2 == 0 {
			converge(t, p, web, l.session("db", 7002, "icmp", "a"))
		} else {
			converge(t, p, web)
		}
		time.Sleep(20 * time.Millisecond)
	}
	converge(t, p)
	if left := l.output("h1", "tc filter show dev vnet-a ingress; tc filter show dev vnet-b ingress"); strings.Count(left, "flowid 6374:6170") != 2 || strings.Contains(left, "mirred") {
		t.Errorf("after the mirrors' end:\n%s", left)
	}
	time.Sleep(500 * time.Millisecond) // somebody looks for a quiet moment, and finds none
	whole(t, fmt.Sprintf("mirrors that begin and end %d times", rounds), streams...)
	if diff := cmp.Diff(bare, l.untouched("h1")); diff != "" {
		t.Errorf("in a quiet moment there is left:\n%s", diff)
	}
}

// What keeps a qdisc is found by whoever comes next, also after a kill, and goes when the platform is closed in a quiet moment.
func TestStays(t *testing.T) {
	l := newLab(t)
	for _, h := range l.hosts { // bridges would speak to their ports by themselves
		h.Sh("sysctl -qw net.ipv6.conf.all.disable_ipv6=1")
	}
	bare := l.untouched("h1")
	at := func(dev string) string {
		return l.output("h1", fmt.Sprintf("tc qdisc show dev %[1]s clsact; tc filter show dev %[1]s ingress; tc filter show dev %[1]s egress", dev))
	}
	keep := fmt.Sprintf("tc qdisc add dev vnet-a clsact; tc filter add dev vnet-a ingress pref %d protocol 0x88b5 handle 1 bpf bytecode '1,6 0 0 0' %s", keepPlace, claim)
	l.hosts["h1"].Sh(keep)

	p := l.platform("h1")
	now, err := p.Read(t.Context())
	if err != nil || !strings.Contains(now.Objects["qdisc/vnet-a"].About, "quiet") {
		t.Fatalf("%+v, %v", now.Objects["qdisc/vnet-a"], err)
	}
	if steps, _ := p.Steps(now, platform.Want{Owner: "test"}); len(steps) > 0 {
		t.Errorf("steps for a qdisc that stays:\n%s", texts(steps))
	}
	converge(t, p, l.session("web", 7001, "", "a"))
	if got := at("vnet-a"); strings.Contains(got, "[34997]") || strings.Count(got, "flowid 6374:6170") != 2 {
		t.Errorf("a mirror took over:\n%s", got)
	}
	quiet := l.vms["b"].Chatter("10.1.0.1:7000") // through vnet-a
	converge(t, p)
	time.AfterFunc(700*time.Millisecond, quiet) // while it is closed
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(bare, l.untouched("h1")); diff != "" {
		t.Errorf("left when the platform was closed:\n%s", diff)
	}

	// Somebody else's filter came beside it: the qdisc is theirs now.
	l.hosts["h1"].Sh(keep + "; tc filter add dev vnet-a egress pref 9 protocol ip u32 match ip dport 53 0xffff flowid 1:1")
	p = l.platform("h1")
	stepsNow(t, p)
	wait(t, "what keeps a qdisc stays beside others' filters", func() bool { return !strings.Contains(at("vnet-a"), "[34997]") })
	if got := at("vnet-a"); !strings.Contains(got, "clsact") || !strings.Contains(got, "u32") {
		t.Errorf("somebody else's filter:\n%s", got)
	}
}
