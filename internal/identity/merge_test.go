package identity

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"crosstap/internal/flow"
)

func TestMerge(t *testing.T) {
	a, b := addr("10.0.0.1"), addr("10.0.0.2")
	file := Inventory{
		VNICs:   []VNIC{{VM: "shop", MAC: 1, Addrs: []flow.Addr{a}, Tenant: "blue"}, {Span: Span{ToNS: 50}, VM: "old", MAC: 2}},
		Hosts:   []Host{{Name: "h1", VTEPs: []flow.Addr{a}}},
		Tenants: []Tenant{{Name: "blue", Segments: []flow.Segment{vxlan(1)}}},
	}
	told := Inventory{
		VNICs: []VNIC{
			{VM: "web", VMID: "u1", MAC: 1, Addrs: []flow.Addr{b, a}, Host: "h1", Port: "vnet1", Segment: vxlan(1)},
			{Span: Span{FromNS: 60}, VM: "new", VMID: "u2", MAC: 2, Host: "h1"}, // the address was given to another
			{VM: "moving", VMID: "u3", MAC: 3, Host: "h1"},
			{VM: "no mac", Addrs: []flow.Addr{b}},
		},
		Hosts:   []Host{{Name: "h1", VTEPs: []flow.Addr{a}}, {Name: "h9", VTEPs: []flow.Addr{a, b}}},
		Tenants: []Tenant{{Name: "green", Segments: []flow.Segment{vxlan(1), vxlan(2)}}, {Name: "red", Segments: []flow.Segment{vxlan(1)}}},
	}
	other := Inventory{VNICs: []VNIC{{VM: "moving", VMID: "u3", MAC: 3, Host: "h2"}, {VM: "no mac", Addrs: []flow.Addr{b}}}}
	want := Inventory{
		VNICs: []VNIC{
			{VM: "shop", VMID: "u1", MAC: 1, Addrs: []flow.Addr{a, b}, Host: "h1", Port: "vnet1", Segment: vxlan(1), Tenant: "blue"},
			{Span: Span{ToNS: 50}, VM: "old", MAC: 2},
			{Span: Span{FromNS: 60}, VM: "new", VMID: "u2", MAC: 2, Host: "h1"},
			{VM: "moving", VMID: "u3", MAC: 3, Host: "h1"},
			{VM: "no mac", Addrs: []flow.Addr{b}},
			{VM: "moving", VMID: "u3", MAC: 3, Host: "h2"}, // it is at two places for a moment
			{VM: "no mac", Addrs: []flow.Addr{b}},
		},
		Hosts:   []Host{{Name: "h1", VTEPs: []flow.Addr{a}}, {Name: "h1", VTEPs: []flow.Addr{a}}, {Name: "h9", VTEPs: []flow.Addr{b}}},
		Tenants: []Tenant{{Name: "blue", Segments: []flow.Segment{vxlan(1)}, Fabric: DefaultFabric}, {Name: "green", Segments: []flow.Segment{vxlan(2)}, Fabric: DefaultFabric}},
	}
	if diff := cmp.Diff(want, Merge(file, told, other)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]flow.Addr{a}, file.VNICs[0].Addrs); diff != "" {
		t.Error("an argument was changed:", diff)
	}
	book := NewBook(Merge(file, told, other))
	if v := book.ByMAC(1, 0); v == nil || v.VM != "shop" || v.Host != "h1" {
		t.Errorf("%+v", v)
	}
	if h := book.HostByVTEP(a, 0); h == nil || h.Name != "h1" {
		t.Errorf("%+v", h)
	}
}

// A machine of the file whose place only a platform knows: the places follow each other, and afterwards the file's word is all there is.
func TestMergeInTime(t *testing.T) {
	file := Inventory{VNICs: []VNIC{{VM: "shop", MAC: 1}}}
	told := Inventory{VNICs: []VNIC{
		{Span: Span{FromNS: 10, ToNS: 20}, VM: "web", VMID: "u1", MAC: 1, Host: "h1"},
		{Span: Span{FromNS: 20, ToNS: 30}, VM: "web", VMID: "u1", MAC: 1, Host: "h2"},
	}}
	b := NewBook(Merge(file, told))
	f := func(at int64, host, id string) {
		t.Helper()
		v := b.ByMAC(1, at)
		if v == nil || v.VM != "shop" || v.Host != host || v.VMID != id {
			t.Errorf("at %d: %+v, want host %q, id %q", at, v, host, id)
		}
	}
	f(9, "", "")
	f(10, "h1", "u1")
	f(19, "h1", "u1")
	f(20, "h2", "u1")
	f(29, "h2", "u1")
	f(30, "", "")
}
