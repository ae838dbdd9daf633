package kernel

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"crosstap/internal/frame"
	"crosstap/internal/testkit"
)

// TestMain lets the test binary be a process that is killed: it runs a mirror and a flow table, says so, and stays.
func TestMain(m *testing.M) {
	if os.Getenv("KERNEL_TEST_KEEP") != "" {
		if err := Keep(context.Background(), os.Stdin, slog.New(slog.DiscardHandler)); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(0)
	}
	if space := os.Getenv("KERNEL_TEST_VICTIM"); space != "" {
		if fail := os.Getenv("KERNEL_TEST_PAIR"); fail != "" {
			fmt.Println(pairVictim(space, fail))
			time.Sleep(time.Hour)
		}
		fmt.Println(victim(space, os.Getenv("KERNEL_TEST_WAY")))
		time.Sleep(time.Hour)
	}
	os.Exit(m.Run())
}

// victimLease is long enough for a process that waits for a processor to renew it.
const victimLease = 5 * time.Second

func victim(space, way string) string {
	leaseLength = victimLease
	c := Config{Interfaces: []string{"p1"}, NetNS: space, Filter: "udp dst port 7000"}
	if way == Clsact.String() {
		c.Way = Clsact
	}
	if os.Getenv("KERNEL_TEST_BESIDE") != "" {
		_ = os.Setenv("KERNEL_TEST_KEEP", "1") // for the janitor that is started
		c.Keeper = []string{os.Args[0]}
	}
	o := (&lab{}).vxlan(1)
	o.Tool = netip.MustParseAddr(os.Getenv("KERNEL_TEST_TOOL"))
	m, err := NewMirror(MirrorConfig{Config: c, Outer: o})
	if err == nil {
		err = m.Open()
	}
	if err != nil {
		return err.Error()
	}
	f, err := NewFlows(FlowsConfig{Config: c, Idle: time.Minute, Active: time.Minute, MaxFlows: 100, RingBytes: 1 << 20})
	if err == nil {
		err = f.Open()
	}
	if err != nil {
		return err.Error()
	}
	go m.Run(context.Background(), nil)
	go f.Run(context.Background(), context.Background(), make(chan frame.Batch, 1000), nil)
	return "running"
}

// apart has a victim be of another namespace of processes, in which nobody here can say whether it lives.
func apart(c *exec.Cmd) { c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID} }

// beside has a victim start a janitor.
func beside(c *exec.Cmd) { c.Env = append(c.Env, "KERNEL_TEST_BESIDE=1") }

// victim runs a process that mirrors p1 to a tool, and meters it; kill ends it as kill -9 does.
func (l *lab) victim(way Way, tool string, options ...func(*exec.Cmd)) (kill func()) {
	l.t.Helper()
	c := exec.Command(os.Args[0])
	path := l.host.Path()
	c.Env = append(os.Environ(), "KERNEL_TEST_VICTIM="+path, "KERNEL_TEST_WAY="+way.String(), "KERNEL_TEST_TOOL="+tool)
	for _, o := range options {
		o(c)
	}
	out, err := c.StdoutPipe()
	must(l.t, err)
	must(l.t, c.Start())
	release := testkit.Guard(l.t, c.Process.Pid)
	kill = func() {
		_ = c.Process.Signal(unix.SIGKILL)
		_ = c.Wait()
		release()
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "running\n" {
		kill()
		l.t.Fatalf("victim: %q, %v", line, err)
	}
	return kill
}

// left returns what of us is on the host: devices, filters of tc, programs at TCX hooks of p1.
func (l *lab) left() (all []string) {
	l.t.Helper()
	must(l.t, l.host.Do(func() error {
		h, err := netlink.NewHandle()
		if err != nil {
			return err
		}
		defer h.Close()
		links, err := h.LinkList()
		if err != nil {
			return err
		}
		for _, x := range links {
			if a := x.Attrs(); strings.HasPrefix(a.Name, "xt") || strings.HasPrefix(a.Name, "xl") {
				all = append(all, "device "+a.Name)
			}
			for _, dir := range directions {
				list, err := filters(h, x.Attrs().Index, dir)
				if err != nil {
					continue
				}
				for _, f := range list {
					all = append(all, fmt.Sprintf("filter %s of %s", f.(*netlink.BpfFilter).Name, x.Attrs().Name))
				}
			}
			for _, at := range []ebpf.AttachType{ebpf.AttachTCXIngress, ebpf.AttachTCXEgress} {
				r, err := link.QueryPrograms(link.QueryOptions{Target: x.Attrs().Index, Attach: at})
				if err == nil && len(r.Programs) > 0 {
					all = append(all, fmt.Sprintf("%d programs at %s of %s", len(r.Programs), at, x.Attrs().Name))
				}
			}
			qdiscs, err := h.QdiscList(x)
			if err != nil {
				return err
			}
			for _, q := range qdiscs {
				if q.Type() == "clsact" {
					all = append(all, "clsact of "+x.Attrs().Name)
				}
			}
		}
		return nil
	}))
	return all
}

// await waits until f reports true.
func await(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !f(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not after a minute", what)
		}
	}
}

// TestKilledTCX kills a process that mirrors and meters, with traffic running: nothing of it stays, and no packet of the application is lost.
func TestKilledTCX(t *testing.T) {
	l := newLab(t)
	l.arp()
	if left := l.left(); left != nil {
		t.Fatal(left)
	}
	kill := l.victim(TCX, "10.7.0.9")
	if left := l.left(); len(left) < 3 {
		t.Errorf("the victim has attached %v", left)
	}
	l.during(t, kill)
	await(t, "all is gone", func() bool { return l.left() == nil })
}

// during has a and b exchange packets while f runs in their midst, and one by one before and after.
func (l *lab) during(t *testing.T, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		time.Sleep(20 * time.Millisecond)
		f()
	}()
	for n, ended := 0, false; !ended || n < 100; n++ {
		select {
		case <-done:
			ended = true
		default:
		}
		l.exchange(7000, 10) // fails when one is lost
	}
}

// TestKilledClsact kills a process whose programs are filters of tc, and of which nothing else is known here. They stay, but do nothing after their lease; Sweep
// takes them and the qdisc away, and nothing of others.
func TestKilledClsact(t *testing.T) {
	l := newLab(t)
	l.arp()
	foreign := l.foreign("p2")
	kill := l.victim(Clsact, "10.7.0.9", apart)
	if gone, err := Sweep(l.host.Path()); err != nil || gone != nil {
		t.Errorf("swept from under a living process: %v, %v", gone, err)
	}
	var gone []Swept
	l.during(t, func() {
		began := time.Now()
		kill()
		if left := l.left(); len(left) < 5 {
			t.Errorf("after kill -9 tc keeps filters: %v", left)
		}
		some := l.swept()
		if took := time.Since(began); some != nil && took < victimLease/3 { // its last renewal was up to a third of the lease before
			t.Errorf("swept within the lease, after %v: %v", took, some)
		}
		gone = some
	})
	await(t, "the lease has ended", func() bool {
		gone = append(gone, l.swept()...)
		return len(gone) >= 4
	})
	for i, g := range gone { // the two leases may end one after the other
		if g.Interface != "p1" || g.Qdisc != (i == 3) || len(gone) != 4 {
			t.Errorf("swept %v", gone)
		}
	}
	want := fmt.Sprint([]string{"filter theirs of p2", "clsact of p2"})
	await(t, "devices are gone", func() bool { return fmt.Sprint(l.left()) == want })
	l.exchange(7000, 10)
	_ = foreign
}

// What a process left that is known to be gone is swept within its lease, too.
func TestSweptAtOnce(t *testing.T) {
	l := newLab(t)
	l.arp()
	l.victim(Clsact, "10.7.0.9")()
	n := 0
	for _, g := range l.swept() { // the devices of the mirror may be there still
		if g.Interface == "p1" {
			n++
		}
	}
	if n < 3 { // the last one goes with the qdisc, in a quiet moment
		t.Errorf("%d of 4 filters swept", n)
	}
	await(t, "nothing is left", func() bool { l.swept(); return l.left() == nil })
}

// swept is Sweep on the host. Some of it may have to wait for a quiet moment.
func (l *lab) swept() []Swept {
	l.t.Helper()
	gone, err := Sweep(l.host.Path())
	if err != nil && !errors.Is(err, errBusy) {
		l.t.Fatal(err)
	}
	return gone
}

// TestJanitor kills a process that has another one beside it, with traffic running: that one removes its filters, and nothing of others. No packet of the application
// is lost.
func TestJanitor(t *testing.T) {
	l := newLab(t)
	l.arp()
	l.foreign("p2")
	kill := l.victim(Clsact, "10.7.0.9", beside)
	if left := l.left(); len(left) < 7 {
		t.Errorf("the victim has attached %v", left)
	}
	l.during(t, kill)
	await(t, "nothing of it is left", func() bool { return fmt.Sprint(l.left()) == "[filter theirs of p2 clsact of p2]" })
	l.exchange(7000, 10)
}

// What starts right after a process was killed finds its filters within their lease, and removes them once that has ended.
func TestSuccessorSweeps(t *testing.T) {
	l := newLab(t)
	l.arp()
	l.victim(Clsact, "10.7.0.9", apart)()
	stop := l.mirror(MirrorConfig{Config: Config{Interfaces: []string{"p2"}, Filter: "udp dst port 7000", Way: Clsact}, Outer: l.vxlan(1)})
	if left := fmt.Sprint(l.left()); !strings.Contains(left, "of p1") {
		t.Logf("the lease had ended before: the test shows little: %s", left)
	}
	await(t, "the filters of the killed process are gone", func() bool { return !strings.Contains(fmt.Sprint(l.left()), "of p1") })
	l.datagrams(9, 100, 7000)
	if s := stop(); s.Out != 9 {
		t.Errorf("%+v", s)
	}
	if left := l.left(); left != nil {
		t.Error(left)
	}
}

// foreign attaches a filter of somebody else.
func (l *lab) foreign(iface string) *netlink.BpfFilter {
	l.t.Helper()
	p, err := load("theirs", asm.Instructions{asm.Mov.Imm(asm.R0, actNext), asm.Return()})
	must(l.t, err)
	defer p.Close()
	f := &netlink.BpfFilter{Fd: p.FD(), Name: "theirs", DirectAction: true}
	must(l.t, l.host.Do(func() error {
		i, err := net.InterfaceByName(iface)
		if err != nil {
			return err
		}
		if err := netlink.QdiscAdd(clsact(i.Index)); err != nil {
			return err
		}
		f.FilterAttrs = netlink.FilterAttrs{LinkIndex: i.Index, Parent: netlink.HANDLE_MIN_INGRESS, Priority: 1, Protocol: unix.ETH_P_ALL, Handle: 1}
		return netlink.FilterAdd(f)
	}))
	return f
}

// A program whose lease has ended lets everything pass. Should its process live on, what it missed is in the books.
func TestLeaseEnds(t *testing.T) {
	l := newLab(t)
	l.arp()
	m, err := NewMirror(MirrorConfig{Config: Config{Interfaces: []string{"p1"}, NetNS: l.host.Path(), Filter: "udp dst port 7000", IngressOnly: true, Way: Clsact}, Outer: l.vxlan(1)})
	must(t, err)
	must(t, m.Open())
	defer m.Close()
	l.datagrams(5, 100, 7000)
	must(t, m.lease.m.Put(uint32(0), uint64(1)))
	l.datagrams(6, 100, 7000)
	must(t, m.lease.renew())
	l.datagrams(7, 100, 7000)
	m.account()
	if s := m.Book().Read(); s.Out != 12 || s.In != 18 || dropped(s, DropLost) != 6 {
		t.Errorf("%+v", s)
	}
}

// Programs stand beside those of others: both run, and closing ours leaves theirs and their qdisc.
func TestBesideOthers(t *testing.T) {
	for _, way := range []Way{TCX, Clsact} {
		t.Run(way.String(), func(t *testing.T) {
			l := newLab(t)
			l.arp()
			l.foreign("p1")
			stop := l.mirror(MirrorConfig{Config: Config{Filter: "udp dst port 7000", IngressOnly: true, Way: way}, Outer: l.vxlan(1)})
			l.datagrams(9, 100, 7000)
			if s := stop(); s.Out != 9 {
				t.Errorf("%+v", s)
			}
			if got, want := fmt.Sprint(l.left()), "[filter theirs of p1 clsact of p1]"; got != want {
				t.Errorf("left: %s, want %s", got, want)
			}
		})
	}
}
