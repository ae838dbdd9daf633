//go:build linux

package linux

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/control/platform"
	"crosstap/internal/flow"
	"crosstap/internal/libvirt"
	"crosstap/internal/libvirt/libvirttest"
)

// A machine's interface goes and comes: its copies come back, and what was missed is told.
func TestFollow(t *testing.T) {
	l := newLab(t)
	var mu sync.Mutex
	var gaps []platform.Gap
	p := l.platform("h1")
	p.OnGap(func(g platform.Gap) {
		mu.Lock()
		defer mu.Unlock()
		gaps = append(gaps, g)
	})
	l.warm("a>b")
	converge(t, p, l.session("web", 7001, "", "a", "b"))
	ctx, cancel := context.WithCancel(t.Context())
	done, inventory := make(chan error, 1), platform.NewInventory("h1")
	settled := make(chan []string, 1000) // names of the tapped ports, after each update
	go func() {
		done <- p.Watch(ctx, func(u platform.Update) {
			inventory.Apply(u)
			now := inventory.Snapshot()
			var ports []string
			for _, x := range []string{"a", "b"} {
				if now.Ports["vnet-"+x] != nil && now.Ports["vnet-"+x].Switch == "br0" {
					ports = append(ports, x)
				}
			}
			steps, _ := p.Steps(now, platform.Want{Owner: "test", Sessions: []platform.Session{l.session("web", 7001, "", ports...)}})
			for _, s := range steps {
				if err := p.Apply(ctx, s); err != nil && !errors.Is(err, platform.ErrGone) && !errors.Is(err, platform.ErrChanged) && ctx.Err() == nil {
					t.Errorf("%s: %v", s.Summary, err)
				}
			}
			settled <- ports
		})
	}()
	has := func(want string) {
		t.Helper()
		timeout := time.After(time.Minute)
		for got := "?"; got != want; {
			select {
			case ports := <-settled:
				got = strings.Join(ports, "")
			case <-timeout:
				t.Fatalf("the tapped ports are %s, never %s", got, want)
			}
		}
	}
	has("ab")
	l.unplug("h1", "b")
	has("a")
	l.vm("h1", "br0", "b", 2)
	has("ab")
	wait(t, "no gap is told", func() bool { mu.Lock(); defer mu.Unlock(); return len(gaps) > 0 })
	stop := l.capture()
	l.warm("b>a")
	l.ping("b", "a", 20)
	copies := len(l.decoded(stop(), 7001, "icmp.type == 8 && ip.src == 10.1.0.2", "frame.number"))
	if copies < 20 {
		t.Errorf("%d copies after the interface came back", copies)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	received := l.counter("h1", "vnet-b", "rx_packets")
	counted := l.fromB("h1")
	mu.Lock()
	defer mu.Unlock()
	if missed := received - counted; len(gaps) != 1 || gaps[0].Port != "vnet-b" || gaps[0].Policy != "web" || missed < int(gaps[0].Least) || missed > int(gaps[0].Packets) {
		t.Errorf("%d of %d packets of b were missed, told were %+v", missed, received, gaps)
	}
	t.Logf("gap %+v", gaps)
}

func (l *lab) counter(host, dev, name string) int {
	l.t.Helper()
	n, err := strconv.Atoi(strings.TrimSpace(l.output(host, "cat /sys/class/net/"+dev+"/statistics/"+name)))
	if err != nil {
		l.t.Fatal(err)
	}
	return n
}

// fromB reads out of tc how many packets from machine b were copied.
func (l *lab) fromB(host string) int {
	l.t.Helper()
	out := l.output(host, "tc -s filter show dev vnet-b ingress")
	_, after, _ := strings.Cut(out, "Sent ")
	var bytes, packets int
	if _, err := fmt.Sscanf(after, "%d bytes %d pkt", &bytes, &packets); err != nil {
		l.t.Fatalf("%v:\n%s", err, out)
	}
	return packets
}

// A controller that is killed in the middle of its work leaves what the next one brings to any end.
func TestKilled(t *testing.T) {
	l := newLab(t)
	p := l.platform("h1")
	bare := l.untouched("h1")
	want := []platform.Session{l.session("web", 7001, "icmp", "a", "b"), l.session("db", 7002, "tcp", "a", "b")}
	for round := range 7 {
		l.killWorker("h1", 3+11*round)
		if round%2 == 0 {
			converge(t, p, want...)
		}
		converge(t, p)
		if diff := cmp.Diff(bare, l.untouched("h1")); diff != "" {
			t.Fatalf("round %d: left behind:\n%s", round, diff)
		}
	}
}

// While the machines speak, killed controllers lose none of their packets either, and when they are silent nothing is left.
func TestKilledUnderLoad(t *testing.T) {
	l := newLab(t)
	p := l.platform("h1")
	bare := l.untouched("h1")
	l.warm("a>b", "b>a")
	converge(t, p, l.session("web", 7001, "icmp", "a", "b")) // makes the qdiscs
	streams := []*stream{l.stream("a", "b"), l.stream("b", "a")}
	for round := range 5 {
		l.killWorker("h1", 2+9*round)
	}
	whole(t, "controllers that are killed", streams...)
	converge(t, p)
	if diff := cmp.Diff(bare, l.untouched("h1")); diff != "" {
		t.Errorf("left behind:\n%s", diff)
	}
}

// killWorker runs TestWorker as a process of its own, and kills it when it has begun so many steps.
func (l *lab) killWorker(host string, steps int) {
	l.t.Helper()
	c := exec.Command(os.Args[0], "-test.run=^TestWorker$", "-test.v")
	c.Env = append(os.Environ(), "LINUX_TEST_WORKER="+l.hosts[host].Path())
	out, err := c.StdoutPipe()
	if err != nil {
		l.t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		l.t.Fatal(err)
	}
	buf := make([]byte, 1)
	for seen := 0; seen < steps; { // it writes a dot before each step
		if _, err := out.Read(buf); err != nil {
			break
		}
		if buf[0] == '.' {
			seen++
		}
	}
	_ = c.Process.Kill()
	_ = c.Wait()
}

// TestWorker is the process that is killed: it makes and ends taps until then.
func TestWorker(t *testing.T) {
	space := os.Getenv("LINUX_TEST_WORKER")
	if space == "" {
		return
	}
	p, err := New(Config{Name: "h1", Host: "h1", NetNS: space})
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{t: t, mac: map[string]flow.MAC{"a": 0x020000000001, "b": 0x020000000002}}
	want := []platform.Session{l.session("web", 7001, "icmp", "a", "b"), l.session("db", 7002, "tcp", "a", "b")}
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		for _, sessions := range [][]platform.Session{want, want[:1], nil} {
			now, err := p.Read(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			steps, _ := p.Steps(now, platform.Want{Owner: "test", Sessions: sessions})
			for _, s := range steps {
				_, _ = os.Stdout.WriteString(".")
				if err := p.Apply(t.Context(), s); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// A step that is taken back leaves what was there before.
func TestUndo(t *testing.T) {
	l := newLab(t)
	p := l.platform("h1")
	bare := l.untouched("h1")
	first := converge(t, p, l.session("web", 7001, "icmp", "a", "b"))
	one := l.untouched("h1")
	now, err := p.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	second, refused := p.Steps(now, platform.Want{Owner: "test", Sessions: []platform.Session{l.session("web", 7002, "tcp", "b")}})
	if len(refused) > 0 {
		t.Fatal(refused)
	}
	for _, s := range second {
		if err := p.Apply(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	back := func(steps []platform.Step, want string) {
		t.Helper()
		for range 2 { // a second time does nothing
			for i := len(steps) - 1; i >= 0; i-- {
				if err := p.Undo(t.Context(), steps[i]); err != nil {
					t.Fatalf("%s: %v", steps[i].Summary, err)
				}
			}
			if diff := cmp.Diff(want, l.untouched("h1")); diff != "" {
				t.Fatalf("taken back:\n%s", diff)
			}
		}
	}
	back(second, one)
	back(first, bare)
}

// libvirt says which machine an interface is of.
func TestGuests(t *testing.T) {
	l := newLab(t)
	file := filepath.Join(t.TempDir(), "node.xml")
	if err := os.WriteFile(file, []byte(`<node><domain type='test'><name>web</name><uuid>6695eb01-f6a4-8304-79aa-97f2502e1900</uuid>
<memory>65536</memory><vcpu>1</vcpu><os><type>hvm</type></os>
<devices><interface type='bridge'><mac address='52:54:00:aa:00:01'/><source bridge='br0'/></interface></devices></domain></node>`), 0o600); err != nil {
		t.Fatal(err)
	}
	d := libvirttest.Start(t, file)
	u, err := libvirt.ParseURI(d.URI())
	if err != nil {
		t.Fatal(err)
	}
	l.hosts["h1"].Sh("ip tuntap add testnet0 mode tap && ip link set testnet0 master br0 up") // as libvirt's test driver names it
	p, err := New(Config{Name: "h1", Host: "h1", NetNS: l.hosts["h1"].Path(), Libvirt: &libvirt.Source{Endpoint: libvirt.Endpoint{URI: u}}})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	now, err := p.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	port := now.Ports["testnet0"]
	if port == nil || port.Kind != platform.PortVM || now.VMs[port.VM] == nil || now.VMs[port.VM].Name != "web" || port.MAC.String() != "52:54:00:aa:00:01" ||
		len(port.Addrs) != 1 || port.Segment != flow.NewSegment(flow.KindVXLAN, 5001) || port.Switch != "br0" {
		t.Errorf("%+v", port)
	}
	d.Stop()
	if _, err := p.Read(t.Context()); err == nil {
		t.Error("half an inventory is told when libvirt does not answer")
	}
}
