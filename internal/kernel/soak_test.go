package kernel

import (
	"context"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"crosstap/internal/flow"
	"crosstap/internal/frame"
	"crosstap/internal/testns"
)

// port returns the counters that an interface itself keeps.
func (l *lab) port(in *testns.Space, name string) (c netlink.LinkStatistics64) {
	l.t.Helper()
	must(l.t, in.Do(func() error {
		x, err := netlink.LinkByName(name)
		if err == nil && x.Attrs().Statistics != nil {
			c = netlink.LinkStatistics64(*x.Attrs().Statistics)
		}
		return err
	}))
	return c
}

// load has a send datagrams to b until ctx ends.
func (l *lab) load(ctx context.Context, sent *atomic.Uint64) {
	c, err := l.socket()
	if err != nil {
		l.t.Error(err)
		return
	}
	defer c.Close()
	sizes, r := []int{22, 22, 22, 22, 22, 22, 22, 528, 528, 528, 528, 1472}, rand.New(rand.NewPCG(1, 2))
	buf := make([]byte, 1472)
	for n := 0; ctx.Err() == nil; n++ {
		to := &net.UDPAddr{IP: net.IPv4(10, 9, 0, 2), Port: 7000 + r.IntN(200)}
		if _, err := c.WriteTo(buf[:sizes[n%len(sizes)]], to); err != nil {
			l.t.Error(err)
			return
		}
		if sent.Add(1)%64 == 0 {
			runtime.Gosched()
		}
	}
}

func (l *lab) socket() (c net.PacketConn, err error) {
	err = l.a.Do(func() error { c, err = net.ListenPacket("udp", "10.9.0.1:0"); return err })
	return c, err
}

// TestSoak runs a mirror and a flow table under load, while other taps of the same port are killed with -9 and the tool's link goes down and
// up. In the end the books agree with the counters of the ports, to the packet. CROSSTAP_SOAK says how long; the default is short.
func TestSoak(t *testing.T) {
	long := 3 * time.Second
	if s := os.Getenv("CROSSTAP_SOAK"); s != "" {
		var err error
		long, err = time.ParseDuration(s)
		must(t, err)
	}
	l := newLab(t)
	l.arp()
	for _, x := range []*testns.Space{l.a, l.b, l.tool, l.host} { // nobody but the application sends
		x.Sh("sysctl -qw net.ipv6.conf.all.disable_ipv6=1")
	}
	l.host.Sh("ip neigh replace 10.7.0.9 lladdr " + l.mac(l.tool) + ` dev up0 nud permanent
		ip link add up1 type veth peer name down1; ip link set up1 up; ip link set down1 up
		ip addr add 10.8.0.1/24 dev up1; ip neigh replace 10.8.0.9 lladdr 02:00:00:00:00:09 dev up1 nud permanent`)

	l.tool.Sh("ip addr flush dev eth0") // it answers nothing
	base := l.port(l.host, "p1")
	up := l.port(l.host, "up0")
	stopMirror := l.mirror(MirrorConfig{Config: Config{Filter: "udp dst portrange 7000-7099"}, Outer: l.vxlan(1)})
	stopFlows := l.counting()

	ctx, cancel := context.WithTimeout(context.Background(), long)
	defer cancel()
	var sent atomic.Uint64
	loaded := make(chan struct{})
	go func() { defer close(loaded); l.load(ctx, &sent) }()
	kills := 0
	memory := []uint64{resident()}
	for way := TCX; ctx.Err() == nil; way ^= 1 {
		kill := l.victim(way, "10.8.0.9")
		l.tool.Sh("ip link set eth0 down")
		pause(ctx, long/20)
		kill()
		kills++
		l.tool.Sh("ip link set eth0 up")
		pause(ctx, long/20)
		memory = append(memory, resident())
	}
	<-loaded
	time.Sleep(50 * time.Millisecond) // what is between the interfaces arrives
	s, counted := stopMirror(), stopFlows()
	now, gone := l.port(l.host, "p1"), l.port(l.host, "up0")
	if seen := now.RxPackets - base.RxPackets + now.TxPackets - base.TxPackets; s.In != seen || counted != seen {
		t.Errorf("the port saw %d packets, the mirror %d, the flow table %d", seen, s.In, counted)
	}
	if out := gone.TxPackets - up.TxPackets + gone.TxDropped - up.TxDropped; s.Out != out {
		t.Errorf("the uplink was given %d copies, %d left the mirror: %+v", out, s.Out, s)
	}
	if n := now.RxPackets - base.RxPackets; n < sent.Load() {
		t.Errorf("the application sent %d, and the port saw %d", sent.Load(), n)
	}
	await(t, "nothing is left", func() bool { l.swept(); return l.left() == nil })
	if half := memory[len(memory)/2]; long > time.Minute && memory[len(memory)-1] > half+half/4 {
		t.Errorf("memory grows: %d", memory)
	}
	t.Logf("%v: %d packets sent, %d kills; mirror %+v", long, sent.Load(), kills, s)
}

// mac returns the address of a VM's interface.
func (l *lab) mac(s *testns.Space) (mac string) {
	must(l.t, s.Do(func() error {
		i, err := net.InterfaceByName("eth0")
		if err == nil {
			mac = i.HardwareAddr.String()
		}
		return err
	}))
	return mac
}

// counting runs a flow table with short timeouts on p1; the function stops it and returns the packets of all its records, and of the frames that
// went to user space.
func (l *lab) counting() (stop func() uint64) {
	l.t.Helper()
	f, err := NewFlows(FlowsConfig{
		Config: Config{Interfaces: []string{"p1"}, NetNS: l.host.Path()}, Idle: time.Second, Active: 2 * time.Second, MaxFlows: 150, RingBytes: 1 << 20,
	})
	must(l.t, err)
	must(l.t, f.Open())
	records, frames := make(chan []flow.Record, 16), make(chan frame.Batch, 16)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- f.Run(ctx, context.Background(), frames, records)
		close(records)
		close(frames)
	}()
	sums := make(chan uint64, 2)
	go func() {
		n := uint64(0)
		for list := range records {
			for _, r := range list {
				n += r.Packets
			}
		}
		sums <- n
	}()
	go func() {
		n := uint64(0)
		for b := range frames {
			n += uint64(len(b.Frames))
			b.Release()
		}
		sums <- n
	}()
	return func() uint64 {
		cancel()
		if err := <-done; err != nil {
			l.t.Error(err)
		}
		b := f.Book().Read()
		if err := b.Balance(); err != nil {
			l.t.Error(err)
		}
		return <-sums + <-sums + dropped(b, DropLost) + dropped(b, DropStopped)
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// resident is the memory of this process, in bytes.
func resident() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
