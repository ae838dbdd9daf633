package serve

import (
	"fmt"
	"testing"
	"time"

	"crosstap/internal/agentapi"
	"crosstap/internal/control/platform"
	"crosstap/internal/flow"
	"crosstap/internal/identity"
	"crosstap/internal/serve/agent"
	"crosstap/internal/serve/api"
	"crosstap/internal/tapspec"

	"github.com/google/go-cmp/cmp"
)

var (
	blue = flow.NewSegment(flow.KindVXLAN, 5001)
	nine = time.Date(2026, 1, 2, 9, 0, 0, 0, time.UTC)
)

// testInventory has a machine that moved at nine, and one that no platform knows.
func testInventory() *identity.Inventory {
	return &identity.Inventory{
		VNICs: []identity.VNIC{
			{Span: identity.Span{ToNS: nine.UnixNano()}, VM: "web-1", VMID: "id-1", MAC: 0x020000000001, Host: "h1", Port: "vnet1", Segment: blue},
			{Span: identity.Span{FromNS: nine.UnixNano()}, VM: "web-1", VMID: "id-1", MAC: 0x020000000001, Host: "h2", Port: "vnet7", Segment: blue},
			{VM: "db-1", MAC: 0x020000000002, Host: "h1", Port: "vnet2", Segment: blue},
		},
		Hosts:     []identity.Host{{Name: "h1"}, {Name: "h2"}},
		Observers: []identity.Observer{{Name: "h2 mirror", Role: flow.RoleMirror, Host: "h2"}},
		Tenants:   []identity.Tenant{{Name: "blue", Segments: []flow.Segment{blue}}},
	}
}

func lines(doc api.Topology) []string {
	out := []string{}
	for _, r := range doc.Rows {
		out = append(out, fmt.Sprintf("%s/%s %s %s %s %s %v", r.Platform, r.Host, r.Switch, r.Port, r.VM, r.Tenant, r.Taps))
	}
	return out
}

func TestTopologyOfThePast(t *testing.T) {
	f := func(at time.Time, want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, lines(newTopology(testInventory(), nil, nil, at))); diff != "" {
			t.Errorf("at %v: %s", at, diff)
		}
	}
	f(nine, "/h1  vnet1 web-1 blue []", "/h1  vnet2 db-1 blue []")
	f(nine.Add(time.Nanosecond), "/h1  vnet2 db-1 blue []", "/h2  vnet7 web-1 blue []")
}

func TestTopologyOfPlatforms(t *testing.T) {
	s := platform.NewSnapshot("kvm")
	s.Hosts["H2"] = &platform.Host{ID: "H2", Name: "h2", Down: true}
	s.Switches["S"] = &platform.Switch{ID: "S", Name: "br-int", Kind: platform.SwitchOVS}
	s.VMs["M"] = &platform.VM{ID: "M", Name: "web-1"}
	s.Ports["P7"] = &platform.Port{ID: "P7", Name: "vnet7", Kind: platform.PortVM, Host: "H2", Switch: "S", VM: "M", MAC: 0x020000000001, Segment: blue, RxBytes: 4, TxBytes: 3}
	s.Ports["P8"] = &platform.Port{ID: "P8", Name: "eth1", Kind: platform.PortUplink, Host: "H2", Switch: "S", Up: true}
	s.Objects["A"] = &platform.Object{ID: "A", Name: "ids-span", Sources: []platform.Source{{Port: "P7", Dir: platform.Both}}}
	s.Objects["B"] = &platform.Object{ID: "B", Name: "crosstap-x", Mark: platform.Mark{Owner: "crosstap", Policy: "blue-db"}, Sources: []platform.Source{{Port: "P7", Dir: platform.Ingress}}}
	agents := []agent.Agent{
		{Name: "h2", Given: []tapspec.Spec{{Name: "uplink", Source: tapspec.Source{Interfaces: []string{"eth1"}}}}},
		{Name: "inside", Interfaces: []agentapi.Interface{{Name: "ens3", MAC: "02:00:00:00:00:02"}}, Given: []tapspec.Spec{{Name: "in-vm", Source: tapspec.Source{Interfaces: []string{"ens3"}}}}},
	}
	doc := newTopology(testInventory(), []*platform.Snapshot{s}, agents, nine.Add(time.Hour))
	want := []string{"/h1  vnet2 db-1 blue [in-vm]", "kvm/h2 br-int eth1   [uplink]", "kvm/h2 br-int vnet7 web-1 blue [(ids-span) blue-db]"}
	if diff := cmp.Diff(want, lines(doc)); diff != "" {
		t.Error(diff)
	}
	if got := doc.Rows[2]; *got.Octets != 7 || *got.Up || got.SwitchKind != "ovs" {
		t.Errorf("port: %+v", got)
	}
	hosts := []api.TopologyHost{
		{Name: "h1", VTEPs: []string{}, Observers: []api.TopologyObserver{}},
		{Name: "h2", Platform: "kvm", VTEPs: []string{}, Down: true, Observers: []api.TopologyObserver{{Name: "h2 mirror", Role: "mirror"}}},
	}
	if diff := cmp.Diff(hosts, doc.Hosts); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"kvm", "inventory"}, doc.Sources); diff != "" {
		t.Error(diff)
	}
}

// Agents are a platform, too: what another platform has told is drawn once, with the policies that its agent copies for.
func TestTopologyOfAgents(t *testing.T) {
	kvm, agents := platform.NewSnapshot("kvm"), platform.NewSnapshot("agents")
	kvm.Hosts["h1"] = &platform.Host{ID: "h1", Name: "h1"}
	kvm.Switches["br"] = &platform.Switch{ID: "br", Name: "br-int", Kind: platform.SwitchOVS}
	kvm.VMs["web"] = &platform.VM{ID: "web", Name: "web-1"}
	kvm.Ports["1"] = &platform.Port{ID: "1", Name: "vnet1", Kind: platform.PortVM, Host: "h1", Switch: "br", VM: "web", MAC: 0x020000000001}
	for i, name := range []string{"web-1", "cloud-1"} {
		agents.Hosts[name] = &platform.Host{ID: name, Name: name}
		agents.Switches[name] = &platform.Switch{ID: name, Name: "agent", Kind: platform.SwitchAgent, Hosts: []string{name}}
		agents.VMs["agent/"+name] = &platform.VM{ID: "agent/" + name, Name: name, Agent: true}
		agents.Ports[name] = &platform.Port{ID: name, Name: "eth0", Kind: platform.PortVM, Host: name, Switch: name, VM: "agent/" + name, MAC: flow.MAC(0x020000000001 + i)}
	}
	given := []agent.Agent{{
		Name: "web-1", Interfaces: []agentapi.Interface{{Name: "eth0", MAC: "02:00:00:00:00:01"}},
		Given: []tapspec.Spec{{Name: "shop/eth0", Labels: map[string]string{platform.MarkKey: platform.Mark{Owner: "o", Policy: "shop"}.Text()}, Source: tapspec.Source{Interfaces: []string{"eth0"}}}},
	}}
	doc := newTopology(&identity.Inventory{}, []*platform.Snapshot{kvm, agents}, given, nine)
	want := []string{"agents/cloud-1 agent eth0 cloud-1  []", "kvm/h1 br-int vnet1 web-1  [shop]"}
	if diff := cmp.Diff(want, lines(doc)); diff != "" || len(doc.Hosts) != 2 {
		t.Errorf("%s\n%+v", diff, doc.Hosts)
	}
}
