package control_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"crosstap/internal/control"
	"crosstap/internal/control/platform"
	"crosstap/internal/control/platform/ovs"
	"crosstap/internal/control/platform/platformtest"
	"crosstap/internal/control/policy"
	"crosstap/internal/ovsdb/ovstest"
	"crosstap/internal/state"
	"crosstap/internal/testkit"
	"crosstap/internal/testns"
)

// lab is hosts with Open vSwitch, machines and a tool, in namespaces: an underlay 10.99.0.0/24 with the hosts at .1, .2, and the tool at
// .9; machines of one overlay (VXLAN 5001) in 10.1.0.0/24.
type lab struct {
	t     *testing.T
	under *testns.Space
	tool  *testns.Space
	hosts []*host
	state *state.Store
	line  *control.Line

	followed platformtest.Followed
}

type host struct {
	lab  *lab
	n    int
	ns   *testns.Space
	db   *ovstest.DB
	name string
}

type vm struct {
	ns   *testns.Space
	name string
	addr string
	n    int
}

const quiet = "sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1 2>/dev/null || true"

// newLab builds hosts, switches and a tool in namespaces of their own, for a test that runs beside others: they mostly wait, and share nothing.
func newLab(t *testing.T, hosts int) *lab {
	t.Helper()
	t.Parallel()
	for _, tool := range []string{"ethtool", "tshark", "tcpdump", "ovs-vswitchd"} {
		testkit.Tool(t, tool)
	}
	l := &lab{t: t, under: testns.New(t), tool: testns.New(t)}
	l.under.Sh(quiet + "; ip link add br0 type bridge && ip link set br0 up")
	l.tool.Sh(quiet)
	l.cable(l.tool, "eth0", "tool")
	l.tool.Sh("ip addr add 10.99.0.9/24 dev eth0 && ip link set eth0 address 02:00:00:00:00:09")
	for n := 1; n <= hosts; n++ {
		l.hosts = append(l.hosts, l.host(n))
	}
	for _, h := range l.hosts {
		for _, o := range l.hosts {
			if o != h {
				h.db.Vsctl(fmt.Sprintf("add-port br-int tun%d -- set interface tun%d type=vxlan options:remote_ip=10.99.0.%d options:local_ip=10.99.0.%d options:key=5001", o.n, o.n, o.n, h.n))
			}
		}
		l.sink()
	}
	l.open(filepath.Join(t.TempDir(), "state.db"))
	return l
}

// cable puts one end of a cable into a namespace, the other on the underlay.
func (l *lab) cable(to *testns.Space, name, port string) {
	l.under.Sh(fmt.Sprintf("ip link add name %s type veth peer name %s netns NS && ip link set %s master br0 up", port, name, port), to)
	to.Sh("ip link set " + name + " up; ethtool -K " + name + " tx off tso off gso off gro off >/dev/null")
}

// sink takes what comes to the tool, so that it does not answer.
func (l *lab) sink() {
	for _, port := range []int{4789, 6081, 4739, 4790} {
		l.tool.Do(func() error { //nolint:errcheck // bound by the first host
			c, err := net.ListenPacket("udp4", fmt.Sprintf("10.99.0.9:%d", port))
			if err == nil {
				l.t.Cleanup(func() { c.Close() })
				go io.Copy(io.Discard, c.(*net.UDPConn)) //nolint:errcheck // ends with the test
			}
			return nil
		})
	}
	l.tool.Do(func() error { //nolint:errcheck // as above
		c, err := net.ListenPacket("ip4:47", "10.99.0.9")
		if err == nil {
			l.t.Cleanup(func() { c.Close() })
		}
		return nil
	})
}

func (l *lab) host(n int) *host {
	h := &host{lab: l, n: n, ns: testns.New(l.t), name: fmt.Sprintf("kvm-%d", n)}
	h.ns.Sh(quiet)
	l.cable(h.ns, "eth0", fmt.Sprintf("host%d", n))
	h.db = ovstest.New(l.t, h.ns.Do)
	h.db.Switch()
	h.db.Vsctl(fmt.Sprintf("--no-wait set Open_vSwitch . external_ids:hostname=%s", h.name))
	h.db.Vsctl(fmt.Sprintf("add-br br-phy -- set bridge br-phy datapath_type=netdev other-config:hwaddr=02:00:00:00:00:%02x -- add-port br-phy eth0", n))
	h.db.Vsctl("add-br br-int -- set bridge br-int datapath_type=netdev fail_mode=standalone")
	h.ns.Sh(fmt.Sprintf("ip addr add 10.99.0.%d/24 dev br-phy && ip link set br-phy up && ip link set br-int up", n))
	return h
}

// vm attaches a machine, number n in its names and addresses.
func (h *host) vm(name string, n int, more ...string) *vm {
	h.lab.t.Helper()
	v := &vm{ns: testns.New(h.lab.t), name: name, n: n, addr: fmt.Sprintf("10.1.0.%d", n)}
	v.ns.Sh(quiet)
	h.attach(v, more...)
	return v
}

// attach puts a machine's adapter into its namespace and the port on br-int.
func (h *host) attach(v *vm, more ...string) {
	h.lab.t.Helper()
	port := fmt.Sprintf("vnet%d", v.n)
	mac := fmt.Sprintf("02:00:00:00:01:%02x", v.n)
	h.ns.Sh("ip link add name "+port+" type veth peer name eth0 netns NS && ip link set dev "+port+" up", v.ns)
	v.ns.Sh(fmt.Sprintf("ip link set eth0 address %s mtu 1400 && ethtool -K eth0 tx off tso off gso off >/dev/null && ip addr add %s/24 dev eth0 && ip link set eth0 up", mac, v.addr))
	h.db.Vsctl(fmt.Sprintf("add-port br-int %s %s -- set interface %s external_ids:iface-id=if-%s external_ids:attached-mac=%q external_ids:vm-uuid=%s",
		port, strings.Join(more, " "), port, v.name, mac, v.name))
}

// detach takes it away again.
func (h *host) detach(v *vm) {
	h.lab.t.Helper()
	port := fmt.Sprintf("vnet%d", v.n)
	h.db.Vsctl("del-port br-int " + port)
	h.ns.Sh("ip link del " + port)
}

// ofctl gives one of the host's bridges a command of ovs-ofctl.
func (h *host) ofctl(command, bridge string, args ...string) {
	h.lab.t.Helper()
	at := "unix:" + filepath.Join(filepath.Dir(h.db.Socket()), bridge+".mgmt")
	if out, err := exec.Command(testkit.Tool(h.lab.t, "ovs-ofctl"), append([]string{command, at}, args...)...).CombinedOutput(); err != nil {
		h.lab.t.Fatalf("ovs-ofctl %s %s: %v: %s", command, bridge, err, out)
	}
}

// know tells machines each other's addresses, so that none asks.
func know(all ...*vm) {
	for _, a := range all {
		for _, b := range all {
			if a != b {
				a.ns.Sh(fmt.Sprintf("ip neigh replace %s lladdr 02:00:00:00:01:%02x dev eth0 nud permanent", b.addr, b.n))
			}
		}
	}
}

// open opens the control line with a store at path.
func (l *lab) open(path string) {
	l.t.Helper()
	st, err := state.Open(l.t.Context(), path)
	if err != nil {
		l.t.Fatal(err)
	}
	line, err := control.New(control.Config{Store: st, Connect: l.connect})
	if err != nil {
		l.t.Fatal(err)
	}
	l.state, l.line = st, line
	l.t.Cleanup(func() { line.Close(); st.Close() })
}

func (l *lab) connect(r *policy.Platform) (platform.Platform, error) {
	p, err := connect(r)
	return &followed{p.(*ovs.Platform), &l.followed}, err
}

// followed is a platform that says when it is followed.
type followed struct {
	*ovs.Platform
	by *platformtest.Followed
}

func (f *followed) Watch(ctx context.Context, update func(platform.Update)) error {
	return f.by.Watch(ctx, f.Platform, update)
}

func connect(r *policy.Platform) (platform.Platform, error) {
	return ovs.New(ovs.Config{Name: r.Name, Address: r.Address, Log: slog.New(slog.DiscardHandler)})
}

// platforms are the Platform resources of the hosts.
func (l *lab) platforms() (text string) {
	for _, h := range l.hosts {
		text += fmt.Sprintf("---\napiVersion: crosstap/v1\nkind: Platform\nmetadata: {name: %s}\nspec: {kind: ovs, address: \"unix:%s\"}\n", h.name, h.db.Socket())
	}
	return text
}

func destination(name, spec string) string {
	return fmt.Sprintf("---\napiVersion: crosstap/v1\nkind: Destination\nmetadata: {name: %s}\nspec: {%s}\n", name, spec)
}

func tap(name, spec string) string {
	return fmt.Sprintf("---\napiVersion: crosstap/v1\nkind: Tap\nmetadata: {name: %s}\nspec: {%s}\n", name, spec)
}

// plan plans resources with the hosts' platforms.
func (l *lab) plan(text string) *control.Plan {
	l.t.Helper()
	set, err := policy.Parse("test", []byte(l.platforms()+text))
	if err != nil {
		l.t.Fatal(err)
	}
	p, err := l.line.Plan(l.t.Context(), control.Wanted{Set: set})
	if err != nil {
		l.t.Fatal(err)
	}
	return p
}

// apply applies resources; nothing may be refused or fail.
func (l *lab) apply(text string) *control.Outcome {
	l.t.Helper()
	p := l.plan(text)
	if len(p.Refusals) > 0 {
		l.t.Fatalf("refused: %+v", p.Refusals)
	}
	out, err := l.line.Apply(l.t.Context(), p, control.Author{Who: "test", Action: "apply"})
	if err != nil || out.State != state.Done {
		l.t.Fatalf("%+v, %v", out, err)
	}
	l.revalidated()
	if again := l.plan(text); len(again.Steps) > 0 {
		l.t.Fatalf("not as it was planned: %+v", again.Steps)
	}
	return out
}

func (l *lab) remove(kind, name string) {
	l.t.Helper()
	p, err := l.line.Plan(l.t.Context(), control.Wanted{Delete: []policy.Resource{{Kind: kind, Name: name}}})
	if err != nil {
		l.t.Fatal(err)
	}
	if out, err := l.line.Apply(l.t.Context(), p, control.Author{Who: "test", Action: "delete"}); err != nil || out.State != state.Done {
		l.t.Fatalf("%+v, %v", out, err)
	}
	l.revalidated()
}

// revalidated waits until the switches have seen to their cached flows, so that tests can count from here on.
func (l *lab) revalidated() {
	for _, h := range l.hosts {
		h.db.Revalidated()
	}
}

// send sends n UDP datagrams to a machine; nobody answers.
func (v *vm) send(t *testing.T, to *vm, port, n int) {
	t.Helper()
	var sink net.PacketConn
	var c net.Conn
	must(t, to.ns.Do(func() (err error) {
		sink, err = net.ListenPacket("udp4", net.JoinHostPort(to.addr, strconv.Itoa(port)))
		return err
	}))
	defer sink.Close()
	must(t, v.ns.Do(func() (err error) {
		c, err = net.Dial("udp4", net.JoinHostPort(to.addr, strconv.Itoa(port)))
		return err
	}))
	defer c.Close()
	for i := range n {
		if _, err := fmt.Fprintf(c, "%s to %s, number %d", v.name, to.name, i); err != nil {
			t.Fatal(err)
		}
	}
	got := 0
	for b := make([]byte, 2000); got < n; got++ {
		must(t, sink.SetReadDeadline(time.Now().Add(time.Minute)))
		if _, _, err := sink.ReadFrom(b); err != nil {
			t.Fatalf("%s got %d of %d datagrams: %v", to.name, got, n, err)
		}
	}
}

// learn has the switches learn where machines and tunnel endpoints are: the first packets go everywhere, or are lost.
func (l *lab) learn(t *testing.T, all ...*vm) {
	t.Helper()
	for _, a := range all {
		for _, b := range all {
			if a != b {
				a.reach(t, b)
			}
		}
	}
}

// reach sends until something arrives.
func (v *vm) reach(t *testing.T, to *vm) {
	t.Helper()
	var sink net.PacketConn
	var c net.Conn
	must(t, to.ns.Do(func() (err error) { sink, err = net.ListenPacket("udp4", net.JoinHostPort(to.addr, "9")); return err }))
	defer sink.Close()
	must(t, v.ns.Do(func() (err error) { c, err = net.Dial("udp4", net.JoinHostPort(to.addr, "9")); return err }))
	defer c.Close()
	for b, n := make([]byte, 100), 0; ; n++ {
		c.Write([]byte("where are you")) //nolint:errcheck // sent again
		must(t, sink.SetReadDeadline(time.Now().Add(100*time.Millisecond)))
		if _, _, err := sink.ReadFrom(b); err == nil {
			return
		}
		if n == 300 {
			t.Fatalf("%s does not reach %s", v.name, to.name)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// listen begins to capture at a place. The function ends it, when what tshark says of the packets is as enough wants it or nothing comes any
// more after a while, and returns the fields of each packet that display shows.
func listen(t *testing.T, at *testns.Space, filter string) func(enough func(rows [][]string) bool, display string, fields ...string) [][]string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tool.pcap")
	stop := at.Dump(testkit.Tool(t, "tcpdump"), path, filter)
	return func(enough func(rows [][]string) bool, display string, fields ...string) [][]string {
		t.Helper()
		args := []string{"-n", "-r", path, "-Y", display, "-T", "fields", "-E", "occurrence=l"}
		for _, f := range fields {
			args = append(args, "-e", f)
		}
		for end := time.Now().Add(time.Minute); ; {
			testns.WaitStill(path)
			out, err := exec.CommandContext(context.Background(), "tshark", args...).Output()
			var rows [][]string
			for line := range strings.Lines(string(out)) {
				rows = append(rows, strings.Split(strings.TrimRight(line, "\n"), "\t"))
			}
			if err == nil && (enough == nil || enough(rows)) || time.Now().After(end) { // an error: it reads while the last packet is written
				stop()
				return rows
			}
		}
	}
}

// is wants a tally.
func is(want string) func([][]string) bool {
	return func(rows [][]string) bool { return tally(rows) == want }
}

// tally counts rows that are alike.
func tally(rows [][]string) string {
	n := map[string]int{}
	for _, r := range rows {
		n[strings.Join(r, " ")]++
	}
	var out []string
	for k, v := range n {
		out = append(out, fmt.Sprintf("%d× %s", v, k))
	}
	slices.Sort(out)
	return strings.Join(out, "; ")
}
