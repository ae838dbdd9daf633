package settings

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"crosstap/internal/collect/listen"
	"crosstap/internal/collect/session"
)

func TestListeners(t *testing.T) {
	s := Default()
	s.Flows, s.FlowsAllow, s.FlowsSockets, s.FlowsBuffer = []string{"0.0.0.0:2055", "tcp://[::]:4739"}, []string{"10.0.0.0/8", "192.0.2.1"}, 3, 1<<20
	got, err := s.Listeners()
	if err != nil {
		t.Fatal(err)
	}
	allow := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.0.2.1/32")}
	if len(got) != 2 || got[0].Transport != listen.UDP || got[0].Addr != "0.0.0.0:2055" || got[0].Sockets != 3 || got[0].ReceiveBuffer != 1<<20 ||
		got[1].Transport != listen.TCP || got[1].Addr != "[::]:4739" || !cmp.Equal(got[1].Allow, allow, cmpopts.EquateComparable(netip.Prefix{})) {
		t.Errorf("%+v", got)
	}
}

func TestExporters(t *testing.T) {
	rules, err := parseExporters([]byte(`
exporters:
  - address: 10.1.0.0/16
    assume-sampling: 4096
  - address: [192.0.2.7, 2001:db8::/32]
    domain: 3
    sampling: 64
    already-scaled: true
    port-ids: true
    switches:
      3: {name: vSwitch1, ports: {1: web-1, 2: web-2}}
    interfaces: {7: uplink}
`))
	if err != nil {
		t.Fatal(err)
	}
	three := uint32(3)
	want := []session.Rule{
		{Exporters: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}, Assume: 4096, Switches: map[uint32]session.Switch{}},
		{
			Exporters: []netip.Prefix{netip.MustParsePrefix("192.0.2.7/32"), netip.MustParsePrefix("2001:db8::/32")}, Domain: &three, Sampling: 64, Scaled: true,
			PortIDs: true, Switches: map[uint32]session.Switch{3: {Name: "vSwitch1", Ports: map[uint32]string{1: "web-1", 2: "web-2"}}}, Interfaces: map[uint32]string{7: "uplink"},
		},
	}
	if d := cmp.Diff(want, rules, cmpopts.EquateComparable(netip.Prefix{})); d != "" {
		t.Error(d)
	}
	f := func(text, why string) {
		t.Helper()
		if _, err := parseExporters([]byte(text)); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%q: %v, want %q", text, err, why)
		}
	}
	f("exporters: [{sampling: 4}]", "address: expected")
	f("exporters: [{address: 10.0.0}]", "address: \"10.0.0\"")
	f("exporters: [{address: 10.0.0.1, samplign: 4}]", "samplign")
	f("exporters: [{address: 10.0.0.1, sampling: 4, assume-sampling: 5}]", "give one of them")
	f("exporters: [{address: 10.0.0.1, already-scaled: true}]", "already multiplied")
	f("exporters: [{address: 10.0.0.1, switches: {300: {name: x}}}]", "engine id 300")
	f("- a", "")
	if rules, err := parseExporters(nil); err != nil || rules != nil {
		t.Errorf("empty file: %v, %v", rules, err)
	}
}

func FuzzExporters(f *testing.F) {
	f.Add([]byte("exporters: [{address: 10.0.0.1, switches: {3: {name: x}}}]"))
	f.Add([]byte("exporters: &x [*x]"))
	f.Fuzz(func(_ *testing.T, b []byte) { _, _ = parseExporters(b) })
}
