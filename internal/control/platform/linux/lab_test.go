//go:build linux

package linux

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"crosstap/internal/control/platform"
	"crosstap/internal/flow"
	"crosstap/internal/kernel"
	"crosstap/internal/testkit"
	"crosstap/internal/testns"
)

// lab is two hosts with a Linux bridge each, joined by an underlay, with machines behind the bridges, and a tool on the underlay.
type lab struct {
	t        *testing.T
	underlay *testns.Space
	hosts    map[string]*testns.Space
	vms      map[string]*testns.Space
	tool     *testns.Space
	mac      map[string]flow.MAC
}

// newLab makes h1 (10.9.0.1) with machines a and b, h2 (10.9.0.2) with machine c, all in VNI 5001, and the tool (10.9.0.9). A
// foreign machine x is on a bridge of its own on h1.
func newLab(t *testing.T) *lab {
	t.Helper()
	t.Parallel() // they mostly wait
	testkit.Tool(t, "tc")
	l := &lab{t: t, underlay: testns.New(t), hosts: map[string]*testns.Space{}, vms: map[string]*testns.Space{}, mac: map[string]flow.MAC{}}
	l.underlay.Sh("ip link add sw type bridge && ip link set sw up")
	l.tool = l.wire("t", "10.9.0.9")
	for i, name := range []string{"h1", "h2"} {
		h := l.wire(name, fmt.Sprintf("10.9.0.%d", i+1))
		l.hosts[name] = h
		h.Sh(fmt.Sprintf(`ip link add br0 type bridge mcast_snooping 0 && ip link set br0 up
ip link add vx0 type vxlan id 5001 remote 10.9.0.%d dstport 4789 local 10.9.0.%d && ip link set vx0 master br0 up`, 2-i, i+1))
	}
	l.vm("h1", "br0", "a", 1)
	l.vm("h1", "br0", "b", 2)
	l.vm("h2", "br0", "c", 3)
	l.hosts["h1"].Sh("ip link add br9 type bridge && ip link set br9 up")
	l.vm("h1", "br9", "x", 4)
	l.vm("h1", "br9", "y", 5)
	return l
}

// wire makes a namespace with an interface on the underlay.
func (l *lab) wire(name, addr string) *testns.Space {
	l.t.Helper()
	s := testns.New(l.t)
	l.underlay.Sh(fmt.Sprintf("ip link add u-%[1]s type veth peer name eth0 netns NS && ip link set u-%[1]s master sw up", name), s)
	s.Sh(quietly("eth0") + fmt.Sprintf("ip addr add %s/24 dev eth0 && ip link set eth0 up", addr))
	l.underlay.Up("u-" + name)
	return s
}

// quietly keeps an interface from speaking by itself, and what it sends whole and checked.
func quietly(dev string) string {
	return "sysctl -qw net.ipv6.conf." + dev + ".disable_ipv6=1; ethtool -K " + dev + " tx off tso off gso off >/dev/null 2>&1 || true\n"
}

// vm plugs a machine 10.1.0.n into a bridge of a host.
func (l *lab) vm(host, bridge, name string, n int) {
	l.t.Helper()
	s := l.vms[name]
	if s == nil {
		s = testns.New(l.t)
		l.vms[name] = s
	}
	l.hosts[host].Sh(fmt.Sprintf(`ip link add vnet-%[1]s type veth peer name eth0 address 02:00:00:00:00:%02[2]x netns NS
%[4]sip link set vnet-%[1]s master %[3]s up`, name, n, bridge, quietly("vnet-"+name)), s)
	s.Sh(quietly("eth0") + fmt.Sprintf("ip addr add 10.1.0.%d/24 dev eth0 && ip link set eth0 up", n))
	l.hosts[host].Up("vnet-" + name)
	if _, known := l.mac[name]; !known {
		l.mac[name] = flow.MAC(0x020000000000 + n)
	}
}

// unplug takes a machine's interface away.
func (l *lab) unplug(host, name string) { l.hosts[host].Sh("ip link del vnet-" + name) }

// platform opens the platform of a host.
func (l *lab) platform(host string) *Platform {
	l.t.Helper()
	p, err := New(Config{Name: host, Host: host, NetNS: l.hosts[host].Path()})
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { p.Close() })
	return p
}

// session mirrors ports to the tool with a VNI.
func (l *lab) session(name string, vni uint32, filter string, ports ...string) platform.Session {
	s := platform.Session{
		Mark:   platform.Mark{Owner: "test", Policy: name, Part: "br0", Digest: name + filter + strings.Join(ports, "")},
		Method: platform.MethodRemoteMirror, Filter: filter,
		Outputs: []platform.Output{{Name: "tool", Encap: platform.EncapVXLAN, Addr: netip.MustParseAddr("10.9.0.9"), UDP: 4790, Key: vni}},
	}
	for _, p := range ports {
		s.Sources = append(s.Sources, platform.Source{Port: "vnet-" + p, Dir: platform.Both})
		s.ExceptFrom = append(s.ExceptFrom, l.mac[p])
	}
	slices.Sort(s.ExceptFrom)
	return s
}

// converge applies what Steps says until nothing is left, and returns all steps.
func converge(t *testing.T, p *Platform, want ...platform.Session) []platform.Step {
	t.Helper()
	now, err := p.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	steps, refused := p.Steps(now, platform.Want{Owner: "test", Sessions: want})
	if len(refused) > 0 {
		t.Fatalf("refused: %+v", refused)
	}
	for _, s := range steps {
		if err := p.Apply(t.Context(), s); err != nil {
			t.Fatalf("%s: %v", s.Summary, err)
		}
	}
	if again := stepsNow(t, p, want...); len(again) > 0 {
		t.Fatalf("steps are left: %s", texts(again))
	}
	return steps
}

func stepsNow(t *testing.T, p *Platform, want ...platform.Session) []platform.Step {
	t.Helper()
	now, err := p.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p.look(now)
	steps, _ := p.Steps(now, platform.Want{Owner: "test", Sessions: want})
	return steps
}

func texts(steps []platform.Step) string {
	var out []string
	for _, s := range steps {
		out = append(out, fmt.Sprintf("%d %s %s: %s (%s)\n\t%s", s.Phase, s.Action, s.Object, s.Summary, s.Why, strings.Join(s.Commands, "\n\t")))
	}
	return strings.Join(out, "\n")
}

// capture has tcpdump write what arrives at the tool; stop returns the file.
func (l *lab) capture() (stop func() string) {
	l.t.Helper()
	file := filepath.Join(l.t.TempDir(), "tool.pcap")
	end := l.tool.Dump(testkit.Tool(l.t, "tcpdump"), file, "udp", "port", "4790")
	return func() string {
		testns.WaitStill(file)
		end()
		return file
	}
}

// decoded asks tshark for the inner frames with a VNI that match a filter, one line each.
func (l *lab) decoded(file string, vni uint32, filter string, fields ...string) []string {
	l.t.Helper()
	return l.fields(file, fmt.Sprintf("vxlan.vni == %d && (%s)", vni, filter), fields...)
}

// fields asks tshark for the frames that match a filter, one line each.
func (l *lab) fields(file, filter string, fields ...string) []string {
	l.t.Helper()
	args := []string{"-r", file, "-d", "udp.port==4790,vxlan", "-Y", filter, "-T", "fields", "-E", "occurrence=l"}
	for _, f := range fields {
		args = append(args, "-e", f)
	}
	c := exec.Command(testkit.Tool(l.t, "tshark"), args...)
	c.Env = append(os.Environ(), "HOME="+l.t.TempDir())
	out, err := c.Output()
	if err != nil {
		l.t.Fatalf("tshark: %v", err)
	}
	return strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")[:strings.Count(string(out), "\n")]
}

// ping sends n echo requests from one machine to another, all of which are answered. The first ones, which the learning of addresses
// floods or delays, are sent before.
func (l *lab) ping(from, to string, n int) {
	l.t.Helper()
	l.vms[from].Sh(fmt.Sprintf("ping -q -c %d -i 0.01 -W 5 10.1.0.%d >/dev/null", n, l.mac[to]&0xff))
}

func (l *lab) warm(pairs ...string) {
	for _, p := range pairs {
		from, to, _ := strings.Cut(p, ">")
		l.vms[from].Sh(fmt.Sprintf("for i in 1 2 3 4 5 6 7 8 9 10; do ping -q -c 1 -W 2 10.1.0.%d >/dev/null && exit 0; done; exit 1", l.mac[to]&0xff))
	}
}

// untouched is all that must be as before: qdiscs, filters and devices of a host, when the qdiscs that only wait for a quiet moment have gone.
func (l *lab) untouched(host string) (out string) {
	l.t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if out = l.state(host); !strings.Contains(out, "protocol [34997]") && !idle.MatchString(out) {
			break
		}
	}
	return out
}

// idle is a qdisc of ours without filters.
var idle = regexp.MustCompile(fmt.Sprintf(`overhead %d *\n(qdisc|$)`, kernel.QdiscClass))

func (l *lab) state(host string) string {
	l.t.Helper()
	return l.output(host, `ip -br link | sed 's/ .*//' | sort; for d in $(ls /sys/class/net | sort); do tc -d qdisc show dev $d; tc filter show dev $d ingress; tc filter show dev $d egress; done | sed 's/index [0-9]* ref/ref/'`)
}

// output runs shell commands on a host and returns what they print.
func (l *lab) output(host, script string) string {
	l.t.Helper()
	var out []byte
	err := l.hosts[host].Do(func() (err error) {
		// The files below /sys are those of the namespace that mounts them.
		out, err = exec.Command("unshare", "--mount", "sh", "-ec", "mount -t sysfs none /sys\n"+script).CombinedOutput()
		return err
	})
	if err != nil {
		l.t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

func wait(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(what)
		}
	}
}
