package control

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/control/platform"
	"crosstap/internal/control/policy"
	"crosstap/internal/flow"
	"crosstap/internal/identity"
)

func identityAddr(last byte) flow.Addr {
	return flow.Addr{10: 0xff, 11: 0xff, 12: 10, 15: last}
}

// told is a platform with one machine on a host.
func told(name, host, vm, uuid, port string, segment flow.Segment, addrs ...flow.Addr) *platform.Snapshot {
	s := platform.NewSnapshot(name)
	s.Hosts["h"] = &platform.Host{ID: "h", Name: host, VTEPs: []flow.Addr{identityAddr(200)}}
	s.VMs[uuid] = &platform.VM{ID: uuid, Name: vm, Host: "h"}
	s.Ports["p"] = &platform.Port{ID: "p", Name: port, Kind: platform.PortVM, Host: "h", VM: uuid, MAC: 1, Segment: segment, Addrs: addrs}
	s.Ports["up"] = &platform.Port{ID: "up", Name: "eth0", Kind: platform.PortUplink, Host: "h", MAC: 9}
	return s
}

func TestIdentities(t *testing.T) {
	vxlan := flow.NewSegment(flow.KindVXLAN, 5001)
	set, err := policy.Parse("test", []byte("apiVersion: crosstap/v1\nkind: Tenant\nmetadata: {name: blue}\nspec: {segments: [\"vxlan:5001\"]}\n"))
	if err != nil {
		t.Fatal(err)
	}
	// Open vSwitch knows segment and port, libvirt the name and the address.
	ovs, virt := told("a-ovs", "h1", "web", "u1", "vnet1", vxlan), told("b-libvirt", "h1", "web", "u1", "vnet1", 0, identityAddr(1))
	got := Identities([]*platform.Snapshot{ovs, virt}, set)
	want := identity.Inventory{
		VNICs:   []identity.VNIC{{VM: "web", VMID: "u1", MAC: 1, Addrs: []flow.Addr{identityAddr(1)}, Host: "h1", Port: "vnet1", Segment: vxlan, Tenant: "blue"}},
		Hosts:   []identity.Host{{Name: "h1", VTEPs: []flow.Addr{identityAddr(200)}}, {Name: "h1", VTEPs: []flow.Addr{identityAddr(200)}}},
		Tenants: []identity.Tenant{{Name: "blue", Segments: []flow.Segment{vxlan}}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// A machine that moves and one that goes are explained as of their time.
func TestIdentityHistory(t *testing.T) {
	var w identityWatch
	look := func(now int64, list ...*platform.Snapshot) (identity.Book, bool) {
		inv, changed := w.look(list, &policy.Set{}, now)
		return identity.NewBook(inv), changed
	}
	host := func(b identity.Book, at int64) string {
		if v := b.ByMAC(1, at); v != nil {
			return v.VM + " on " + v.Host
		}
		return ""
	}
	if _, changed := look(10); changed {
		t.Error("something is told before any platform has spoken")
	}
	if _, changed := look(100, told("x", "h1", "web", "u1", "vnet1", 0)); !changed {
		t.Error("the first inventory is not told")
	}
	if _, changed := look(150, told("x", "h1", "web", "u1", "vnet1", 0)); changed {
		t.Error("the same is told twice")
	}
	b, _ := look(200, told("x", "h2", "web", "u1", "vnet4", 0))
	if a, c := host(b, 199), host(b, 200); a != "web on h1" || c != "web on h2" {
		t.Errorf("%q, then %q", a, c)
	}
	b, _ = look(300, platform.NewSnapshot("x"))
	if a, c := host(b, 299), host(b, 301); a != "web on h2" || c != "" {
		t.Errorf("%q, then %q", a, c)
	}
}
