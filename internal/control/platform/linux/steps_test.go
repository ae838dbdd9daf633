//go:build linux

package linux

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/control/platform"
	"crosstap/internal/flow"
)

// paper is a platform without a kernel, and what it would see there.
func paper() (*Platform, *platform.Snapshot) {
	p := &Platform{host: "h1", can: capability([]platform.Encap{platform.EncapVXLAN, platform.EncapGRE, platform.EncapERSPAN2, platform.EncapERSPAN3})}
	now := platform.NewSnapshot("kvm")
	now.Hosts["h1"] = &platform.Host{ID: "h1", Name: "h1"}
	port := func(name string, kind platform.PortKind, index string) {
		now.Ports[name] = &platform.Port{ID: name, Name: name, Kind: kind, Switch: "br0", Up: true, Tags: map[string]string{tagIndex: index}}
	}
	port("vnet1", platform.PortVM, "11")
	port("vnet2", platform.PortVM, "12")
	port("tool", platform.PortVM, "13")
	port("br0", platform.PortKernel, "3")
	port("copies", platform.PortMirror, "14")
	now.Ports["vx0"] = &platform.Port{ID: "vx0", Name: "vx0", Kind: platform.PortTunnel, Switch: "br0", Tags: map[string]string{tagIndex: "4", tagVNI: "5001/4789"}}
	now.Ports["peth"] = &platform.Port{ID: "peth", Name: "peth", Kind: platform.PortKernel, Switch: noSwitch, Up: true, Tags: map[string]string{tagIndex: "15"}, Raw: map[string]string{rawInto: "br0"}}
	return p, now
}

func remote(encap platform.Encap, addr string, key uint32) platform.Output {
	return platform.Output{Name: "tool", Encap: encap, Addr: netip.MustParseAddr(addr), Key: key, DSCP: 8}
}

func base(outputs ...platform.Output) platform.Session {
	return platform.Session{
		Mark:   platform.Mark{Owner: "o", Policy: "web", Part: "br0.h1.remote", Digest: "d1"},
		Method: platform.MethodRemoteMirror, Sources: []platform.Source{{Port: "vnet1", Dir: platform.Both}}, Outputs: outputs,
	}
}

// hashed are the parts of commands that are hashes and programs.
var hashed = []struct {
	is *regexp.Regexp
	as string
}{
	{regexp.MustCompile(`bytecode '[^']*'`), "bytecode '…'"}, {regexp.MustCompile(`handle 0x[0-9a-f]+`), "handle H"}, {regexp.MustCompile(`cookie [0-9a-f]{32}`), "cookie C"},
}

// The plan as people read it.
func TestStepsText(t *testing.T) {
	const carrier = `ip link add CARRIER type bridge
ip link set dev CARRIER alias 'crosstap owner=o policy=web part=br0.h1.remote digest=d1 expires=0'`
	f := func(s platform.Session, tunnel, copies string) {
		t.Helper()
		p, now := paper()
		steps, refused := p.Steps(now, platform.Want{Owner: "o", Sessions: []platform.Session{s}})
		if len(refused) > 0 {
			t.Errorf("refused: %+v", refused)
			return
		}
		if tunnel != "" {
			tunnel += "\nsysctl -q -w net.ipv6.conf.TUNNEL.disable_ipv6=1\nip link set dev TUNNEL up"
		}
		want := []string{carrier, tunnel, "tc qdisc add dev vnet1 stab overhead 1668571504 linklayer ethernet clsact"}
		for _, dir := range []string{"ingress", "egress"} {
			want = append(want, "tc filter replace dev vnet1 "+dir+" pref 5 protocol all handle H bpf bytecode '…' "+copies)
		}
		var devices, filters []string
		for _, step := range steps {
			text := strings.Join(step.Commands, "\n")
			for _, h := range hashed {
				text = h.is.ReplaceAllString(text, h.as)
			}
			text = strings.ReplaceAll(text, carrierName(base().Mark), "CARRIER")
			for _, o := range s.Outputs {
				text = strings.ReplaceAll(text, tunnelName("o", o), "TUNNEL")
			}
			if step.Phase == platform.PhasePrepare {
				devices = append(devices, text)
			} else {
				filters = append(filters, text)
			}
		}
		if len(devices) > 1 && strings.Contains(devices[0], "TUNNEL") { // devices are made in the order of their names
			devices[0], devices[1] = devices[1], devices[0]
		}
		got := strings.Join(append(devices, filters...), "\n")
		if diff := cmp.Diff(strings.Join(slices.DeleteFunc(want, func(s string) bool { return s == "" }), "\n"), got); diff != "" {
			t.Error(diff)
		}
	}
	const mirror = "flowid 6374:6170 action mirred egress mirror dev TUNNEL continue cookie C"
	f(base(remote(platform.EncapVXLAN, "10.0.0.9", 7)), `ip link add TUNNEL type vxlan id 7 remote 10.0.0.9 dstport 4789 ttl 64 tos 0x20 nolearning
ip link set dev TUNNEL alias 'crosstap tunnel owner=o to vxlan 10.0.0.9 port 4789 key 7 dscp 8'`, mirror)
	f(base(remote(platform.EncapERSPAN2, "10.0.0.9", 7)), `ip link add TUNNEL type erspan remote 10.0.0.9 key 7 ttl 64 tos 0x20 nopmtudisc seq erspan_ver 1 erspan 0
ip link set dev TUNNEL alias 'crosstap tunnel owner=o to erspan2 10.0.0.9 port 0 key 7 dscp 8'`, mirror)
	f(base(remote(platform.EncapERSPAN3, "2001:db8::9", 7)), `ip link add TUNNEL type ip6erspan remote 2001:db8::9 key 7 hoplimit 64 tos 0x20 seq erspan_ver 2 erspan_dir ingress erspan_hwid 0
ip link set dev TUNNEL alias 'crosstap tunnel owner=o to erspan3 2001:db8::9 port 0 key 7 dscp 8'`, mirror)
	f(base(remote(platform.EncapGRE, "10.0.0.9", 7)), `ip link add TUNNEL type gretap remote 10.0.0.9 key 7 ttl 64 tos 0x20 nopmtudisc
ip link set dev TUNNEL alias 'crosstap tunnel owner=o to gre 10.0.0.9 port 0 key 7 dscp 8'`, mirror)
	local := base(platform.Output{Name: "ids", Port: "tool"})
	local.Method = platform.MethodMirror
	f(local, "", "flowid 6374:6170 action mirred egress mirror dev tool continue cookie C")
}

func TestRefusals(t *testing.T) {
	f := func(change func(*platform.Session), reason platform.Reason, message string) {
		t.Helper()
		p, now := paper()
		s := base(remote(platform.EncapVXLAN, "10.0.0.9", 7))
		change(&s)
		steps, refused := p.Steps(now, platform.Want{Owner: "o", Sessions: []platform.Session{s}})
		if len(refused) != 1 || refused[0].Reason != reason || !strings.Contains(refused[0].Message, message) {
			t.Errorf("want %s %q, got %+v", reason, message, refused)
		}
		if len(refused) == 1 && refused[0].Port == "" && len(steps) > 0 {
			t.Errorf("%s: steps for a session that is refused: %s", reason, texts(steps))
		}
	}
	f(func(s *platform.Session) { s.Method = platform.MethodFlowsOnly }, platform.ReasonCapability, `no method "flows-only"`)
	f(func(s *platform.Session) { s.Method = platform.MethodPromiscuous }, platform.ReasonCapability, "one port of this host")
	f(func(s *platform.Session) { s.Lease.TTL = time.Minute }, platform.ReasonCapability, "cannot have a lease")
	f(func(s *platform.Session) { s.Slice = 128 }, platform.ReasonCapability, "whole packets")
	f(func(s *platform.Session) { s.Outputs = nil }, platform.ReasonCapability, "no destination")
	f(func(s *platform.Session) { s.Host = "h9" }, platform.ReasonDown, "h9")
	f(func(s *platform.Session) { s.Outputs[0].Encap = platform.EncapGeneve }, platform.ReasonCapability, "no device for geneve")
	f(func(s *platform.Session) { s.Outputs[0].Key = 1 << 24 }, platform.ReasonCapability, "at most 16777215")
	f(func(s *platform.Session) { s.Outputs[0].Encap, s.Outputs[0].Key = platform.EncapERSPAN2, 1024 }, platform.ReasonCapability, "at most 1023")
	f(func(s *platform.Session) { s.Outputs[0].Key = 5001 }, platform.ReasonConflict, "device vx0 has VNI 5001 on UDP port 4789")
	f(func(s *platform.Session) { s.Filter = "tcp port" }, platform.ReasonCapability, "filter: column")
	f(func(s *platform.Session) { s.Sources[0].Port = "br0" }, platform.ReasonKernelPort, "host's own")
	f(func(s *platform.Session) { s.Sources[0].Port = "copies" }, platform.ReasonMirrorPort, "carries copies")
	f(func(s *platform.Session) { s.Sources[0].Port = "vnet9" }, platform.ReasonDown, "is gone")
	f(func(s *platform.Session) { s.Mark.Policy = strings.Repeat("x", 250) }, platform.ReasonLimit, "at most 255")
	f(func(s *platform.Session) {
		s.Method, s.Outputs = platform.MethodMirror, []platform.Output{{Name: "ids", Port: "vnet1"}}
	}, platform.ReasonLoop, "is a source")
	f(func(s *platform.Session) {
		s.Method, s.Outputs = platform.MethodMirror, []platform.Output{{Name: "ids", URL: "iface:eth9"}}
	}, platform.ReasonDown, `no interface "eth9"`)
	for _, back := range []string{"br0", "peth"} {
		f(func(s *platform.Session) {
			s.Method, s.Switch, s.Outputs = platform.MethodMirror, "br0", []platform.Output{{Name: "ids", URL: "iface:" + back}}
		}, platform.ReasonLoop, "what is sent to "+back+" comes into bridge br0 again")
	}
}

// A session that is refused keeps what it has; policies that are not known, too; all else of the owner goes.
func TestKeep(t *testing.T) {
	p, now := paper()
	mark := func(policy string) platform.Mark { return platform.Mark{Owner: "o", Policy: policy, Part: "x"} }
	for i, m := range []platform.Mark{mark("refused"), mark("unknown"), mark("ended"), {Owner: "other", Policy: "ended", Part: "x"}} {
		name := carrierName(m)
		now.Objects["device/"+name] = &platform.Object{Name: name, Kind: kindTap, Mark: m, Raw: map[string]string{rawKind: "bridge", rawAlias: carrierAlias(m)}}
		id := string(rune('a' + i))
		now.Objects["filter/"+id] = &platform.Object{Name: id, Kind: kindFilter, Mark: m, Raw: map[string]string{
			rawPort: "vnet1", rawIndex: "11", rawDir: "ingress", rawHandle: "7", rawCode: "1,6 0 0 0", rawTo: "tool", rawCookie: cookieOf(m, false).String(), rawTail: "continue",
		}}
	}
	s := base(remote(platform.EncapVXLAN, "10.0.0.9", 7))
	s.Mark, s.Slice = mark("refused"), 64
	steps, refused := p.Steps(now, platform.Want{Owner: "o", Sessions: []platform.Session{s}, Keep: map[string]bool{"unknown": true}})
	if len(refused) != 1 {
		t.Error(refused)
	}
	var got []string
	for _, s := range steps {
		got = append(got, string(s.Action)+" "+s.Policy+" "+s.Object)
	}
	want := []string{"remove ended tc filter of vnet1", "remove ended tap " + carrierName(mark("ended"))}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestCookie(t *testing.T) {
	m := platform.Mark{Owner: "o", Policy: "web"}
	for _, qdisc := range []bool{true, false} {
		c, ours := parseCookie(cookieOf(m, qdisc).String())
		if !ours || c != cookieOf(m, qdisc) {
			t.Errorf("%+v, %v", c, ours)
		}
	}
	for _, s := range []string{"", "00", "63746170", strings.Repeat("00", 16), "x"} {
		if _, ours := parseCookie(s); ours {
			t.Errorf("%q is taken for ours", s)
		}
	}
	if carrierName(m) == carrierName(platform.Mark{Owner: "o", Policy: "web2"}) || len(carrierName(m)) > maxName {
		t.Error(carrierName(m))
	}
}

// The kernel and the text agree on a program: what is printed is read again as the same bytes.
func TestCode(t *testing.T) {
	c := choice{filter: "tcp port 80", except: []flow.MAC{1, 2}, guard: []string{"dst host 10.0.0.9 and udp dst port 4789"}, noBcast: true, vlans: []uint16{5, 6}, sample: 10}
	code, residual, err := c.program()
	if err != nil || residual != "" {
		t.Fatal(residual, err)
	}
	b, err := parseCode(code)
	if err != nil || codeText(b) != code {
		t.Errorf("%v\n%s\n%s", err, code, codeText(b))
	}
	for _, bad := range []string{"", "0", "1", "2,6 0 0 0", "1,6 0 0", "1,6 0 0 x", "5000,6 0 0 0"} {
		if _, err := parseCode(bad); err == nil {
			t.Errorf("%q is taken for a program", bad)
		}
	}
}
