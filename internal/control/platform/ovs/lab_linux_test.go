package ovs_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"crosstap/internal/control/platform"
	"crosstap/internal/control/platform/ovs"
	"crosstap/internal/ovsdb/ovstest"
	"crosstap/internal/testkit"
	"crosstap/internal/testns"
)

// patience bounds every wait. It is generous: nothing here measures speed.
const patience = 2 * time.Minute

const aloneKey = "CROSSTAP_TEST_ALONE"

// alone runs the test again in a process with a network namespace of its own, and reports whether this is that process: there the
// loopback addresses and their ports are the test's.
func alone(t *testing.T) bool {
	t.Helper()
	if os.Getenv(aloneKey) == t.Name() {
		return true
	}
	t.Parallel() // they mostly wait
	for _, tool := range []string{"ethtool", "tshark", "tcpdump", "ovs-vswitchd", "ovs-pki"} {
		testkit.Tool(t, tool)
	}
	space := testns.New(t)
	c := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.count=1", "-test.timeout=10m")
	c.Env = append(os.Environ(), aloneKey+"="+t.Name())
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var out []byte
	err := space.Do(func() (err error) { out, err = c.CombinedOutput(); return err })
	switch {
	case err != nil:
		t.Fatalf("%v\n%s", err, out)
	case strings.Contains(string(out), "--- SKIP"):
		t.Skip(string(out))
	}
	return false
}

// lab is one host with Open vSwitch in the test's own namespace, machines on br-int (10.1.0.0/24), and a tool at 10.99.0.9.
type lab struct {
	t    *testing.T
	dir  string
	db   *ovstest.DB
	tool *testns.Space
	vms  []*vm
}

type vm struct {
	ns   *testns.Space
	n    int
	port string
	addr string
}

const quiet = "sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1 2>/dev/null || true\n"

func sh(t *testing.T, script string) string {
	t.Helper()
	out, err := exec.Command("sh", "-ec", script).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", script, err, out)
	}
	return string(out)
}

// newLab starts a switch with machines 1 to n; args are more of the database server's.
func newLab(t *testing.T, n int, args ...string) *lab {
	t.Helper()
	l := &lab{t: t, dir: t.TempDir(), tool: testns.New(t)}
	sh(t, quiet)
	l.tool.Sh(quiet)
	sh(t, "ip link add phy0 type veth peer name eth0 netns "+l.tool.Path()+" && ip link set phy0 up && ethtool -K phy0 tx off tso off gso off gro off >/dev/null")
	l.tool.Sh("ethtool -K eth0 tx off tso off gso off gro off >/dev/null; ip addr add 10.99.0.9/24 dev eth0; ip link set eth0 address 02:00:00:00:00:09 up")
	l.db = ovstest.New(t, nil, args...)
	l.db.Switch()
	l.db.Vsctl("add-br br-phy -- set bridge br-phy datapath_type=netdev other-config:hwaddr=02:00:00:00:00:01 -- add-port br-phy phy0")
	l.db.Vsctl("add-br br-int -- set bridge br-int datapath_type=netdev fail_mode=standalone")
	sh(t, "ip addr add 10.99.0.1/24 dev br-phy && ip link set br-phy up && ip link set br-int up")
	for _, port := range []int{4789, 4739, 2055, 6343} { // so that the tool refuses nothing
		l.sink("udp4", fmt.Sprintf("10.99.0.9:%d", port))
	}
	l.sink("ip4:47", "10.99.0.9")
	for i := 1; i <= n; i++ {
		l.vm(i, "")
	}
	l.know(l.vms...)
	return l
}

func (l *lab) sink(network, address string) {
	l.t.Helper()
	var c net.PacketConn
	must(l.t, l.tool.Do(func() (err error) { c, err = net.ListenPacket(network, address); return err }))
	l.t.Cleanup(func() { c.Close() })
	go io.Copy(io.Discard, c.(io.Reader)) //nolint:errcheck // ends with the test
}

// vm plugs machine n into br-int, with more of the port's columns.
func (l *lab) vm(n int, more string) *vm {
	l.t.Helper()
	v := &vm{ns: testns.New(l.t), n: n, port: fmt.Sprintf("vnet%d", n), addr: fmt.Sprintf("10.1.0.%d", n)}
	v.ns.Sh(quiet)
	sh(l.t, "ip link add "+v.port+" type veth peer name eth0 netns "+v.ns.Path()+" && ip link set "+v.port+" up")
	v.ns.Sh(fmt.Sprintf("ip link set eth0 address 02:00:00:00:01:%02x mtu 1400 && ethtool -K eth0 tx off tso off gso off >/dev/null && ip addr add %s/24 dev eth0 && ip link set eth0 up", n, v.addr))
	l.db.Vsctl(fmt.Sprintf("add-port br-int %s %s -- set interface %s external_ids:iface-id=vm%d external_ids:attached-mac=\"02:00:00:00:01:%02x\" external_ids:vm-uuid=vm%d", v.port, more, v.port, n, n, n))
	l.vms = append(l.vms, v)
	return v
}

// know tells machines each other's addresses, and lets the switch learn where they are.
func (l *lab) know(all ...*vm) {
	for _, a := range all {
		for _, b := range all {
			if a != b {
				a.ns.Sh(fmt.Sprintf("ip neigh replace %s lladdr 02:00:00:00:01:%02x dev eth0 nud permanent", b.addr, b.n))
			}
		}
	}
	for i, a := range all {
		if len(all) > 1 {
			l.send(a, all[(i+1)%len(all)], 9, 1)
		}
	}
	l.db.Revalidated() // what has gone everywhere goes to one port from here on
}

// send sends n UDP datagrams, and more of them until n have come.
func (l *lab) send(from, to *vm, port, n int) {
	l.t.Helper()
	var in net.PacketConn
	var out net.Conn
	must(l.t, to.ns.Do(func() (err error) {
		in, err = net.ListenPacket("udp4", net.JoinHostPort(to.addr, strconv.Itoa(port)))
		return err
	}))
	defer in.Close()
	must(l.t, from.ns.Do(func() (err error) {
		out, err = net.Dial("udp4", net.JoinHostPort(to.addr, strconv.Itoa(port)))
		return err
	}))
	defer out.Close()
	buf := make([]byte, 2000)
	wait := 30 * time.Second
	if port == 9 { // what teaches the switch may be lost
		wait = time.Second
	}
	for i := range n {
		for end := time.Now().Add(patience); ; {
			fmt.Fprintf(out, "number %d of %d, which is long enough to be cut somewhere in the middle by who cuts", i, n) //nolint:errcheck // read below
			must(l.t, in.SetReadDeadline(time.Now().Add(wait)))
			if _, _, err := in.ReadFrom(buf); err == nil {
				break
			}
			if port != 9 || time.Now().After(end) {
				l.t.Fatalf("%s did not get datagram %d of %s", to.port, i, from.port)
			}
		}
	}
}

// config is the platform's configuration with the database's local socket.
func (l *lab) config() ovs.Config {
	return ovs.Config{Name: "kvm", Host: "kvm", Address: "unix:" + l.db.Socket()}
}

func open(t *testing.T, c ovs.Config) *ovs.Platform {
	t.Helper()
	p, err := ovs.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// session copies what machines send to the tool in VXLAN.
func (l *lab) session(policy string, vms ...*vm) platform.Session {
	s := platform.Session{
		Mark:   platform.Mark{Owner: "crosstap", Policy: policy, Part: "br-int", Digest: policy},
		Method: platform.MethodRemoteMirror, Host: "kvm", Switch: "br-int",
		Outputs: []platform.Output{{Name: "ids", Encap: platform.EncapVXLAN, Addr: netip.MustParseAddr("10.99.0.9"), Key: 77}},
	}
	for _, v := range vms {
		s.Sources = append(s.Sources, platform.Source{Port: v.port, Dir: platform.Ingress})
	}
	return s
}

// sessions are n taps of a machine, half of them of UDP port 5000 only, which come to the tool with VNI 100, 101 and 102 in turn.
func (l *lab) sessions(n int, v *vm) (all []platform.Session) {
	for i := range n {
		s := l.session(fmt.Sprintf("tap%02d", i), v)
		s.Outputs[0].Key = uint32(100 + i%3)
		if i%2 == 0 {
			s.Filter = "udp port 5000"
		}
		all = append(all, s)
	}
	return all
}

// transactions is how many have asked the switch for something.
func (l *lab) transactions() (n int) {
	l.t.Helper()
	if _, err := fmt.Sscan(l.db.Vsctl("get Open_vSwitch . next_cfg"), &n); err != nil {
		l.t.Fatal(err)
	}
	return n
}

// export exports flow records of machines.
func (l *lab) export(policy, protocol, to string, vms ...*vm) platform.Session {
	s := l.session(policy, vms...)
	s.Method, s.Outputs = platform.MethodFlowsOnly, nil
	s.Flows = &platform.Export{Protocol: protocol, To: netip.MustParseAddrPort(to), Sampling: 1, Active: time.Second, Domain: 7}
	return s
}

func (l *lab) steps(p *ovs.Platform, keep map[string]bool, want ...platform.Session) ([]platform.Step, []platform.Refusal) {
	l.t.Helper()
	now, err := p.Read(l.t.Context())
	if err != nil {
		l.t.Fatal(err)
	}
	return p.Steps(now, platform.Want{Owner: "crosstap", Sessions: want, Keep: keep})
}

// converge applies sessions; nothing may be refused, and nothing may be left to do.
func (l *lab) converge(p *ovs.Platform, want ...platform.Session) []platform.Step {
	l.t.Helper()
	steps, refused := l.steps(p, nil, want...)
	if len(refused) > 0 {
		l.t.Fatalf("refused: %+v", refused)
	}
	for _, s := range steps {
		if err := p.Apply(l.t.Context(), s); err != nil {
			l.t.Fatalf("%s: %v", s.Object, err)
		}
	}
	l.db.Revalidated()
	if again, _ := l.steps(p, nil, want...); len(again) > 0 {
		l.t.Fatalf("steps are left: %s", texts(again))
	}
	return steps
}

func texts(steps []platform.Step) string {
	var out []string
	for _, s := range steps {
		out = append(out, fmt.Sprintf("%s %s: %s (%s)\n\t%s", s.Action, s.Object, s.Summary, s.Why, strings.Join(s.Commands, "\n\t")))
	}
	return strings.Join(out, "\n")
}

// refusal is the only one of a session.
func (l *lab) refusal(p *ovs.Platform, want ...platform.Session) platform.Refusal {
	l.t.Helper()
	steps, refused := l.steps(p, nil, want...)
	if len(refused) != 1 {
		l.t.Fatalf("%d refusals: %+v; steps: %s", len(refused), refused, texts(steps))
	}
	return refused[0]
}

// taken is what tcpdump writes of what comes to a place.
type taken struct {
	t    *testing.T
	path string
	stop func()
}

// capture begins to write what comes to eth0 of a namespace.
func (l *lab) capture(at *testns.Space, filter string) *taken {
	l.t.Helper()
	path := filepath.Join(l.t.TempDir(), "capture.pcap")
	return &taken{l.t, path, at.Dump(testkit.Tool(l.t, "tcpdump"), path, filter)}
}

// is ends the capture when tshark's tally of it is what is wanted, or does not become it.
func (c *taken) is(want, display string, fields ...string) {
	c.t.Helper()
	if got := c.has(func(rows []string) bool { return tally(rows) == want }, display, fields...); got != want {
		c.t.Errorf("got  %s\nwant %s", got, want)
	}
}

// has ends the capture when it is enough, or does not become it, and returns its tally.
func (c *taken) has(enough func(rows []string) bool, display string, fields ...string) string {
	c.t.Helper()
	defer c.stop()
	for end := time.Now().Add(patience); ; time.Sleep(200 * time.Millisecond) {
		if rows := tshark(c.t, c.path, display, fields...); enough(rows) || time.Now().After(end) {
			return tally(rows)
		}
	}
}

// warm sends until copies come to the tool: a switch in user space loses those before it knows the tool's address.
func (l *lab) warm(from, to *vm) {
	l.t.Helper()
	c := l.capture(l.tool, "udp dst port 4789 or ip proto 47")
	defer c.stop()
	testkit.Eventually(l.t, "a first copy", func() bool {
		l.send(from, to, 9, 1)
		st, err := os.Stat(c.path)
		return err == nil && st.Size() > 24 // the file's own header
	})
}

func tshark(t *testing.T, path, display string, fields ...string) (rows []string) {
	t.Helper()
	args := []string{"-n", "-r", path, "-d", "udp.port==2056,cflow", "-Y", display, "-T", "fields", "-E", "occurrence=l"}
	for _, f := range fields {
		args = append(args, "-e", f)
	}
	c := exec.CommandContext(context.Background(), testkit.Tool(t, "tshark"), args...)
	c.Env = append(os.Environ(), "HOME="+filepath.Dir(path))
	out, _ := c.Output() // the last packet may be half written
	for line := range strings.Lines(string(out)) {
		rows = append(rows, strings.ReplaceAll(strings.TrimRight(line, "\n"), "\t", " "))
	}
	return rows
}

func tally(rows []string) string {
	n := map[string]int{}
	for _, r := range rows {
		n[r]++
	}
	var out []string
	for k, v := range n {
		out = append(out, fmt.Sprintf("%d× %s", v, k))
	}
	slices.Sort(out)
	return strings.Join(out, "; ")
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
