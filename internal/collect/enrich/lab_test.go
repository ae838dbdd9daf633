package enrich

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"crosstap/internal/collect/internal/exports"
	"crosstap/internal/collect/session"
	"crosstap/internal/flow"
	"crosstap/internal/flowproto/ipfix"
	"crosstap/internal/identity"
	"crosstap/internal/testkit"
)

func addr(s string) flow.Addr { return flow.FromNetip(netip.MustParseAddr(s)) }

func vxlan(n uint32) flow.Segment { return flow.NewSegment(flow.KindVXLAN, n) }

// labInventory is what the VXLAN bridge of the Open vSwitch lab looks like.
func labInventory() identity.Inventory {
	return identity.Inventory{
		VNICs: []identity.VNIC{
			{VM: "vm11", MAC: 0x7a024a32f416, Addrs: []flow.Addr{addr("172.16.1.1")}, Host: "h1", Port: "v11", Segment: vxlan(5001)},
			{VM: "vm21", MAC: 0x4ec3a33ec9ff, Addrs: []flow.Addr{addr("172.16.1.2")}, Host: "h2", Port: "v21", Segment: vxlan(5001)},
		},
		Hosts: []identity.Host{
			{Name: "h1", VTEPs: []flow.Addr{addr("10.9.0.1")}}, {Name: "h2", VTEPs: []flow.Addr{addr("10.9.0.2")}},
		},
		Observers: []identity.Observer{
			{Name: "h1 br-vxlan", Role: flow.RolePort, Host: "h1", Exporter: addr("10.99.1.254"), Domain: 101},
			{Name: "h2 br-vxlan", Role: flow.RolePort, Host: "h2", Exporter: addr("10.99.2.254"), Domain: 201},
		},
		Tenants: []identity.Tenant{{Name: "blue", Segments: []flow.Segment{vxlan(5001)}}},
	}
}

// labRecords decodes both exporters of the lab, in the order of receipt that cmp gives.
func labRecords(t *testing.T, order func(a, b exports.Datagram) int) [][]flow.Record {
	t.Helper()
	tab, err := session.New(session.DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	ds := exports.Read(t, testkit.Corpus(t, "collect/ovs-lab/h1.pcap"), ipfix.Port)
	ds = append(ds, exports.Read(t, testkit.Corpus(t, "collect/ovs-lab/h2.pcap"), ipfix.Port)...)
	slices.SortStableFunc(ds, order)
	var out [][]flow.Record
	for _, d := range ds {
		if recs := tab.Decode(session.Key{Exporter: d.From, Local: d.To}, d.TimeNS, d.Data, nil); len(recs) > 0 {
			out = append(out, recs)
		}
	}
	return out
}

type sum struct{ packets, octets uint64 }

// TestLabCountsOnce is the promise of the product: Open vSwitch reports each packet of the TCP pair three times; it
// counts once, whoever reports first, and all three observers are there. The figures are those of the
// packets on the wire.
func TestLabCountsOnce(t *testing.T) {
	f := func(name string, inv identity.Inventory, order func(a, b exports.Datagram) int, batch int) {
		t.Helper()
		e := enricher(t, nil)
		e.SetInventory(identity.NewBook(inv))
		canonical, all := map[string]sum{}, map[string]sum{}
		seenBy := map[string]map[string]bool{}
		flows := map[string]map[uint64]bool{}
		var pending []flow.Record
		run := func() {
			e.Records(pending)
			for i := range pending {
				r := &pending[i]
				if r.Proto != 6 || !strings.HasPrefix(r.Src.String(), "172.16.1.") {
					continue
				}
				way := r.Src.String() + " to " + r.Dst.String()
				add(all, way, r)
				if r.Is(flow.MarkCanonical) {
					add(canonical, way, r)
				}
				if seenBy[way] == nil {
					seenBy[way], flows[way] = map[string]bool{}, map[uint64]bool{}
				}
				seenBy[way][fmt.Sprintf("%s/%s/%d", r.Observer, r.Role, r.Direction)] = true
				flows[way][r.FlowID] = true
				if r.Segment != vxlan(5001) && len(inv.VNICs) > 0 {
					t.Errorf("%s: segment %x", name, uint64(r.Segment))
				}
				if len(inv.VNICs) > 0 && (r.SrcVM == "" || r.DstHost == "" || r.Tenant != "blue" || r.SrcHost == r.DstHost) {
					t.Errorf("%s: not identified: %+v", name, *r)
				}
				if want := flow.ClientSrc; r.Src.String() == "172.16.1.1" && r.Client != want {
					t.Errorf("%s: client of %d to %d is %d", name, r.SrcPort, r.DstPort, r.Client)
				}
			}
			pending = nil
		}
		for _, recs := range labRecords(t, order) {
			if pending = append(pending, recs...); len(pending) >= batch {
				run()
			}
		}
		run()
		fwd, back := "172.16.1.1 to 172.16.1.2", "172.16.1.2 to 172.16.1.1"
		if d := gocmp.Diff(map[string]sum{fwd: {214, 11260}, back: {217, 251380}}, canonical, gocmp.AllowUnexported(sum{})); d != "" {
			t.Errorf("%s: %s", name, d)
		}
		if d := gocmp.Diff(map[string]sum{fwd: {3 * 214, 3 * 11260}, back: {3 * 217, 3 * 251380}}, all, gocmp.AllowUnexported(sum{})); d != "" {
			t.Errorf("%s: %s", name, d)
		}
		if len(seenBy[fwd]) != 3 || len(seenBy[back]) != 3 {
			t.Errorf("%s: observers %v", name, seenBy)
		}
		if len(inv.Observers) > 0 {
			want := map[string]map[string]bool{
				fwd:  {"h1 br-vxlan/port/0": true, "h2 br-vxlan tunnel/tunnel/0": true, "h2 br-vxlan/port/1": true},
				back: {"h2 br-vxlan/port/0": true, "h1 br-vxlan tunnel/tunnel/0": true, "h1 br-vxlan/port/1": true},
			}
			if d := gocmp.Diff(want, seenBy); d != "" {
				t.Errorf("%s: %s", name, d)
			}
		}
		if len(flows[fwd]) != 12 || len(flows[back]) != 12 {
			t.Errorf("%s: %d and %d flows, want 12 TCP connections each way", name, len(flows[fwd]), len(flows[back]))
		}
		if err := e.Book().Balance(); err != nil {
			t.Error(err)
		}
	}
	byTime := func(a, b exports.Datagram) int { return cmp.Compare(a.TimeNS, b.TimeNS) }
	h1First := func(a, b exports.Datagram) int { return a.From.Addr().Compare(b.From.Addr()) }
	h2First := func(a, b exports.Datagram) int { return b.From.Addr().Compare(a.From.Addr()) }
	f("by time", labInventory(), byTime, 1)
	f("by time, in batches", labInventory(), byTime, 100)
	f("all at once", labInventory(), byTime, 1<<20)
	f("h1 first", labInventory(), h1First, 1)
	f("h2 first", labInventory(), h2First, 1)
	f("without inventory", identity.Inventory{}, byTime, 1)
	f("without inventory, h2 first", identity.Inventory{}, h2First, 7)
}

func add(m map[string]sum, k string, r *flow.Record) {
	s := m[k]
	s.packets += r.Packets
	s.octets += r.Octets
	m[k] = s
}
