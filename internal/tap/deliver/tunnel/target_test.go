package tunnel

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"net/netip"
)

func TestParse(t *testing.T) {
	f := func(url string, want Target) {
		t.Helper()
		got, err := Parse(url)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
			t.Errorf("%s (-want, +got)\n%s", url, diff)
		}
		again, err := Parse(got.String())
		if err != nil || again != got {
			t.Errorf("%s becomes %s: %v", url, got, err)
		}
	}
	f("vxlan://tool.example?vni=0x1389", Target{Kind: VXLAN, Host: "tool.example", Port: 4789, Ports: 16, Probe: true, VNI: 5001})
	f("geneve://[fd00::1]:6082?vni=1&ports=1&probe=no&mtu=slice", Target{Kind: Geneve, Host: "fd00::1", Port: 6082, Ports: 1, MTU: Slice, VNI: 1})
	f("udp://10.0.0.9:37008?rate=500M&absent=pause&source=10.0.0.1&dev=eth0", Target{
		Kind: UDP, Host: "10.0.0.9", Port: 37008, Ports: 16, Probe: true, Rate: 500e6, Absent: Pause, Source: netip.MustParseAddr("10.0.0.1"), Device: "eth0",
	})
	f("gre://10.0.0.9?key=0&seq", Target{Kind: GRE, Host: "10.0.0.9", Ports: 16, Probe: true, HasKey: true, Seq: true})
	f("erspan2://10.0.0.9?session=1023&index=0xfffff", Target{Kind: ERSPAN2, Host: "10.0.0.9", Ports: 16, Probe: true, Session: 1023, Index: 1<<20 - 1})
	f("erspan3://10.0.0.9?session=1&granularity=ptp&switch=1023&sgt=1&hwid=63&ttl=3&dscp=46&path=9000", Target{
		Kind: ERSPAN3, Host: "10.0.0.9", Ports: 16, Probe: true, Session: 1, Granularity: PTP, Switch: 1023, SGT: 1, HardwareID: 63, TTL: 3, DSCP: 46, Path: 9000,
	})
	f("iface:eth1.5?netns=/run/netns/a%26b&mtu=refuse", Target{Kind: Interface, Host: "eth1.5", Ports: 16, Probe: true, NetNS: "/run/netns/a&b", MTU: Refuse})
}

func TestParseMistakes(t *testing.T) {
	f := func(url, want string) {
		t.Helper()
		if _, err := Parse(url); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", url, err, want)
		}
	}
	f("vxlan:10.0.0.9", "no host, want vxlan://HOST")
	f("vxlan://", "no host")
	f("udp://10.0.0.9", "no port, want udp://HOST:PORT")
	f("gre://10.0.0.9:47", "port \"47\"")
	f("vxlan://a:0", "port \"0\"")
	f("vxlan://a?vni=16777216", "want 0 to 16777215")
	f("erspan2://a", "want session=1 to 1023")
	f("erspan3://a?session=1024", "want 1 to 1023")
	f("erspan2://a?session=1&index=1048576", "want 1 to 1048575")
	f("vxlan://a?vnl=1", `did you mean "vni"?`)
	f("vxlan://a?vni=1&vni=2", "vni=2: is given twice")
	f("vxlan://a?ports=3", "want a power of two")
	f("vxlan://a?rate=x", "want bits each second")
	f("vxlan://a?mtu=1400", "want fragment, slice, refuse")
	f("iface:", "want iface:NAME")
	f("iface://eth0", "want iface:NAME")
	f("sctp://a", `scheme "sctp" is not known here`)
	f("vxlan://u@a", "only a host")
	f("vxlan://a?source=x", "want an IP address")
	f("vxlan://a?netns=%zz", "netns")
}

// FuzzParse reads any URL; one that is good is the same when it is written and read again.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"vxlan://[fd00::1%25eth0]:4789?vni=5&netns=/a%25b", "gre://h?key=1&seq", "iface:x?rate=1k", "erspan3://h?session=1&granularity=ptp", "udp://h:1?dscp=1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := Parse(s)
		if err != nil {
			return
		}
		again, err := Parse(got.String())
		if err != nil || again != got {
			t.Errorf("%q becomes %q: %+v, then %+v, %v", s, got, got, again, err)
		}
	})
}
