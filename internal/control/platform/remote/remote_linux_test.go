package remote_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"crosstap/internal/control/platform"
	"crosstap/internal/control/platform/linux"
	"crosstap/internal/control/platform/machine"
	"crosstap/internal/control/platform/remote"
	"crosstap/internal/libvirt"
	"crosstap/internal/libvirt/libvirttest"
	"crosstap/internal/rpc"
	"crosstap/internal/rpc/sshtest"
	"crosstap/internal/testkit"
	"crosstap/internal/testns"
)

const (
	patience = 2 * time.Minute
	farKey   = "CROSSTAP_TEST_FAR" // says that this process is a far end
)

// TestMain lets the test's own program be the far end, as crosstap is.
func TestMain(m *testing.M) {
	if os.Getenv(farKey) == "" {
		os.Exit(m.Run())
	}
	err := remote.Serve(context.Background(), os.Stdin, os.Stdout, func(r remote.Resource) (platform.Platform, error) {
		return machine.Linux(machine.Resource{Name: r.Name, Address: r.Address, Host: r.Host, Options: r.Options}, nil)
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// host is a machine with a real sshd.
type host struct {
	*sshtest.Host
	t   *testing.T
	far string // command of the far end
}

func newHost(t *testing.T) *host {
	t.Helper()
	return &host{sshtest.New(t), t, farKey + "=1 " + rpc.Quote(os.Args[0])}
}

func (h *host) platform() *remote.Platform {
	h.t.Helper()
	p, err := remote.New(remote.Config{
		Resource: remote.Resource{Name: "kvm-4", Kind: "linux", Host: "kvm-4", Options: map[string]string{"libvirt": "none"}}, SSH: h.SSH, Command: h.far,
	})
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { p.Close() })
	return p
}

// A kernel behind a real sshd: the same inventory as without ssh, taps that are made, found again, counted and removed, a machine that comes,
// a session that breaks, and what ssh says when it does not let us in.
func TestKernelBehindSSH(t *testing.T) {
	h := newHost(t)
	testkit.Tool(t, "tc")
	tool, vm := testns.New(t), testns.New(t)
	h.Space.Sh("ip link add br0 type bridge mcast_snooping 0 && ip link set br0 up; ip link add up0 type veth peer name eth0 netns NS && ip addr add 10.9.0.1/24 dev up0 && ip link set up0 up", tool)
	tool.Sh("ip addr add 10.9.0.9/24 dev eth0 && ip link set eth0 up")
	plug := func(name string, peer *testns.Space) {
		h.Space.Sh("ip link add "+name+" type veth peer name eth0 address 02:00:00:00:00:01 netns NS && ip link set "+name+" master br0 up", peer)
		peer.Sh("ip addr add 10.1.0.1/24 dev eth0 && ip link set eth0 up")
	}
	plug("vnet1", vm)
	h.Space.Up("vnet1", "up0")

	p := h.platform()
	here, err := linux.New(linux.Config{Name: "kvm-4", Host: "kvm-4", NetNS: h.Space.Path()})
	if err != nil {
		t.Fatal(err)
	}
	defer here.Close()
	same := func() {
		t.Helper()
		for end := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
			want, err := here.Read(t.Context())
			must(t, err)
			got, err := p.Read(t.Context())
			must(t, err)
			got.AtNS = want.AtNS
			for id, port := range got.Ports { // what passes meanwhile
				if w := want.Ports[id]; w != nil {
					port.RxBytes, port.TxBytes = w.RxBytes, w.TxBytes
				}
			}
			diff := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}))
			if diff == "" {
				return
			}
			if time.Now().After(end) {
				t.Fatal(diff)
			}
		}
	}
	same()

	updates := make(chan platform.Update, 1000)
	ctx, cancel := context.WithCancel(t.Context())
	watched := make(chan error, 1)
	go func() { watched <- p.Watch(ctx, func(u platform.Update) { updates <- u }) }()
	defer func() { cancel(); must(t, <-watched) }()
	until(t, updates, func(u platform.Update) bool { return u.Whole })

	s := platform.Session{
		Mark:   platform.Mark{Owner: "crosstap", Policy: "web", Part: "br0", Digest: "1"},
		Method: platform.MethodRemoteMirror, Host: "kvm-4", Switch: "br0", Filter: "udp dst port 5001",
		Sources: []platform.Source{{Port: "vnet1", Dir: platform.Ingress}},
		Outputs: []platform.Output{{Name: "ids", Encap: platform.EncapVXLAN, Addr: netip.MustParseAddr("10.9.0.9"), UDP: 4789, Key: 7}},
	}
	want := platform.Want{Owner: "crosstap", Sessions: []platform.Session{s}}
	plan := func(p platform.Platform) []platform.Step {
		t.Helper()
		now, err := p.Read(t.Context())
		must(t, err)
		steps, refused := p.Steps(now, want)
		if len(refused) > 0 {
			t.Fatalf("%+v", refused)
		}
		return steps
	}
	steps := plan(p)
	if diff := cmp.Diff(plan(here), steps, cmpopts.EquateEmpty()); diff != "" || len(steps) == 0 {
		t.Errorf("steps differ from those without ssh: %s", diff)
	}
	for _, step := range steps {
		must(t, p.Apply(t.Context(), step))
	}
	if again := append(plan(p), plan(here)...); len(again) > 0 {
		t.Errorf("left to do: %+v", again)
	}
	path := filepath.Join(t.TempDir(), "tool.pcap")
	stop := tool.Dump(testkit.Tool(t, "tcpdump"), path, "udp dst port 4789")
	vm.Sh("ip neigh replace 10.1.0.2 lladdr 02:00:00:00:00:02 dev eth0 nud permanent")
	for _, to := range []string{"10.1.0.2:5000", "10.1.0.2:5001"} {
		must(t, vm.Do(func() error {
			c, err := net.Dial("udp4", to)
			if err != nil {
				return err
			}
			defer c.Close()
			for range 5 {
				if _, err := c.Write([]byte("hello")); err != nil {
					return err
				}
			}
			return nil
		}))
	}
	testkit.Eventually(t, "five copies are counted", func() bool {
		n, err := p.Counters(t.Context(), "crosstap")
		return err == nil && n["web/br0"].Packets == 5
	})
	testns.WaitStill(path)
	stop()
	out, err := exec.Command(testkit.Tool(t, "tcpdump"), "-n", "-r", path).Output()
	if n := strings.Count(string(out), "10.1.0.2.5001"); err != nil || n != 5 || strings.Contains(string(out), "10.1.0.2.5000") {
		t.Errorf("tcpdump shows %d copies: %v\n%s", n, err, out)
	}

	// A step of an interface that is another one by now is told as what it is.
	stale := steps[len(steps)-1]
	h.Space.Sh("ip link del vnet1")
	if err := p.Apply(t.Context(), stale); !errors.Is(err, platform.ErrGone) {
		t.Errorf("a port that is gone: %v", err)
	}
	plug("vnet1", testns.New(t))
	until(t, updates, func(u platform.Update) bool {
		for _, port := range u.Ports {
			if port.Name == "vnet1" {
				return true
			}
		}
		return false
	})

	// All that sshd has started dies: it is told, made again, and the tap is still there.
	h.HangUp()
	until(t, updates, func(u platform.Update) bool { return u.Lost != nil })
	until(t, updates, func(u platform.Update) bool { return u.Whole && u.Lost == nil })
	same()
	for _, step := range plan(p) {
		must(t, p.Apply(t.Context(), step))
	}
	// The tap ends while the interface sends: its qdisc stays until a quiet moment, for which the next session looks when this one breaks.
	at := func() string {
		var out []byte
		must(t, h.Space.Do(func() (err error) {
			out, err = exec.Command("sh", "-c", "tc qdisc show dev vnet1 clsact; tc filter show dev vnet1 ingress").CombinedOutput()
			return err
		}))
		return string(out)
	}
	h.Space.Sh("ip addr add 10.1.0.254/24 dev br0 && ip neigh replace 10.1.0.1 lladdr 02:00:00:00:00:01 dev br0 nud permanent")
	quiet := h.Space.Chatter("10.1.0.1:7000")
	want.Sessions = nil
	for _, step := range plan(p) {
		must(t, p.Apply(t.Context(), step))
	}
	h.HangUp()
	until(t, updates, func(u platform.Update) bool { return u.Lost != nil })
	until(t, updates, func(u platform.Update) bool { return u.Whole && u.Lost == nil })
	if left := at(); !strings.Contains(left, "protocol [34997]") || strings.Contains(left, "mirred") {
		t.Errorf("after the end under load:\n%s", left)
	}
	quiet()
	testkit.Eventually(t, "the qdisc goes in a quiet moment", func() bool { return at() == "" })
	same()
	if left := plan(here); len(left) > 0 {
		t.Errorf("left: %+v", left)
	}

	// Who is not let in, and a machine without crosstap: in the words of ssh and of the shell there, and nothing is planned.
	f := func(why string, change func(*remote.Config)) {
		t.Helper()
		c := remote.Config{Resource: remote.Resource{Name: "kvm-4", Kind: "linux", Host: "kvm-4"}, SSH: h.SSH, Command: h.far}
		change(&c)
		p, err := remote.New(c)
		must(t, err)
		defer p.Close()
		if _, err := p.Read(t.Context()); !errors.Is(err, platform.ErrUnreachable) || !strings.Contains(err.Error(), why) {
			t.Errorf("want %q: %v", why, err)
		}
		steps, refused := p.Steps(platform.NewSnapshot("kvm-4"), platform.Want{Owner: "crosstap", Sessions: []platform.Session{s}})
		if len(steps) != 0 || len(refused) != 1 || refused[0].Reason != platform.ReasonDown {
			t.Errorf("%+v, %+v", steps, refused)
		}
	}
	f("Permission denied", func(c *remote.Config) { c.SSH.User = "nobody" })
	f("nothing-there", func(c *remote.Config) { c.Command = "nothing-there platform" })
	f("install one of them", func(c *remote.Config) {
		c.Command = strings.Replace(remote.DefaultCommand(), "crosstap crosstap-agent", "not-a-crosstap", 1)
	})
	f("Host key verification failed", func(c *remote.Config) { h.Know("key") })
}

// The machines of a libvirt behind a real sshd, as virsh would name it.
func TestLibvirtBehindSSH(t *testing.T) {
	h := newHost(t)
	testkit.Tool(t, "nc")
	d := libvirttest.Start(t, "")
	u, err := libvirt.ParseURI("test+ssh://" + h.SSH.User + "@kvm-4/default?socket=" + d.Socket())
	must(t, err)
	state, err := (&libvirt.Source{Endpoint: libvirt.Endpoint{URI: u, SSH: h.SSH.Program}}).Read(t.Context())
	if err != nil || len(state.Guests) != 1 || state.Guests[0].Name != "test" {
		t.Errorf("%+v, %v", state, err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func until(t *testing.T, updates chan platform.Update, f func(platform.Update) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		select {
		case u := <-updates:
			if f(u) {
				return
			}
		case <-ctx.Done():
			t.Fatal("nothing was told")
		}
	}
}
