package agent

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"crosstap/internal/agentapi"
	"crosstap/internal/control/platform"
	"crosstap/internal/filter"
	"crosstap/internal/flow"
	"crosstap/internal/frame"
)

// The expression of a tap says which way frames go as the interface sees it: a machine sends outward through its own adapter, and inward
// through its port on a host.
func TestExpression(t *testing.T) {
	own := &platform.Port{Name: "eth0", Raw: map[string]string{rawSide: sideOwn}}
	far := &platform.Port{Name: "vnet1", Raw: map[string]string{rawSide: sideFar}}
	f := func(p *platform.Port, s platform.Session, src platform.Source, guards []string, want string, ingressOnly bool) {
		t.Helper()
		s.Sources, s.Mark.Policy = []platform.Source{src}, "web"
		s.Outputs = []platform.Output{{URL: "null:"}}
		got := specOf(&s, p, guards)
		if got.Filter != want || got.Source.IngressOnly != ingressOnly {
			t.Errorf("%q %v\nwant %q %v", got.Filter, got.Source.IngressOnly, want, ingressOnly)
		}
		if _, err := filter.Compile(got.Filter, frame.LinkEthernet, filter.Options{}); err != nil {
			t.Errorf("%q: %v", got.Filter, err)
		}
		if err := got.Validate(); err != nil {
			t.Error(err)
		}
		if d := directionOf(&got, p == own); d != src.Dir {
			t.Errorf("%q %v: told as %v, is %v", got.Filter, got.Source.IngressOnly, d, src.Dir)
		}
	}
	both, in, out := platform.Source{Dir: platform.Both}, platform.Source{Dir: platform.Ingress}, platform.Source{Dir: platform.Egress}
	except := platform.Session{ExceptFrom: []flow.MAC{0x020000000003, 0x020000000004}}
	f(own, platform.Session{}, both, nil, "", false)
	f(own, platform.Session{}, in, nil, "outbound", false) // what the machine sends
	f(own, platform.Session{}, out, nil, "", true)
	f(far, platform.Session{}, in, nil, "", true)
	f(far, platform.Session{}, out, nil, "outbound", false)
	f(own, except, both, nil, "(outbound or not (ether src 02:00:00:00:00:03 or ether src 02:00:00:00:00:04))", false)
	f(far, except, both, nil, "(inbound or not (ether src 02:00:00:00:00:03 or ether src 02:00:00:00:00:04))", false)
	f(far, platform.Session{Filter: "tcp port 80"}, platform.Source{Dir: platform.Both, Quiet: true}, nil, "(inbound or not (ether broadcast)) and (tcp port 80)", false)
	f(own, platform.Session{Filter: "udp or tcp"}, both, []string{"dst host 10.0.0.9 and udp dst port 4789"}, "not (dst host 10.0.0.9 and udp dst port 4789) and (udp or tcp)", false)
	f(far, platform.Session{Filter: "udp"}, both, []string{"dst host 10.0.0.9"}, "(udp)", false) // a machine's own packets are no copies of ours
	f(own, platform.Session{Filter: "inbound or udp"}, both, nil, "(inbound or udp)", false)
	f(far, platform.Session{Filter: "tcp and outbound"}, in, nil, "(tcp and outbound)", true)
	f(own, platform.Session{Filter: "udp"}, in, []string{"dst host 10.0.0.9 and udp dst port 4789"}, "not (dst host 10.0.0.9 and udp dst port 4789) and outbound and (udp)", false)
	f(own, platform.Session{VLANs: []uint16{7, 8}, Filter: "icmp"}, both, nil, "vlan and (ether[14:2] & 0xfff = 7 or ether[14:2] & 0xfff = 8) and (icmp)", false)
}

func TestSpec(t *testing.T) {
	p := &platform.Port{Name: "eth0", Raw: map[string]string{rawSide: sideOwn}}
	s := platform.Session{
		Mark: platform.Mark{Owner: "o", Policy: "web", Part: "a.eth0", Digest: "d"}, Sources: []platform.Source{{Dir: platform.Both}}, Slice: 100, Sample: 10, Groom: []string{"repair"},
		Outputs: []platform.Output{{URL: "vxlan://10.0.0.9?vni=1"}, {URL: "ipfix://10.0.0.8"}}, Flows: &platform.Export{Active: time.Minute, Idle: time.Second, Domain: 3},
		Lease: platform.Lease{TTL: 5 * time.Minute}, Budget: &platform.Budget{CPU: 0.1, MirrorBPS: 1e6},
	}
	got := specOf(&s, p, nil)
	if got.Name != "web/eth0" || got.Role != "vnic" || !got.Source.NoPromisc || got.Source.Snap != 160 || got.Groom != "repair,sample=1:10,slice=100" || len(got.To) != 2 ||
		time.Duration(got.Meter.Active) != time.Minute || got.Meter.Domain != 3 || time.Duration(got.Lease) != 5*time.Minute || got.Budget.CPU != 0.1 || markOf(&got) != s.Mark {
		t.Errorf("%+v", got)
	}
	const want = "crosstap tap -i eth0 --no-promisc --snap 160 --groom repair,sample=1:10,slice=100 --budget cpu=10%,mirror=1Mbit/s --to 'vxlan://10.0.0.9?vni=1' --to ipfix://10.0.0.8"
	if c := strings.ReplaceAll(command(&got), "'", ""); c != strings.ReplaceAll(want, "'", "") {
		t.Errorf("%s", c)
	}
	other := got
	other.Filter, other.Lease = "udp", 0
	if why := differ(&other, &got); why != `filter is "udp", not ""; lease is "0s", not "5m0s"` {
		t.Error(why)
	}
}

func TestFarEnd(t *testing.T) {
	f := func(url, end, guard string) {
		t.Helper()
		got, ok := farEnd(url)
		if text := map[bool]string{true: got.String()}[ok]; text != end || guardOf(url) != guard {
			t.Errorf("%s: %q %q", url, text, guardOf(url))
		}
		if guard == "" {
			return
		}
		if _, err := filter.Compile(guard, frame.LinkEthernet, filter.Options{}); err != nil {
			t.Error(err)
		}
	}
	f("vxlan://10.0.0.9?vni=1", "10.0.0.9:4789", "dst host 10.0.0.9 and udp dst port 4789")
	f("vxlan://[2001:db8::9]:4790?vni=1", "[2001:db8::9]:4790", "dst host 2001:db8::9 and udp dst port 4790")
	f("gre://10.0.0.9?key=1", "10.0.0.9:0", "dst host 10.0.0.9 and proto 47")
	f("ipfix+tls://10.0.0.9", "10.0.0.9:4740", "dst host 10.0.0.9 and tcp dst port 4740")
	f("ipfix://tool.example", "", "")
	f("pcapng:/x", "", "")
	f("iface:eth9", "", "")
	f("vxlan://10.0.0.9:99999", "", "")
	if netip.MustParseAddr("::").IsUnspecified() {
		f("vxlan://[::]?vni=1", "", "")
	}
}

// What an agent tells of its interfaces becomes ports: its own adapters, those of machines behind it, and what is neither.
func TestInterfaces(t *testing.T) {
	i := func(name, kind, mac, master string) agentapi.Interface {
		return agentapi.Interface{Name: name, Kind: kind, MAC: mac, Master: master}
	}
	const m = "02:00:00:00:00:01"
	f := func(want string, list ...agentapi.Interface) {
		t.Helper()
		s := platform.NewSnapshot("agents")
		add(s, &Agent{Name: "a", Interfaces: list})
		var got []string
		for _, p := range platform.Sorted(s.Ports) {
			got = append(got, p.Name+" "+string(p.Kind)+" "+p.Raw[rawSide])
		}
		if text := strings.Join(got, ", "); text != want {
			t.Errorf("%s\nwant %s", text, want)
		}
		if (s.VMs["agent/a"] != nil) != strings.Contains(want, sideOwn) {
			t.Errorf("%s: machines %v", want, s.VMs)
		}
	}
	f("eth0 vm own", i("lo", "device", "00:00:00:00:00:00", ""), i("eth0", "device", m, ""))
	f("docker0 kernel , eth0 vm own, veth1 vm far", i("eth0", "device", m, ""), i("docker0", "bridge", m, ""), i("veth1", "veth", m, "docker0"))
	f("bond0 vm own, eth0 other , eth1 other ", i("bond0", "bond", m, ""), i("eth0", "device", m, "bond0"), i("eth1", "device", m, "bond0"))
	f("br0 kernel , eth0 other , eth1 uplink , vnet1 vm far, vxlan5 tunnel ", i("br0", "bridge", m, ""), i("eth0", "device", m, "br0"), i("eth1", "device", m, ""),
		i("vnet1", "tun", "fe:00:00:00:00:01", "br0"), i("vxlan5", "vxlan", m, "br0"))
	f("eth0 vm own", i("eth0", "veth", m, "")) // a container
	f("eth0 vm own", i("eth0", "device", m, ""), i("tun0", "tun", "", ""), i("crosstap-abc", "vxlan", m, ""))
}
