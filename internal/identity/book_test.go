package identity

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"crosstap/internal/flow"
	"crosstap/internal/testkit"
)

func addr(s string) flow.Addr { return flow.FromNetip(netip.MustParseAddr(s)) }

func vxlan(n uint32) flow.Segment { return flow.NewSegment(flow.KindVXLAN, n) }

func TestByMAC(t *testing.T) {
	b := NewBook(Inventory{VNICs: []VNIC{
		{Span: Span{ToNS: 100}, VM: "web", MAC: 1, Host: "h1"},
		{Span: Span{FromNS: 90}, VM: "web", MAC: 1, Host: "h2"}, // moved; the two inventories overlap
		{Span: Span{FromNS: 50, ToNS: 60}, VM: "clone-a", MAC: 2},
		{Span: Span{FromNS: 55}, VM: "clone-b", MAC: 2},
		{VM: "no mac"},
	}})
	f := func(m flow.MAC, at int64, vm, host string) {
		t.Helper()
		v := b.ByMAC(m, at)
		if v == nil {
			v = &VNIC{}
		}
		if v.VM != vm || v.Host != host {
			t.Errorf("ByMAC(%d, %d) = %q on %q, want %q on %q", m, at, v.VM, v.Host, vm, host)
		}
	}
	f(1, 0, "web", "h1")
	f(1, 89, "web", "h1")
	f(1, 90, "web", "h2") // the later begun
	f(1, 100, "web", "h2")
	f(2, 49, "", "")
	f(2, 54, "clone-a", "")
	f(2, 55, "", "") // two machines
	f(2, 60, "clone-b", "")
	f(3, 0, "", "")
	f(0, 0, "", "")
}

func TestByAddr(t *testing.T) {
	a, c := addr("10.0.0.1"), addr("10.0.0.9")
	b := NewBook(Inventory{VNICs: []VNIC{
		{VM: "blue", MAC: 1, Segment: vxlan(5001), Addrs: []flow.Addr{a}},
		{VM: "red", MAC: 2, Segment: vxlan(5002), Addrs: []flow.Addr{a}},
		{VM: "vip-1", MAC: 3, Segment: vxlan(5001), Addrs: []flow.Addr{c}},
		{VM: "vip-2", MAC: 4, Segment: vxlan(5001), Addrs: []flow.Addr{c}},
		{VM: "loose", MAC: 5, Addrs: []flow.Addr{c, addr("fd00::1")}},
		{Span: Span{FromNS: 10}, VM: "blue", MAC: 1, Segment: vxlan(5003), Addrs: []flow.Addr{addr("10.0.0.7")}},
	}})
	f := func(s flow.Segment, a flow.Addr, at int64, vm string, ambiguous bool) {
		t.Helper()
		v, amb := b.ByAddr(s, a, at)
		if v == nil {
			v = &VNIC{}
		}
		if v.VM != vm || amb != ambiguous {
			t.Errorf("ByAddr(%x, %v, %d) = %q, %v, want %q, %v", uint64(s), a, at, v.VM, amb, vm, ambiguous)
		}
	}
	f(vxlan(5001), a, 0, "blue", false)
	f(vxlan(5002), a, 0, "red", false)
	f(vxlan(5003), a, 0, "", false)
	f(0, a, 0, "", true)                 // overlapping tenants
	f(vxlan(5001), c, 0, "", true)       // one address, two machines
	f(vxlan(5002), c, 0, "loose", false) // an adapter whose segment is not known may be in any
	f(vxlan(5001), addr("fd00::1"), 0, "loose", false)
	f(0, addr("fd00::1"), 0, "loose", false)
	f(0, addr("10.0.0.7"), 9, "", false)
	f(0, addr("10.0.0.7"), 10, "blue", false)
}

func TestObserverTenantHost(t *testing.T) {
	e := addr("10.201.0.1")
	b := NewBook(Inventory{
		Observers: []Observer{
			{Name: "any", Domain: 1}, {Name: "point", Domain: 1, Point: 7}, {Name: "exporter", Exporter: e, Domain: 1},
			{Name: "exporter point", Exporter: e, Domain: 1, Point: 8},
			{Span: Span{FromNS: 10, ToNS: 20}, Name: "later", Exporter: e, Domain: 1},
		},
		Tenants: []Tenant{
			{Name: "blue", Segments: []flow.Segment{vxlan(1), vxlan(2)}},
			{Name: "green", Segments: []flow.Segment{vxlan(1)}, Fabric: "lab"},
			{Span: Span{FromNS: 10}, Name: "red", Segments: []flow.Segment{vxlan(2)}},
		},
		Hosts: []Host{
			{Name: "h1", VTEPs: []flow.Addr{e}}, {Span: Span{ToNS: 10}, Name: "h2", VTEPs: []flow.Addr{addr("fd00::2")}},
			{Span: Span{FromNS: 10}, Name: "h3", VTEPs: []flow.Addr{addr("fd00::2")}},
			{Span: Span{FromNS: 30}, Name: "h4", VTEPs: []flow.Addr{addr("fd00::2")}},
		},
	})
	observer := func(exporter flow.Addr, domain uint32, point uint64, at int64, want string) {
		t.Helper()
		got := ""
		if o := b.ObserverOf(exporter, domain, point, at); o != nil {
			got = o.Name
		}
		if got != want {
			t.Errorf("ObserverOf(%v, %d, %d, %d) = %q, want %q", exporter, domain, point, at, got, want)
		}
	}
	observer(addr("10.201.0.2"), 1, 0, 0, "any")
	observer(addr("10.201.0.2"), 1, 7, 0, "point")
	observer(e, 1, 7, 0, "exporter") // the address counts for more than the point
	observer(e, 1, 8, 0, "exporter point")
	observer(e, 1, 9, 10, "later")
	observer(e, 1, 9, 20, "exporter")
	observer(e, 2, 7, 0, "")

	tenant := func(fabric string, s flow.Segment, at int64, want string) {
		t.Helper()
		got := ""
		if o := b.TenantOf(fabric, s, at); o != nil {
			got = o.Name
		}
		if got != want {
			t.Errorf("TenantOf(%q, %x, %d) = %q, want %q", fabric, uint64(s), at, got, want)
		}
	}
	tenant("", vxlan(1), 0, "blue")
	tenant("default", vxlan(1), 0, "blue")
	tenant("lab", vxlan(1), 0, "green")
	tenant("lab", vxlan(2), 0, "")
	tenant("", vxlan(2), 9, "blue")
	tenant("", vxlan(2), 10, "red")

	host := func(a flow.Addr, at int64, want string) {
		t.Helper()
		got := ""
		if o := b.HostByVTEP(a, at); o != nil {
			got = o.Name
		}
		if got != want {
			t.Errorf("HostByVTEP(%v, %d) = %q, want %q", a, at, got, want)
		}
	}
	host(e, 0, "h1")
	host(addr("fd00::2"), 9, "h2")
	host(addr("fd00::2"), 10, "h3")
	host(addr("fd00::2"), 30, "") // two hosts
	host(addr("fd00::9"), 0, "")
}

// slow answers by walking everything.
type slow struct{ inv Inventory }

func (s slow) byAddr(seg flow.Segment, a flow.Addr, at int64) (*VNIC, bool) {
	look := func(match func(*VNIC) bool) (*VNIC, bool) {
		var found []*VNIC
		for i := range s.inv.VNICs {
			v := &s.inv.VNICs[i]
			for _, have := range v.Addrs {
				if have == a && v.Contains(at) && match(v) {
					found = append(found, v)
				}
			}
		}
		return single(found)
	}
	if seg == 0 {
		return look(func(*VNIC) bool { return true })
	}
	if v, amb := look(func(v *VNIC) bool { return v.Segment == seg }); v != nil || amb {
		return v, amb
	}
	return look(func(v *VNIC) bool { return v.Segment == 0 })
}

func (s slow) byMAC(m flow.MAC, at int64) *VNIC {
	var found []*VNIC
	for i := range s.inv.VNICs {
		if v := &s.inv.VNICs[i]; v.MAC == m && v.Contains(at) {
			found = append(found, v)
		}
	}
	v, _ := single(found)
	return v
}

// single is the one machine among the records, at its latest begin.
func single(found []*VNIC) (*VNIC, bool) {
	var best *VNIC
	for _, v := range found {
		if best != nil && (v.VM != best.VM || v.MAC != best.MAC) {
			return nil, true
		}
		if best == nil || v.FromNS > best.FromNS {
			best = v
		}
	}
	return best, false
}

func TestBookAgreesWithSlow(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var inv Inventory
		for range r.IntN(40) {
			v := VNIC{VM: fmt.Sprint("vm", r.IntN(4)), MAC: flow.MAC(1 + r.IntN(3)), Segment: flow.Segment(r.IntN(3))}
			v.FromNS = int64(r.IntN(1000)) // no two begin together
			if r.IntN(2) == 0 {
				v.ToNS = v.FromNS + int64(r.IntN(500)) + 1
			}
			for i := range r.IntN(3) {
				v.Addrs = append(v.Addrs, addr(fmt.Sprintf("10.0.%d.%d", i, r.IntN(3))))
			}
			inv.VNICs = append(inv.VNICs, v)
		}
		fast, obvious := NewBook(inv.clone()), slow{inv}
		for range 100 {
			at, m, seg := int64(r.IntN(1200)), flow.MAC(1+r.IntN(3)), flow.Segment(r.IntN(4))
			a := addr(fmt.Sprintf("10.0.%d.%d", r.IntN(3), r.IntN(3)))
			if got, want := fast.ByMAC(m, at), obvious.byMAC(m, at); !equal(got, want) {
				t.Fatalf("ByMAC(%v, %d) = %+v, want %+v\n%+v", m, at, got, want, inv.VNICs)
			}
			got, amb := fast.ByAddr(seg, a, at)
			want, wantAmb := obvious.byAddr(seg, a, at)
			if !equal(got, want) || amb != wantAmb {
				t.Fatalf("ByAddr(%d, %v, %d) = %+v, %v, want %+v, %v\n%+v", seg, a, at, got, amb, want, wantAmb, inv.VNICs)
			}
		}
	}
}

func equal(a, b *VNIC) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.VM == b.VM && a.MAC == b.MAC && a.Span.FromNS == b.Span.FromNS
}

// many is an inventory of n machines with two addresses each, in overlapping tenants.
func many(n int) Inventory {
	inv := Inventory{VNICs: make([]VNIC, n)}
	for i := range inv.VNICs {
		var v4, v6 [16]byte
		v4[10], v4[11], v4[12], v4[13], v4[14], v4[15] = 0xff, 0xff, 10, byte(i/2>>16), byte(i/2>>8), byte(i/2)
		v6[0], v6[12], v6[13], v6[14], v6[15] = 0xfd, byte(i>>24), byte(i>>16), byte(i>>8), byte(i)
		inv.VNICs[i] = VNIC{
			VM: fmt.Sprint("vm-", i), MAC: flow.MAC(0x020000000000 + i), Segment: vxlan(uint32(5001 + i%2)),
			Addrs: []flow.Addr{v4, v6}, Host: fmt.Sprint("h", i%1000),
		}
	}
	for i := range 1000 {
		inv.Hosts = append(inv.Hosts, Host{Name: fmt.Sprint("h", i), VTEPs: []flow.Addr{addr(fmt.Sprintf("10.200.%d.%d", i/250, i%250+1))}})
	}
	return inv
}

func TestLookupsDoNotAllocate(t *testing.T) {
	inv := many(1000)
	inv.Observers = []Observer{{Name: "x", Domain: 1}}
	inv.Tenants = []Tenant{{Name: "blue", Segments: []flow.Segment{vxlan(5001)}}}
	b := NewBook(inv)
	v := inv.VNICs[500]
	allocs := testkit.Allocs(100, func() {
		if b.ByMAC(v.MAC, 1) == nil || b.ObserverOf(v.Addrs[0], 1, 9, 1) == nil || b.TenantOf("", vxlan(5001), 1) == nil ||
			b.HostByVTEP(inv.Hosts[3].VTEPs[0], 1) == nil {
			t.Error("not found")
		}
		if got, _ := b.ByAddr(v.Segment, v.Addrs[0], 1); got == nil {
			t.Error("not found")
		}
		if _, amb := b.ByAddr(0, v.Addrs[0], 1); !amb {
			t.Error("not ambiguous")
		}
	})
	if allocs != 0 {
		t.Errorf("look-ups allocate %v times", allocs)
	}
}

func BenchmarkNewBook100k(b *testing.B) {
	inv := many(100_000)
	for b.Loop() {
		NewBook(inv)
	}
}

func BenchmarkLookup100k(b *testing.B) {
	inv := many(100_000)
	book := NewBook(inv)
	i := 0
	for b.Loop() {
		v := &inv.VNICs[i%len(inv.VNICs)]
		book.ByMAC(v.MAC, 1)
		book.ByAddr(v.Segment, v.Addrs[0], 1)
		i += 7919
	}
}
